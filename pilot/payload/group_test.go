package payload

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestAControlGroupIsUsedAgain when nobody is left in it, with the limit of the next
// module, and is gone in the end.
func TestAControlGroupIsUsedAgain(t *testing.T) {
	g := FindGroups()
	if g == nil || g.pids == "" {
		t.Skip("no control groups for processes that this process may divide")
	}
	logger := slog.New(slog.DiscardHandler)
	open := func(processes int) *group {
		t.Helper()
		group := g.open(Limits{Processes: processes}, logger)
		if group == nil || len(group.dirs) != 1 {
			t.Fatalf("no group: %+v", group)
		}
		b, err := os.ReadFile(filepath.Join(group.dirs[0], pidsLimit))
		if want := strconv.FormatInt(mostProcesses(Limits{Processes: processes}), 10); err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("its limit is %q, %v, want %s", b, err, want)
		}
		return group
	}
	isThere := func(group *group) bool {
		_, err := os.Stat(group.dirs[0])
		return err == nil
	}
	alone := open(10)
	if alone.close(); isThere(alone) {
		t.Error("a group is kept that nobody uses again")
	}
	g.Reuse()
	first := open(10)
	first.close()
	second := open(20)
	if second != first {
		t.Error("it is not used again")
	}
	third := open(20)
	if third == second {
		t.Error("two modules are in one group")
	}
	// One that a payload has divided is not used again; it stays until it is empty.
	below := filepath.Join(third.dirs[0], "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if g.keep(third) {
		t.Error("a group with another in it is kept")
	}
	if err := os.Remove(below); err != nil {
		t.Fatal(err)
	}
	third.close()
	second.close()
	g.Close()
	for _, group := range []*group{second, third} {
		if isThere(group) {
			t.Errorf("%s is left", group.dirs[0])
		}
	}
	late := open(10)
	if late.close(); isThere(late) {
		t.Error("a group is kept after the end")
	}
}
