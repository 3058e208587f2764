package steering

import (
	"fmt"
	"testing"

	"floe/protocol"
	"floe/protocol/steering/expr"
)

// FuzzExpandJob puts a text wherever expressions may stand.
func FuzzExpandJob(f *testing.F) {
	for _, text := range []string{
		"$(job)", "$eval($(dataset)*100000+$(job))", "$(p)$(p)", "$steering(q)[$(iter)]", "$choice(1,2,3)", "$sprintf('%d',$(p))", "$(output)", "1e30",
	} {
		f.Add(text, text, uint32(3))
	}
	f.Fuzz(func(t *testing.T, p, text string, job uint32) {
		x := Expression{Text: text}
		doc := &Document{
			Steering: Steering{Parameters: Parameters{{Name: "p", Value: TextValue(p)}, {Name: "q", Value: TextValue(text)}}},
			Tasks: []Task{{
				Name: "a", Requirements: Requirements{CPU: x, Memory: x, Time: x, GPUCapability: x, Site: x},
				Data:  []Data{{Movement: MovementOutput, Local: x}},
				Trays: []Tray{{Modules: []Module{{Src: x, Args: TextValue(text), Parameters: Parameters{{Name: "seed", Value: TextValue(p)}}}}}},
			}},
		}
		in := ExpandInput{Job: protocol.JobIndex(job), JobCount: job, Seed: 1}
		first, _ := ExpandJob(doc, in)
		again, _ := ExpandTask(doc, in, 0)
		if a, b := fmt.Sprint(first.Tasks[0].Trays[0].Modules[0].Args), fmt.Sprint(again.Trays[0].Modules[0].Args); a != b {
			t.Errorf("args %q, then %q", a, b)
		}
		_ = expr.JSON(first.Parameters)
		Compile(doc, CompileInput{JobCount: min(job, 100)})
		SeedCollisions(doc, CompileInput{JobCount: job}, nil)
		LintExpressions(doc)
	})
}
