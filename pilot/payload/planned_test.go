package payload

import (
	"errors"
	"strings"
	"syscall"
	"testing"
)

// A word that no program can be given is no fault of the node's, isolated or not.
func TestAWordThatIsNone(t *testing.T) {
	for _, world := range []*world{nil, {}} {
		for name, spec := range map[string]*startSpec{
			"argument": {Argv: []string{"/bin/echo", "a\x00b"}, World: world},
			"variable": {Argv: []string{"/bin/echo"}, Env: []string{"A=b\x00c"}, World: world},
		} {
			_, err := spec.planned()
			if !errors.Is(err, syscall.EINVAL) || errors.Is(err, errIsolation) || !strings.Contains(err.Error(), "/bin/echo") {
				t.Errorf("%s: %v, want an invalid argument of /bin/echo", name, err)
			}
		}
	}
}

// What does not fit together is not taken for a plan.
func TestWhatIsNoPlan(t *testing.T) {
	sent, err := (&startSpec{Argv: []string{"/bin/true"}}).planned()
	if err != nil {
		t.Fatal(err)
	}
	var memory planMemory
	load := func(b []byte) bool {
		place, err := memory.of(len(b))
		if err != nil {
			t.Fatal(err)
		}
		copy(place, b)
		var x birth
		return x.load(place, 5, 6)
	}
	if !load(sent) {
		t.Error("a plan is not taken")
	}
	for _, n := range []int{0, 8, len(sent) / 2, len(sent) - 8} {
		if load(sent[:n]) {
			t.Errorf("%d bytes of %d are taken for a plan", n, len(sent))
		}
	}
}
