package photon

import (
	"os"
	"testing"

	"floe/protocol/steering"
)

// photon.yaml is a dataset floe accepts without a word, and its graph is
// Figure 8's.
func TestSteering(t *testing.T) {
	content, err := os.ReadFile("photon.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, problems := steering.Parse("photon.yaml", content)
	if len(problems) > 0 {
		t.Fatalf("problems:\n%v", problems)
	}
	parents := map[string]int{"background": 0, "signal": 0, "photons": 2, "detector-a": 1, "detector-b": 1}
	if len(doc.Tasks) != len(parents) {
		t.Fatalf("%d tasks, want %d", len(doc.Tasks), len(parents))
	}
	for _, task := range doc.Tasks {
		if want, ok := parents[task.Name]; !ok || len(task.Depends) != want {
			t.Errorf("task %s has %d parents, want %d", task.Name, len(task.Depends), want)
		}
	}
}
