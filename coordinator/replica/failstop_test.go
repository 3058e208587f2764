package replica

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// A leader whose storage or machine fails stops being leader, ends with the named
// error and refuses further writes, and the others go on without it.
func TestFailStop(t *testing.T) {
	tests := []struct {
		name string
		harm func(n *node)
		want error
	}{
		{"log write fails", func(n *node) { n.logStore.Close(); n.Propose(context.Background(), []byte("x")) }, ErrLogStore},
		{"log write hangs", func(n *node) {
			go n.logDog.guard("append", func() error { <-time.After(time.Minute); return nil })
		}, ErrStalled},
		{"term write fails", func(n *node) { n.stable.close(); n.stable.SetUint64([]byte(raftTermKey), 99) }, ErrStableStore},
		{"machine fails", func(n *node) { n.Propose(context.Background(), []byte("fail")) }, ErrMachine},
		{"machine panics", func(n *node) { n.Propose(context.Background(), []byte("panic")) }, ErrMachine},
		{"machine leaves a command unanswered", func(n *node) { n.Propose(context.Background(), []byte("mute")) }, ErrAnswers},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3)
				l := c.leader()
				c.propose(l, "before")
				tt.harm(l)
				defer func() { <-time.After(time.Minute) }() // what hangs ends before the bubble does
				err := <-l.ended
				if !errors.Is(err, tt.want) {
					t.Fatalf("Run = %v, want %v", err, tt.want)
				}
				if l.IsLeader() {
					t.Error("the failed node still leads")
				}
				if err := l.fuse.err(); err == nil {
					t.Error("fuse is whole")
				}
				if err := l.logDog.guard("append", func() error { t.Error("a write passed"); return nil }); err == nil {
					t.Error("the log store accepts writes after a failure")
				}
				if errors.Is(tt.want, ErrMachine) { // it poisons every member by design of this test
					return
				}
				c.eventually("the next leader", func() bool {
					for _, n := range c.nodes {
						if n != l && n.IsLeader() {
							return true
						}
					}
					return false
				})
			})
		})
	}
}

// A leader that is removed steps down and ends with ErrRemoved.
func TestRemoveLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		l := c.leader()
		if err := l.Remove(t.Context(), l.config.ID); err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrClosed) {
			t.Errorf("Remove(self) = %v", err)
		}
		if err := <-l.ended; !errors.Is(err, ErrRemoved) {
			t.Errorf("Run = %v, want ErrRemoved", err)
		}
		if next := c.leader(); len(next.Members()) != 2 {
			t.Errorf("Members = %+v, want two", next.Members())
		}
	})
}

// The same snapshot installed again and again without progress stops the node.
func TestInstallLoop(t *testing.T) {
	f := &fsm{machine: &record{}, fuse: newFuse(func() {}), retention: newRetention(Limits{}.withDefaults()), progress: &progress{}, count: &counters{}}
	install := func(index uint64) {
		f.Restore(openSnapshot{ReadCloser: io.NopCloser(sealed(t, "a\n")), meta: &raft.SnapshotMeta{Index: index}})
	}
	apply := func(index uint64) { f.Apply(&raft.Log{Index: index}) }
	for index := uint64(1); index < 10; index++ { // with progress between, or another snapshot each time
		install(index)
		install(index)
		apply(index)
		install(index)
	}
	if err := f.fuse.err(); err != nil {
		t.Fatalf("installs with progress blew the fuse: %v", err)
	}
	for range maxInstalls {
		install(20)
	}
	if err := f.fuse.err(); !errors.Is(err, ErrInstallLoop) {
		t.Errorf("fuse = %v, want ErrInstallLoop", err)
	}
}

// A machine whose restore failed is never applied to; another restore mends it.
func TestRestoreFailure(t *testing.T) {
	f := &fsm{machine: &record{}, fuse: newFuse(func() {}), retention: newRetention(Limits{}.withDefaults()), progress: &progress{}, count: &counters{}}
	bad := sealed(t, "a\n")
	bad.ReadByte() // its first byte is missing
	if err := f.Restore(openSnapshot{ReadCloser: io.NopCloser(bad), meta: &raft.SnapshotMeta{Index: 5}}); !errors.Is(err, ErrSnapshotDamaged) {
		t.Errorf("Restore of damaged bytes = %v, want ErrSnapshotDamaged", err)
	}
	if err := f.Restore(openSnapshot{ReadCloser: io.NopCloser(sealed(t, "a\n")), meta: &raft.SnapshotMeta{Index: 4}}); err != nil {
		t.Errorf("Restore of the older one = %v", err)
	}
	if _, failed := f.Apply(&raft.Log{Index: 5}).(error); failed {
		t.Error("Apply refused after a good restore")
	}
	f.Restore(openSnapshot{ReadCloser: io.NopCloser(bad), meta: &raft.SnapshotMeta{Index: 9}})
	if got, _ := f.Apply(&raft.Log{Index: 10}).(error); !errors.Is(got, ErrMachine) {
		t.Errorf("Apply after a failed restore = %v, want ErrMachine", got)
	}
}
