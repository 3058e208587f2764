package replica

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// Only errors by which raft guarantees that an entry never reached a log count as
// "not applied"; everything else is unknown.
func TestFate(t *testing.T) {
	tests := []struct {
		raft       error
		want       error
		notApplied bool
	}{
		{nil, nil, false},
		{raft.ErrNotLeader, ErrNotLeader, true},
		{raft.ErrLeadershipTransferInProgress, ErrNotLeader, true},
		{raft.ErrEnqueueTimeout, ErrBusy, true},
		{raft.ErrLeadershipLost, ErrUnknown, false},
		{raft.ErrAbortedByRestore, ErrUnknown, false},
		{raft.ErrRaftShutdown, ErrUnknown, false},
		{raft.ErrLeader, ErrUnknown, false},
		{errors.New("unable to store logs within log store"), ErrUnknown, false},
	}
	for _, tt := range tests {
		got, notApplied := fate(tt.raft)
		if !errors.Is(got, tt.want) || notApplied != tt.notApplied {
			t.Errorf("fate(%v) = %v, not applied %t; want %v, %t", tt.raft, got, notApplied, tt.want, tt.notApplied)
		}
		if errors.Is(got, ErrUnknown) && !errors.Is(got, tt.raft) {
			t.Errorf("fate(%v) = %v, which hides its cause", tt.raft, got)
		}
	}
}

func TestExitCode(t *testing.T) {
	tests := map[error]int{
		nil: 0, ErrDamaged: 74, ErrLogStore: 74, ErrStableStore: 74, ErrStalled: 74, ErrSnapshotDamaged: 74,
		ErrFileSystem: 78, ErrOtherNode: 78, ErrLocked: 78,
		ErrMachine: 70, ErrAnswers: 70, ErrInstallLoop: 70, ErrTransferStuck: 70, ErrRemoved: 70,
		errors.New("other"): 1,
	}
	for err, want := range tests {
		wrapped := err
		if err != nil {
			wrapped = fmt.Errorf("run replica: %w", err)
		}
		if got := ExitCode(wrapped); got != want {
			t.Errorf("ExitCode(%v) = %d, want %d", wrapped, got, want)
		}
	}
}

func TestConfigNamesAllMistakes(t *testing.T) {
	err := Config{Timing: Timing{Heartbeat: time.Second, Election: time.Millisecond, Lease: time.Minute}}.Validate()
	if !contains(err, "id is empty", "address", "dir", "stream", "machine", "stamp", "logger", "election timeout 1ms", "lease 1m0s", "commit") {
		t.Errorf("Validate = %v, want every mistake named", err)
	}
}

// A transfer that never ends stops the node; one that ends does not.
func TestTransferGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := transferGuard{fuse: newFuse(func() {})}
		for range 10 {
			g.saw(raft.ErrLeadershipTransferInProgress)
			<-time.After(stuckTransfer / 3)
			g.saw(nil)
		}
		if err := g.fuse.err(); err != nil {
			t.Errorf("transfers that end blew the fuse: %v", err)
		}
		for range 5 {
			g.saw(raft.ErrLeadershipTransferInProgress)
			<-time.After(stuckTransfer / 3)
		}
		if err := g.fuse.err(); !errors.Is(err, ErrTransferStuck) {
			t.Errorf("fuse = %v, want ErrTransferStuck", err)
		}
	})
}
