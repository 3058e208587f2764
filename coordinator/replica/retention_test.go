package replica

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// The log kept is as long as its limit in bytes allows, and never shorter than the
// floor in entries.
func TestTrailing(t *testing.T) {
	limits := Limits{RetainBytes: 64 << 20, InFlight: 8}.withDefaults()
	tests := []struct {
		name          string
		entries, size int
		low, high     uint64
	}{
		{"empty", 0, 0, 128, 128},
		{"all fit", 1000, 1000, 1000, 1000},
		{"full entries", 4096, 64 << 10, 1000, 1024},
		{"small entries", 2_000_000, 100, 660_000, 671_088},
		{"floor", 200, 16 << 20, 128, 128},
	}
	for _, tt := range tests {
		r := newRetention(limits)
		for i := range tt.entries {
			r.stored(uint64(i+1), tt.size)
		}
		if got := r.trailing(); got < tt.low || got > tt.high {
			t.Errorf("%s: trailing() = %d, want %d to %d", tt.name, got, tt.low, tt.high)
		}
		if len(r.marks) > 4*marksPerLimit+tt.entries {
			t.Errorf("%s: %d marks", tt.name, len(r.marks))
		}
	}
}

// What is deleted at either end is no longer counted.
func TestRetentionDeleted(t *testing.T) {
	r := newRetention(Limits{RetainBytes: marksPerLimit}.withDefaults()) // a mark per byte
	for i := range 100 {
		r.stored(uint64(i+1), 10)
	}
	r.deleted(1, 50)
	if got := r.retained(); got != 490 {
		t.Errorf("retained after compaction = %d, want 490 (the first entry's size is unknown)", got)
	}
	r.deleted(91, 100)
	if got := r.retained(); got != 390 {
		t.Errorf("retained after a conflict = %d, want 390", got)
	}
	r.stored(91, 10)
	if got := r.retained(); got != 400 {
		t.Errorf("retained after one more = %d, want 400", got)
	}
}

// Truncation goes in chunks from the right end, so that a crash leaves no hole.
func TestDeleteRangeInChunks(t *testing.T) {
	const n = 2*deleteChunk + 100
	type span struct{ low, high uint64 }
	tests := []struct {
		name      string
		low, high uint64
		want      []span
	}{
		{"compaction", 1, n - 10, []span{{1, deleteChunk}, {deleteChunk + 1, 2 * deleteChunk}, {2*deleteChunk + 1, n - 10}}},
		{"conflict", 51, n, []span{{n - deleteChunk + 1, n}, {n - 2*deleteChunk + 1, n - deleteChunk}, {51, 100}}},
		{"beyond both ends", 0, n + 50, []span{{1, deleteChunk}, {deleteChunk + 1, 2 * deleteChunk}, {2*deleteChunk + 1, n}}},
		{"nothing", n + 1, n + 2, nil},
	}
	for _, tt := range tests {
		calls := &deletions{LogStore: raft.NewInmemStore()}
		var logs []*raft.Log
		for i := range n {
			logs = append(logs, &raft.Log{Index: uint64(i + 1)})
		}
		calls.StoreLogs(logs)
		s := &failStopLog{
			LogStore: calls, retention: newRetention(Limits{}.withDefaults()),
			watchdog: &watchdog{fuse: newFuse(func() {}), name: ErrLogStore, limit: time.Minute},
		}
		if err := s.DeleteRange(tt.low, tt.high); err != nil {
			t.Fatal(err)
		}
		var got []span
		for _, r := range calls.ranges {
			got = append(got, span{r[0], r[1]})
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: deleted %v, want %v", tt.name, got, tt.want)
		}
	}
}

type deletions struct {
	raft.LogStore
	ranges [][2]uint64
}

func (d *deletions) DeleteRange(low, high uint64) error {
	d.ranges = append(d.ranges, [2]uint64{low, high})
	return nil
}

// A snapshot is taken by itself after so many commands or bytes, and tried again
// when it failed; the log behind it is cut.
func TestSnapshotWhenDue(t *testing.T) {
	tests := []struct {
		name   string
		limits Limits
		size   int
	}{
		{"commands", Limits{SnapshotCommands: 50}, 10},
		{"bytes", Limits{SnapshotBytes: 50_000}, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1, func(c *Config) {
					c.Limits = tt.limits
					c.Limits.RetainBytes, c.Limits.InFlight = int64(20*tt.size), 1
				})
				n := c.leader()
				n.machine.persist = errors.New("history is not synced")
				for i := range 45 {
					c.propose(n, fmt.Sprint(i)+strings.Repeat("x", tt.size))
				}
				synctest.Wait()
				if s := n.Stats(); s.Snapshots != 0 || s.Snapshot != 0 {
					t.Errorf("stats = %+v, want no snapshot yet", s)
				}
				for i := range 10 {
					c.propose(n, fmt.Sprint(i)+strings.Repeat("x", tt.size))
				}
				synctest.Wait()
				if s := n.Stats(); s.Snapshots != 0 || s.Snapshot != 0 {
					t.Errorf("stats = %+v, want no snapshot while the history fails", s)
				}
				if first, _ := n.logStore.FirstIndex(); first != 1 {
					t.Errorf("log begins at %d without a snapshot, want 1", first)
				}
				n.machine.persist = nil
				c.eventually("a snapshot", func() bool { return n.Stats().Snapshots == 1 })
				first, _ := n.logStore.FirstIndex()
				last, _ := n.logStore.LastIndex()
				if kept := last - first + 1; kept < n.config.Limits.retainEntries() || kept > 30 {
					t.Errorf("log keeps %d entries, want about 20", kept)
				}
			})
		})
	}
}
