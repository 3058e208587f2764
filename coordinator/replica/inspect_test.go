package replica

import (
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestADirectoryIsReadAtRest(t *testing.T) {
	c := newCluster(t, 1, func(c *Config) { c.Dir = filepath.Join(t.TempDir(), "raft") })
	n := c.leader()
	var want []string
	for _, command := range []string{"a", "b", "c"} {
		c.propose(n, command)
		want = append(want, command)
	}
	if err := n.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := n.Applied()
	c.propose(n, "d")
	if _, err := ReadLog(n.config.Dir); !errors.Is(err, ErrLocked) {
		t.Errorf("ReadLog of an open replica: %v, want ErrLocked", err)
	}
	if err := n.crash(); err != nil {
		t.Fatal(err)
	}
	log, err := ReadLog(n.config.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, e := range log {
		if i > 0 && e.Index != log[i-1].Index+1 {
			t.Errorf("entry %d follows %d", e.Index, log[i-1].Index)
		}
		if e.Data != nil {
			got = append(got, string(e.Data[1:]))
		}
	}
	if want := append(want, "d"); !slices.Equal(got, want) {
		t.Errorf("ReadLog = %q, want %q", got, want)
	}
	snapshots := 0
	if err := ReadSnapshots(n.config.Dir, func(index uint64, body io.Reader) error {
		snapshots++
		b, err := io.ReadAll(body)
		if lines := strings.Fields(string(b)); index != at || !slices.Equal(lines, want) {
			t.Errorf("snapshot at %d holds %q; want %q at %d", index, lines, want, at)
		}
		return err
	}); err != nil || snapshots != 1 {
		t.Errorf("ReadSnapshots: %d snapshots, %v", snapshots, err)
	}
}
