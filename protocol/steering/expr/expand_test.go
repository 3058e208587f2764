package expr

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tables is a scope of plain maps: one parameter level over the header's.
type tables struct {
	local, steering, args, options, system, metadata, environ map[string]Value
	job                                                       int64
}

func (s tables) Find(space Space, name string, busy func(Place) bool) (Variable, bool) {
	levels := []struct {
		path   string
		values map[string]Value
	}{{"steering/", s.steering}}
	switch space {
	case SpaceAny:
		if name == "job" {
			return Variable{Value: Int(s.job), Verbatim: true, Sources: SourceJob}, true
		}
		levels = append(levels, levels[0], struct {
			path   string
			values map[string]Value
		}{"options/", s.options})
		levels[0].path, levels[0].values = "local/", s.local
	case SpaceArgs:
		levels[0].path, levels[0].values = "args/", s.args
	case SpaceOptions:
		levels[0].path, levels[0].values = "options/", s.options
	case SpaceSystem:
		levels[0].path, levels[0].values = "system/", s.system
	case SpaceMetadata:
		levels[0].path, levels[0].values = "metadata/", s.metadata
	case SpaceEnviron:
		v, ok := s.environ[name]
		return Variable{Value: v, Verbatim: true, Sources: SourceNode}, ok
	}
	var last Variable
	found := false
	for _, level := range levels {
		if v, ok := level.values[name]; ok {
			last, found = Variable{Value: v, Place: Place{Path: level.path + name}}, true
			if !busy(last.Place) {
				return last, true
			}
		}
	}
	return last, found
}

func dict(pairs ...Value) *Dict {
	v, err := makeDict(pairs)
	if err != nil {
		panic(err)
	}
	return v.(*Dict)
}

var production = tables{
	job: 17,
	local: map[string]Value{
		"near": "inner", "seed": "$(seed)+1",
	},
	steering: map[string]Value{
		"seed": Int(5), "word": "SpiceLea", "flag": false, "quoted": `"q"`, "list": List{Int(1), Int(2), Int(3), Float(4)},
		"names": List{"foo", "bar"}, "map": dict("foo", "$steering(seed)", "bar", dict("baz", "$steering(list)")), "near": "outer",
		"pick": "$steering(names)[1]", "NS::key": "colons", "model::0": "base", "model::17": "late", "FILTER_x": Int(1), "SIM_x": Int(2),
		"indirect": "$(near)", "text": "[1, 2]", "a": "$steering(b)", "b": "$steering(a)", "loop": "x$(loop)", "sum": "1+2",
		"host": "on $environ(HOST)", "deep": "$(p0)", "number": "57531", "list[0]": "by its full name",
	},
	args:     map[string]Value{"infile": "in.i3"},
	options:  map[string]Value{"mode": "fast", "sub": "$(mode)er"},
	system:   map[string]Value{"test": "FILTER", "test2": "SIM", "gpu": Int(1)},
	metadata: map[string]Value{"category": "x"},
	environ:  map[string]Value{"TMPDIR": "/tmp/$(job)"},
}

func TestExpand(t *testing.T) {
	standing := func(text string) Value { return text }
	tests := []struct {
		in   Value
		want Value
	}{
		// Look-ups, typed where the text is one phrase.
		{"$steering(seed)", Int(5)},
		{"$steering(word)", "SpiceLea"},
		{"$steering(flag)", false},
		{"$steering(quoted)", `"q"`},
		{"$steering(NS::key)", "colons"},
		{"$steering( word )", "SpiceLea"},
		{"$steering(list)", List{Int(1), Int(2), Int(3), Float(4)}},
		{"$steering(map)", dict("foo", Int(5), "bar", dict("baz", List{Int(1), Int(2), Int(3), Float(4)}))},
		{"$args(infile)", "in.i3"},
		{"$options(mode) $(mode)", "fast fast"},
		{"$(sub)", "faster"},
		{"$system(gpu)", Int(1)},
		{"$metadata(category)", "x"},
		{"$(job)", Int(17)},
		{"ab$(job)cd", "ab17cd"},
		{"$(job)$(job)", "1717"},
		{"$(near) $steering(near)", "inner outer"},
		{"$(indirect)", "inner"},
		{"$(seed)", "5+1"}, // the header's seed, plus one
		{"$(flag)", false},
		{"is $(flag)", "is False"},
		{"$environ(TMPDIR)", "/tmp/$(job)"}, // values of the node are not read again
		{List{"$(job)", dict("k$(job)", "$(near)")}, List{Int(17), dict("k17", "inner")}},

		// Names made of phrases.
		{`$steering($sprintf("%s_%s",$system(test),$metadata(category)))`, Int(1)},
		{"$steering($system(test2)_$metadata(category))", Int(2)},
		{"$steering(model::$(job))", "late"},

		// Indexing.
		{"$steering(list)[1]", Int(2)},
		{"$steering(list)[-1]", Float(4)},
		{"$steering(names)[0]", "foo"},
		{"$steering(map)[bar][baz][3]", Float(4)},
		{"$steering(map)[$steering(names)[0]]", Int(5)},
		{"http://h/$steering(pick)/x", "http://h/bar/x"},
		{"http://h/$steering(map)[foo]", "http://h/5"},
		{"$steering(text)[1]", Int(2)},
		{"$steering(word)[0]", "S"},
		{"$(names[1])", "bar"},
		{"$(map[bar][baz][0])", Int(1)},
		{"$(list[0])", "by its full name"},
		{"job$(job)[0].txt", "job17[0].txt"}, // a number has no items

		// Functions.
		{"$eval(4+4)", Int(8)},
		{`$eval(\(4+3*2\)%3)`, Int(1)},
		{"$eval((4+3*2)%3)", Int(1)},
		{"$eval(-1.23)", Float(-1.23)},
		{"$eval($steering(sum)*2)", Int(5)}, // text, not a value, is put in
		{"$eval($eval($(job)//10)*10)", Int(10)},
		{"$eval($steering(list)[1]*$(job))", Int(34)},
		{"$eval($steering(list))", List{Int(1), Int(2), Int(3), Float(4)}},
		{"$eval('$(word)' in ['SpiceLea'])", true},
		{`$sprintf("%d",5)`, "5"},
		{"$sprintf('%d',5)", "5"},
		{"$sprintf(%d,5)", "5"},
		{`$sprintf("%s %06d","testing",12)`, "testing 000012"},
		{`$sprintf("%07d", 12.0000)`, "0000012"},
		{`$sprintf("%x %o", 12, 12)`, "c 14"},
		{`$sprintf("%d",98765432109876543210)`, "98765432109876543210"},
		{`$sprintf("%.1fx", $steering(list)[0])`, "1.0x"},
		{`$sprintf("%s|%5s|%-5s|", a, b, c)`, "a|    b|c    |"},
		{`$sprintf("%s", "a, b")`, "a, b"},
		{`$sprintf("%s", $steering(list))`, "[1, 2, 3, 4.0]"},
		{`$sprintf("%r %r", "it", 3)`, "'it' 3"},
		{`$sprintf("%c%c", A, 66)`, "AB"},
		{`$sprintf("%*d|%.*f", 5, 42, 2, 3.14159)`, "   42|3.14"},
		{`$sprintf("100%%")`, "100%"},
		{`$sprintf("%d", 5, 6)`, "5"},
		{"$sprintf('%06d-%06d',$eval($(job)//10000*10000),$eval($eval($(job)//10000+1)*10000))", "000000-010000"},
		{"$sum($steering(list))", Float(10)},
		{"$len($steering(list))", Int(4)},
		{"$min($steering(list))", Int(1)},
		{"$max($steering(list))", Float(4)},
		{"$sum([1,2,3])", Int(6)},
		{"$max(3, 1.5,2)", Int(3)},
		{"$len(four)", Int(4)},
		{"$len($steering(map))", Int(2)},
		{"$choice(only)", "only"},
		{"$choice([[1,2]])", List{Int(1), Int(2)}},

		// Plain text.
		{"", ""},
		{"plain (text) [here]", "plain (text) [here]"},
		{"costs $5, $HOME and $", "costs $5, $HOME and $"},
		{`\$(job) \(x\) \[y\] \\`, `$(job) (x) [y] \`},
		{`a\d+\.i3`, `a\d+\.i3`},
		{"($(job))", "(17)"},
		{"a) $(job) ]", "a) 17 ]"},
		{nil, nil},
		{Int(3), Int(3)},

		// Left as they stand.
		{"$steering(nothere)", standing("$steering(nothere)")},
		{"$(nothere) $(job)", standing("$(nothere) 17")},
		{"$steering(list)[10]", standing("$steering(list)[10]")},
		{"$steering(map)[no]", standing("$steering(map)[no]")},
		{"$eval(import os)", standing("$eval(import os)")},
		{`$eval(os.remove("/"))`, standing(`$eval(os.remove("/"))`)},
		{`$eval(os.remove\("/"\))`, standing(`$eval(os.remove("/"))`)},
		{`$sprintf("%s,12)`, standing(`$sprintf("%s,12)`)},
		{"$sprintf(%s)", standing("$sprintf(%s)")},
		{`$sprintf("%s")`, standing(`$sprintf("%s")`)},
		{`$sprintf("%f","test")`, standing(`$sprintf("%f","test")`)},
		{"$choice()", standing("$choice()")},
		{"$sum(abc)", standing("$sum(abc)")},
		{"$foo($(job))", standing("$foo(17)")},
		{"$foo(ba]]r)", standing("$foo(ba]]r)")},
		{"$seed()", standing("$seed()")},
		{"$eval(1/0)", standing("$eval(1/0)")},
		{"$(job", standing("$(job")},
		{"$eval($steering(nothere)+$(job))", standing("$eval($steering(nothere)+17)")},
		{"$steering(host)", standing("on $environ(HOST)")},
		{"$steering(a)", standing("$steering(a)")},
		{"$(loop)", standing("x$(loop)")},
	}
	for _, tt := range tests {
		r := Expand(tt.in, Place{Path: "test"}, production, Options{})
		if diff := cmp.Diff(pyRepr(tt.want), pyRepr(r.Value)); diff != "" {
			t.Errorf("Expand(%s) = %s, want %s", pyRepr(tt.in), pyRepr(r.Value), pyRepr(tt.want))
		}
		if text, ok := r.Value.(string); ok && len(r.Unresolved) == 0 && strings.Contains(text, "$steering") {
			t.Errorf("Expand(%v) left %q and did not say so", tt.in, text)
		}
	}
}

func TestExpandNamesWhatItLeaves(t *testing.T) {
	tests := []struct {
		in   string
		want []string
	}{
		{"fine $(job)", nil},
		{"a $(nothere) b", []string{`test@2-12 $(nothere): there is no parameter or option "nothere"`}},
		{"$eval(1+$steering(gone))", []string{`test@8-23 $steering(gone): $steering has no "gone"`}},
		{"$foo(1)", []string{"test@0-7 $foo(1): there is no function $foo"}},
		{"$(job", []string{"test@0-5 $(job: a ) is missing"}},
		{"$eval(1/0)", []string{"test@0-10 $eval(1/0): / by zero"}},
		{"$steering(host)", []string{`steering/host@3-17 $environ(HOST): $environ has no "HOST"`}},
		{"$steering(a)", []string{"steering/b@0-12 $steering(a): a refers to itself"}},
	}
	for _, tt := range tests {
		var got []string
		for _, u := range Expand(tt.in, Place{Path: "test"}, production, Options{}).Unresolved {
			got = append(got, Text(u.Place.String())+"@"+pyRepr(Int(int64(u.Start)))+"-"+pyRepr(Int(int64(u.End)))+" "+u.Text+": "+u.Reason)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Expand(%q).Unresolved (-want +got):\n%s", tt.in, diff)
		}
	}
}

func TestExpandSources(t *testing.T) {
	tests := []struct {
		in   string
		want Sources
	}{
		{"$steering(word)", 0},
		{"$(job)", SourceJob},
		{"$eval(1 if True else $(job))", SourceJob},
		{"$steering(model::$(job))", SourceJob},
		{"$choice(1,2)", SourceJob | SourceChoice},
		{"$environ(NOTHERE)", SourceNode},
	}
	for _, tt := range tests {
		if got := Expand(tt.in, Place{}, production, Options{}).Sources; got != tt.want {
			t.Errorf("Expand(%q).Sources = %b, want %b", tt.in, got, tt.want)
		}
	}
}

// A draw is part of the physics of a dataset: these values never change.
func TestChoiceIsFrozen(t *testing.T) {
	tests := []struct {
		seed, job uint64
		place     Place
		text      string
		want      string
	}{
		{0, 0, Place{Path: "steering/parameters/x"}, "$choice(a,b,c,d,e,f,g,h)", "f"},
		{42, 0, Place{Path: "steering/parameters/x"}, "$choice(a,b,c,d,e,f,g,h)", "g"},
		{42, 1, Place{Path: "steering/parameters/x"}, "$choice(a,b,c,d,e,f,g,h)", "b"},
		{42, 1, Place{"hits", "trays/0/args/x"}, "$choice(a,b,c,d,e,f,g,h)", "d"},
		{42, 1, Place{"hits", "trays/0/args/x"}, "$choice(a,b,c,d)-$choice(a,b,c,d)", "b-a"},
	}
	for _, tt := range tests {
		for range 3 {
			got := Expand(tt.text, tt.place, production, Options{Seed: tt.seed, Job: tt.job}).Value
			if got != tt.want {
				t.Errorf("%s with seed %d, job %d at %s = %v, want %s", tt.text, tt.seed, tt.job, tt.place, got, tt.want)
			}
		}
	}
}

func TestChoiceIsUniform(t *testing.T) {
	const jobs = 30000
	var counts [3]int
	for job := range uint64(jobs) {
		counts[draw(1, job, Place{Path: "p"}, 0, 3)]++
	}
	for i, n := range counts {
		// Five standard deviations of a binomial.
		if d := n - jobs/3; d*d > 25*jobs*2/9 {
			t.Errorf("choice %d came %d times in %d jobs", i, n, jobs)
		}
	}
}

func TestExpandLimits(t *testing.T) {
	chain := tables{steering: map[string]Value{}}
	for i := range 30 {
		name := func(i int) string { return "p" + Text(Int(int64(i))) }
		chain.steering[name(i)] = "$(" + name(i+1) + ")"
		chain.steering["d"+name(i)] = "$(d" + name(i+1) + ")$(d" + name(i+1) + ")"
	}
	chain.steering["p30"] = "end"
	chain.steering["long"] = strings.Repeat("x", MaxString)
	tests := []struct {
		name, in string
		resolved bool
	}{
		{"nineteen steps", "$(p11)", true},
		{"thirty steps", "$(p0)", false},
		{"deep nesting", strings.Repeat("$len(", 25) + strings.Repeat(")", 25), false},
		{"doubling", "$(dp12)", false},
		{"too long", "$(long)$(long)", false},
		{"long repetition", "$eval('ab'*40000)", false},
		{"huge power", "$eval(9**9**9)", false},
		{"many steps", "$eval(" + strings.Repeat("1+", 30000) + "1)", true},
		{"too many steps", strings.Repeat("$eval("+strings.Repeat("1+", 5000)+"1)", 20)[:MaxString-50], false},
		{"deep parentheses", "$eval(" + strings.Repeat("(", 200) + "1" + strings.Repeat(")", 200) + ")", false},
		{"wide format", `$sprintf("%99999d", 1)`, false},
		{"unclosed", strings.Repeat("$a(", 20000), false},
	}
	for _, tt := range tests {
		r := Expand(tt.in, Place{Path: "test"}, chain, Options{})
		if resolved := len(r.Unresolved) == 0; resolved != tt.resolved {
			t.Errorf("%s: resolved %v, want %v (%d left)", tt.name, resolved, tt.resolved, len(r.Unresolved))
		}
	}
	r := Expand("$(p0)", Place{}, chain, Options{})
	if len(r.Unresolved) == 0 || !errors.Is(r.Unresolved[0].Err, ErrLimit) {
		t.Errorf("a chain of thirty parameters: %+v, want ErrLimit", r.Unresolved)
	}
}

func TestInfer(t *testing.T) {
	tests := []struct {
		in   string
		want Value
	}{
		{"0", Int(0)},
		{"-7", Int(-7)},
		{"1.24", Float(1.24)},
		{"1e11", Float(1e11)},
		{"5e3", Float(5000)},
		{"True", true},
		{"false", false},
		{"null", nil},
		{"foo", "foo"},
		{`"foo"`, `"foo"`},
		{`{"bar":"baz"}`, dict("bar", "baz")},
		{"[1,2.0,'x']", List{Int(1), Float(2), "x"}},
		{`f"oo"`, `f"oo"`},
		{"000012", "000012"},
		{"1.10", "1.10"},
		{" 5", " 5"},
		{"+5", "+5"},
		{"nan", "nan"},
		{"1e999", "1e999"},
		{"[1,2", "[1,2"},
		{"1_000", "1_000"},
	}
	for _, tt := range tests {
		if got := Infer(tt.in); pyRepr(got) != pyRepr(tt.want) || typeName(got) != typeName(tt.want) {
			t.Errorf("Infer(%q) = %s, want %s", tt.in, pyRepr(got), pyRepr(tt.want))
		}
	}
}

func TestExplain(t *testing.T) {
	tree := Expand("run $eval($(job)*2+$steering(seed))", Place{Path: "test"}, production, Options{Explain: true}).Tree
	var lines []string
	var walk func(n *Node, depth int)
	walk = func(n *Node, depth int) {
		lines = append(lines, strings.Repeat("  ", depth)+n.Text+" = "+Text(n.Value))
		for _, step := range n.Steps {
			walk(step, depth+1)
		}
	}
	walk(tree, 0)
	want := []string{
		"run $eval($(job)*2+$steering(seed)) = run 39",
		"  $eval($(job)*2+$steering(seed)) = 39",
		"    $(job) = 17",
		"    $steering(seed) = 5",
		"    17*2+5 = 39",
		"      17*2 = 34",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("explanation (-want +got):\n%s", diff)
	}
}
