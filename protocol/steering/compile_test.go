package steering

import (
	"fmt"
	"strings"
	"testing"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func TestCompile(t *testing.T) {
	plan, problems := Compile(parsed(t, photons), CompileInput{Dataset: 7, JobCount: 7, Seed: 1})
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	needs := func(disk protocol.ByteSize) protocol.Requirements {
		return protocol.Requirements{Cores: 1, Memory: 2_500_000_000, Disk: disk * protocol.GB, Walltime: 5400}
	}
	one := func(jobs ...protocol.JobIndex) []protocol.JobRange {
		var ranges []protocol.JobRange
		for _, j := range jobs {
			ranges = append(ranges, protocol.JobRange{First: j, Last: j})
		}
		return ranges
	}
	want := &Plan{Tasks: []PlannedTask{
		{
			Name: "generate", PerJob: true,
			Classes: []RequirementClass{{needs(10), one(0, 3, 6)}, {needs(11), one(1, 4)}, {needs(12), one(2, 5)}},
		},
		{
			Name: "filter", Parents: []protocol.TaskIndex{0},
			Classes: []RequirementClass{{
				protocol.Requirements{GPUs: 1, GPUCapability: 75, Alternatives: []protocol.Requirements{{Cores: 16}}},
				[]protocol.JobRange{{First: 0, Last: 6}},
			}},
		},
	}}
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestCompileRequirements(t *testing.T) {
	tests := []struct {
		requirements string
		jobs         uint32
		want         string // classes and jobs, or part of the problem
	}{
		{"{memory: 0.5, time: 0.0001}", 10, "500MB 1s: 0-9"},
		{"{memory: $(mem)}", 4_000_000_000, "3GB 0s: 0-3999999999"},
		{"{memory: $steering(growing)}", 6, "1GB 0s: 0-1 | 2GB 0s: 2-3 | 3GB 0s: 4-5"},
		{"{memory: $eval(2 if $(job) >= 100 else 4)}", 1000, "4GB 0s: 0-99 | 2GB 0s: 100-999"},
		{"{memory: $eval(2 if $(job) == 2 else 2.0)}", 4, "2GB 0s: 0-3"},
		{"{memory: $steering(growing)}", 1_000_001, "possible up to 1000000 jobs, not 1000001"},
		{"{memory: $(job)}", 1000, "the first 65 jobs already have 65 different requirements"},
		{"{memory: $environ(MEM)}", 10, "known only when a node was chosen"},
		{"{memory: lots}", 10, `key "memory": want a number`},
		{"{cpu: 1.5}", 10, `key "cpu": want a whole number`},
		{"{cpu: $eval(4/2)}", 10, "0B 0s: 0-9"},
		{"{cpu: $eval(3/2)}", 10, `cpu "$eval(3/2)" is "1.5" in job 0: want a whole number`},
		{"{time: 1e9}", 10, "walltime"},
		{"{memory: $eval(5-$(job))}", 10, `is "-1" in job 6`},
	}
	for _, tt := range tests {
		doc, problems := Parse("test", fmt.Appendf(nil, `
version: 3
steering: {parameters: {mem: 3, growing: $eval($(job)//2+1)}}
tasks: [{name: a, requirements: %s, trays: [{modules: [{src: a.sh}]}]}]`, tt.requirements))
		if !problems.HasErrors() {
			var plan *Plan
			if plan, problems = Compile(doc, CompileInput{JobCount: tt.jobs}); !problems.HasErrors() {
				var classes []string
				for _, c := range plan.Tasks[0].Classes {
					text := fmt.Sprintf("%v %ds:", c.Requirements.Memory, c.Requirements.Walltime)
					for _, r := range c.Jobs {
						text += fmt.Sprintf(" %d-%d", r.First, r.Last)
					}
					classes = append(classes, text)
				}
				if got := strings.Join(classes, " | "); got != tt.want {
					t.Errorf("Compile(%s, %d jobs) = %s, want %s", tt.requirements, tt.jobs, got, tt.want)
				}
				continue
			}
		}
		if !strings.Contains(problems.Error(), tt.want) {
			t.Errorf("Compile(%s, %d jobs): %v, want %q", tt.requirements, tt.jobs, problems, tt.want)
		}
	}
}

func BenchmarkCompilePerJob(b *testing.B) {
	doc, _ := Parse("bench", []byte(`
version: 3
tasks: [{name: a, requirements: {cpu: 1, memory: "$eval($(job)%7)"}, trays: [{modules: [{src: a.sh}]}]}]`))
	for b.Loop() {
		if _, problems := Compile(doc, CompileInput{JobCount: 10_000}); problems.HasErrors() {
			b.Fatal(problems)
		}
	}
}
