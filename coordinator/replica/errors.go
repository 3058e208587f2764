package replica

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"floe/coordinator/boltfile"
)

// Errors of a proposal, a read or a change of members. All but ErrUnknown mean:
// certainly not applied.
var (
	// ErrNotLeader: this node does not lead, or has not finished its barrier. The
	// error is a *NotLeaderError, which names the leader if one is known.
	ErrNotLeader = errors.New("not the leader")

	// ErrBusy: the admission limit is reached, or raft took no entry for a while.
	ErrBusy = errors.New("too many commands in flight; repeat later")

	// ErrTooLarge: the command is over Limits.CommandBytes.
	ErrTooLarge = errors.New("command too large")

	// ErrClosed: the replica is draining or closed.
	ErrClosed = errors.New("replica is closing")

	// ErrUnknown: the command was handed to raft and its fate is not known here. It
	// may be applied at any later time.
	ErrUnknown = errors.New("outcome unknown; repeat with the same identity")

	// ErrBootstrapped: the cluster exists already.
	ErrBootstrapped = errors.New("already bootstrapped")

	// ErrNoMember: no member has this id.
	ErrNoMember = errors.New("no such member")
)

// Errors that stop the node; Run and Open wrap them.
var (
	// ErrLogStore: writing or truncating the log failed.
	ErrLogStore = errors.New("log store failed")

	// ErrStableStore: writing term or vote failed.
	ErrStableStore = errors.New("stable store failed")

	// ErrStalled: a write to either store took longer than Limits.StoreStall.
	ErrStalled = errors.New("storage stalled")

	// ErrMachine: the machine could not apply, capture or restore.
	ErrMachine = errors.New("machine failed")

	// ErrAnswers: the machine answered another number of commands than were proposed.
	ErrAnswers = errors.New("answers do not match commands")

	// ErrInstallLoop: the leader installs snapshots over and over without progress
	// (raft#697); the node must rejoin under a new id.
	ErrInstallLoop = errors.New("snapshot installed repeatedly without progress")

	// ErrTransferStuck: raft refuses entries for a leadership transfer that never
	// ends (raft#696); a restart clears it.
	ErrTransferStuck = errors.New("leadership transfer stuck")

	// ErrRemoved: this node was removed from the cluster.
	ErrRemoved = errors.New("node removed from the cluster")

	// ErrDamaged: Open found the directory incomplete or inconsistent.
	ErrDamaged = boltfile.ErrDamaged

	// ErrDiskFull: too little of the disk is free to go on (I-24).
	ErrDiskFull = errors.New("disk full")

	// ErrRecordLost: the directory is empty, and this member had a record there.
	ErrRecordLost = errors.New("record lost")

	// ErrSnapshotDamaged: a snapshot's bytes do not match its seal.
	ErrSnapshotDamaged = errors.New("snapshot damaged")

	// ErrLocked: another process has the directory open.
	ErrLocked = errors.New("storage in use by another process")

	// ErrFileSystem: the directory lies on a file system that cannot be trusted with
	// locks and syncs.
	ErrFileSystem = errors.New("unsuitable file system")

	// ErrOtherNode: the directory belongs to another node id.
	ErrOtherNode = errors.New("storage belongs to another node")
)

// NotLeaderError is ErrNotLeader with the leader this node knows of.
type NotLeaderError struct {
	Leader Member // zero when none is known
}

// Error names the leader.
func (e *NotLeaderError) Error() string {
	if e.Leader.ID == "" {
		return "not the leader; no leader is known"
	}
	return fmt.Sprintf("not the leader; %s at %s leads", e.Leader.ID, e.Leader.Address)
}

// Is makes errors.Is(err, ErrNotLeader) true.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// Exit codes of a process whose replica stopped. Source: sysexits.h.
const (
	exitSoftware = 70 // a defect, or a member that must restart or rejoin
	exitIO       = 74 // the storage; the error names the repair
	exitConfig   = 78
)

// ExitCode maps what Open or Run returned to the exit code of the process: 0 for
// nil, 74 for storage, 78 for a directory that should not be used, 70 for the rest
// of the named errors and 1 for anything else.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case isAny(err, ErrDamaged, ErrRecordLost, ErrDiskFull, ErrSnapshotDamaged, ErrLogStore, ErrStableStore, ErrStalled):
		return exitIO
	case isAny(err, ErrFileSystem, ErrOtherNode, ErrLocked):
		return exitConfig
	case isAny(err, ErrMachine, ErrAnswers, ErrInstallLoop, ErrTransferStuck, ErrRemoved):
		return exitSoftware
	}
	return 1
}

// fate maps an error of raft.Apply to ours. notApplied is true only where the
// library guarantees that the entry never reached a log; that depends on
// BatchApplyCh being off for ErrEnqueueTimeout. Whatever is not listed is unknown.
func fate(err error) (mapped error, notApplied bool) {
	switch {
	case err == nil:
		return nil, false
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader, true
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrBusy, true
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err), false
}

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// rejoin is the repair for a member whose own storage cannot be trusted any more.
func rejoin(dir string) string {
	return fmt.Sprintf("remove this member from the cluster (floe cluster remove), move %s away and join again under a new id (floe cluster add)", dir)
}
