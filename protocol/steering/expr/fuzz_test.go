package expr

import (
	"testing"
	"unicode/utf8"
)

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{
		"$steering(list)[$(job)]", "$eval($(job)//10000*10000)", `$sprintf('%06d', $(job))`, "$choice(a,b)", "$(loop) $(a) $(map[bar][baz])",
		`\$(x) $a($b($c(`, "$foo(ba]]r)", "$sum([1,2])$len(x)", "$steering(map)[$steering(names)[0]]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := Expand(text, Place{Path: "fuzz"}, production, Options{Explain: true})
		again := Expand(text, Place{Path: "fuzz"}, production, Options{})
		if pyRepr(r.Value) != pyRepr(again.Value) {
			t.Errorf("Expand(%q) = %v, then %v", text, r.Value, again.Value)
		}
		if out := Text(r.Value); len(out) > 2*MaxString+len(text) {
			t.Errorf("Expand(%q) has %d bytes", text, len(out))
		}
		for _, u := range r.Unresolved {
			if u.Start < 0 || u.End < u.Start || u.Place.Path == "fuzz" && u.End > len(text) {
				t.Errorf("Expand(%q) leaves bytes %d to %d", text, u.Start, u.End)
			}
		}
	})
}

func FuzzEval(f *testing.F) {
	for _, seed := range []string{
		"1+2*3**-2", "'%*d' % (3, 4)", "[1,2,3][::-1]", "1 if 2 < 3 <= 4 else 'x'", "{'a': 1}['a']", "round(2.675, 2)", "9**999", "'a'*99999",
		"pow(3, 2**4000, 7)", "int('z', 36) << 9", `"\x41\u00e9\101" r'\d'`, "not - + ~1", "exp(700)*1e308", "1_0.5e-3//0.1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := Eval(text, DivisionTrue)
		if err != nil {
			return
		}
		if s, ok := v.(string); ok && (len(s) > MaxString || !utf8.ValidString(s)) {
			t.Errorf("Eval(%q) is a text of %d bytes, valid %v", text, len(s), utf8.ValidString(s))
		}
		if i, ok := asInt(v); ok && i.BitLen() > MaxIntBits {
			t.Errorf("Eval(%q) has %d bits", text, i.BitLen())
		}
	})
}

func FuzzFormat(f *testing.F) {
	for _, seed := range []string{"%d", "%-+#012.5x|%c", "%*.*f", "%%", "%5%", "%s %r %a", "%g%G%e", "%", "%(a)s", "%99999999999d"} {
		f.Add(seed, "text", 3.25, int64(-7))
	}
	f.Fuzz(func(t *testing.T, format, text string, x float64, i int64) {
		ev := evaluator{budget: newBudget()}
		out, used, err := ev.format(format, []Value{Int(i), text, Float(x), Int(i), Float(x), text})
		if err == nil && (len(out) > MaxString || used > 6) {
			t.Errorf("format(%q) has %d bytes of %d values", format, len(out), used)
		}
	})
}
