package pilot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

// TestPilotsOfANodeShareIt has one pilot after the other look at the same node.
func TestPilotsOfANodeShareIt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "claims")
	node := claim{CPUs: []int{0, 1, 2, 3, 4, 5, 6, 7}, Device: 1}
	found := func() protocol.Resources {
		return protocol.Resources{Cores: 8, Memory: 80, Disk: 800, GPUs: []protocol.GPU{{ID: "GPU-a"}, {ID: "GPU-b"}}}
	}
	show := func(r protocol.Resources) []any {
		ids := []any{r.Cores, r.Memory, r.Disk}
		for _, g := range r.GPUs {
			ids = append(ids, g.ID)
		}
		return ids
	}
	take := func(name string, own claim, limit protocol.Resources, granted bool, want ...any) *os.File {
		t.Helper()
		offer := found()
		if limit.Cores > 0 {
			offer.Cores = limit.Cores
		}
		file, err := stake(dir, own, &offer, limit, granted)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, show(offer)); diff != "" {
			t.Errorf("%s offers (-want +got):\n%s", name, diff)
		}
		return file
	}
	b := protocol.ByteSize(1)
	first := take("one with a slot of two cores", node, protocol.Resources{Cores: 2}, false, 2, 80*b, 800*b, "GPU-a", "GPU-b")
	second := take("one that takes what is left", node, protocol.Resources{}, false, 6, 60*b, 600*b)
	offer := found()
	if _, err := stake(dir, node, &offer, protocol.Resources{}, false); !errors.Is(err, ErrNode) || !strings.Contains(err.Error(), "has 6") {
		t.Errorf("one too many = %v, want ErrNode and who has what", err)
	}
	third := take("one with a grant of its own", node, protocol.Resources{Cores: 1, Memory: 10, Disk: 5}, true, 1, 80*b, 800*b, "GPU-a", "GPU-b")
	first.Close() // it ends, however: the kernel lets its lock go
	fourth := take("one after the first has ended", node, protocol.Resources{}, false, 1, 10*b, 100*b)
	elsewhere := take("one with cores of its own", claim{CPUs: []int{8, 9}, Device: 1}, protocol.Resources{}, false, 8, 80*b, 800*b)
	for _, f := range []*os.File{second, third, fourth, elsewhere} {
		f.Close()
	}
	last := take("one when all have ended", node, protocol.Resources{}, false, 8, 80*b, 800*b, "GPU-a", "GPU-b")
	defer last.Close()
	if left, err := filepath.Glob(filepath.Join(dir, "pilot-*")); err != nil || len(left) != 1 {
		t.Errorf("claims %v are left, %v", left, err)
	}
}

func TestClaimsAreTheUsersOwn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "claims")
	if err := os.Symlink(t.TempDir(), dir); err != nil {
		t.Fatal(err)
	}
	var offer protocol.Resources
	if _, err := stake(dir, claim{}, &offer, protocol.Resources{}, false); err == nil || !strings.Contains(err.Error(), "not a directory of this user") {
		t.Errorf("stake in another's place = %v", err)
	}
}
