package steering

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// seeded is a dataset of two tasks; the text stands in the header's parameters.
func seeded(t *testing.T, parameters, args string) *Document {
	return parsed(t, fmt.Sprintf(`
version: 3
steering: {parameters: {%s}}
tasks:
  - name: generate
    trays: [{modules: [{class: a.B, args: {%s}}]}]
  - name: hits
    depends: [generate]
    trays: [{modules: [{class: a.B, args: {procnum: $(job)}}]}]
`, parameters, args))
}

func TestSeedCollisions(t *testing.T) {
	production := "'CORSIKA::seed': $eval($eval($(dataset)*100000 + $(job))%100000000)"
	tests := []struct {
		name             string
		parameters, args string
		jobs             uint32
		others           map[protocol.DatasetID]uint32
		want             []string
	}{
		{"fresh seeds", production, "s: 1", 100_000, nil, nil},
		{"ten million jobs", production, "s: 1", 10_000_000, nil, nil},
		{
			"more jobs than seeds", production, "s: 1", 100_000_001, nil,
			[]string{"steering parameter CORSIKA::seed is 700000 in job 0 and again in job 100000000"},
		},
		{
			"a dataset a thousand numbers on", production, "s: 1", 10,
			map[protocol.DatasetID]uint32{8: 10, 1007: 10},
			[]string{"steering parameter CORSIKA::seed is 700000 in job 0, which dataset 1007 has in job 0 (steering parameter CORSIKA::seed)"},
		},
		{
			"a neighbour with many jobs", production, "s: 1", 10,
			map[protocol.DatasetID]uint32{6: 200_000},
			[]string{"steering parameter CORSIKA::seed is 700000 in job 0, which dataset 6 has in job 100000 (steering parameter CORSIKA::seed)"},
		},
		{
			"equal seeds in all jobs", "x: 1", "seed: $(dataset)", 50, nil,
			[]string{"task generate, argument seed is 7 in all 50 jobs, so that they do the same work"},
		},
		{
			"equal seeds beside procnum", "seed: $(dataset)", "seed: $steering(seed), procnum: $(job)", 50, nil,
			[]string{"notice: task generate, argument seed is 7 in all jobs; that is right only if the step combines it with procnum"},
		},
		{
			"blocks of jobs", "RunID: $eval($(job)//10)", "x: 1", 1_000_000, nil,
			[]string{"steering parameter RunID is 0 in job 0 and again in job 1"},
		},
		{
			"a seed that is no line", "x: 1", "seed: $eval(($(job)-30)**2)", 1000, nil,
			[]string{"task generate, argument seed is 1 in job 29 and again in job 31"},
		},
		{"one job", "x: 1", "seed: 5", 1, nil, nil},
		{"no jobs yet", production, "s: 1", 0, nil, nil},
		{"text", "x: 1", "seed: yes-$(job)", 10, nil, nil},
	}
	for _, tt := range tests {
		doc := seeded(t, tt.parameters, tt.args)
		var others []LiveDataset
		for number, jobs := range tt.others {
			others = append(others, LiveDataset{Number: number, Doc: doc, Jobs: jobs})
		}
		var got []string
		for _, p := range SeedCollisions(doc, CompileInput{Dataset: 7, JobCount: tt.jobs}, others) {
			got = append(got, p.Message)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestSeedCollisionsBetweenTasks(t *testing.T) {
	doc := parsed(t, `
version: 3
steering: {parameters: {base: $eval($(job)*2)}}
tasks:
  - name: a
    trays: [{modules: [{class: a.B, args: {Seed: $(base)}}]}]
  - name: b
    trays: [{modules: [{class: a.B, args: {seed: $(base)}}]}]
  - name: c
    trays: [{modules: [{class: a.B, args: {seed: $eval($(base)+1)}}]}]
`)
	problems := SeedCollisions(doc, CompileInput{JobCount: 10}, nil)
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "Seed is the same in tasks a and b: 0 in job 0") {
		t.Errorf("problems: %v, want that tasks a and b share a seed", problems)
	}
}

// meet against trying every pair of jobs.
func TestMeet(t *testing.T) {
	const seed = 4
	r := rand.New(rand.NewPCG(seed, 0))
	found := 0
	for range 20_000 {
		random := func() stretch {
			from := r.Int64N(5)
			return stretch{from, from + r.Int64N(12), big.NewInt(r.Int64N(60) - 30), big.NewInt(r.Int64N(15) - 7)}
		}
		a, b := random(), random()
		want := false
		for x := a.from; x <= a.to; x++ {
			for y := b.from; y <= b.to; y++ {
				want = want || a.value(x).Cmp(b.value(y)) == 0
			}
		}
		x, y, ok := meet(a, b)
		if ok {
			found++
		}
		if ok != want || ok && (a.value(x).Cmp(b.value(y)) != 0 || x < a.from || x > a.to || y < b.from || y > b.to) {
			t.Fatalf("seed %d: meet(%v, %v) = %d, %d, %v, want %v", seed, a, b, x, y, ok, want)
		}
	}
	if found == 0 {
		t.Error("no pair of stretches meets; the test tests nothing")
	}
}

func TestLintExpressions(t *testing.T) {
	tests := []struct {
		name, document string
		want           []string
	}{
		{
			"nothing wrong", "steering: {parameters: {'a::0': x, b: '$(a::$(iter))'}}\ntasks: [{name: t, trays: [{modules: [{src: a, args: $(b)}]}]}]", nil,
		},
		{
			"a wrong name in use and out of use", "steering: {parameters: {outfile: x, u: $(nothing)}}\ntasks: [{name: t, trays: [{modules: [{src: a, args: $steering(outfiel)}]}]}]",
			[]string{
				`lint:2:40: warning: $(nothing) stays as it stands: there is no parameter or option "nothing"`,
				`lint:3:53: warning: $steering(outfiel) stays as it stands: $steering has no "outfiel" (did you mean "outfile"?)`,
			},
		},
		{
			"division", "tasks: [{name: t, trays: [{modules: [{src: a, args: '$eval($(job)/10) $eval(1.0/2) $eval(7//2)'}]}]}]",
			[]string{`lint:2:53: warning: "/" between integers: 7/2 is 3.5 here, and was 3 in older IceProd; declare division 3 or 2, or write "//"`},
		},
		{"declared division", "division: 2\ntasks: [{name: t, trays: [{modules: [{src: a, args: $eval($(job)/10)}]}]}]", nil},
		{
			"only a later job", "steering: {parameters: {l: [1, 2]}}\ntasks: [{name: t, trays: [{modules: [{src: a, args: '$(l)[$eval($(job)//500)]x$(l)[$(job)]'}]}]}]",
			[]string{"lint:3:53: warning: $(l)[999] stays as it stands: index 999 is outside a list of 2"},
		},
	}
	for _, tt := range tests {
		doc, problems := Parse("lint", []byte("version: 3\n"+tt.document))
		if problems.HasErrors() {
			t.Fatalf("%s: %v", tt.name, problems)
		}
		var got []string
		for _, p := range LintExpressions(doc) {
			p.File = "lint"
			got = append(got, p.Error())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
