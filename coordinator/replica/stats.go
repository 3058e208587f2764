package replica

import (
	"sync/atomic"
	"time"
)

// Stats is a moment's view of a replica, for metrics and health pages. Counters
// count since Open.
type Stats struct {
	State       string // follower, candidate, leader, shutdown
	Leading     bool   // leader with its barrier done
	Term        uint64
	LastIndex   uint64
	CommitIndex uint64
	Applied     uint64
	Snapshot    uint64        // index of the newest snapshot
	LastContact time.Duration // since the leader was heard; 0 on the leader, -1 never

	Commands    uint64 // applied through this node's Propose
	Entries     uint64 // proposed by this node
	Bytes       uint64 // of those entries
	Unknown     uint64 // commands answered ErrUnknown
	Busy        uint64 // commands answered ErrBusy
	Admitted    int    // commands queued or in flight now
	InFlight    int    // entries in flight now
	Reads       uint64 // ReadIndex calls served
	ReadRounds  uint64 // rounds to the majority they took
	Snapshots   uint64 // taken here
	Installs    uint64 // restored, the one at start included
	LogBytes    int64  // of entries kept in the log
	LogWrites   Durations
	TermWrites  Durations
	Commits     Durations // propose to applied, per entry
	SnapshotRun Durations
}

// Durations sums up how long something took.
type Durations struct {
	Count uint64
	Total time.Duration
	Max   time.Duration
}

func (d *Durations) add(t time.Duration) {
	d.Count++
	d.Total += t
	d.Max = max(d.Max, t)
}

// counters are the parts of Stats that several goroutines count.
type counters struct {
	commands, entries, bytes, unknown, busy, reads, readRounds, snapshots, installs atomic.Uint64
}

// Stats returns the present figures. It may be called at any time.
func (r *Replica) Stats() Stats {
	s := Stats{
		State: r.raft.State().String(), Term: r.raft.CurrentTerm(),
		LastIndex: r.raft.LastIndex(), CommitIndex: r.raft.CommitIndex(), Applied: r.Applied(),
		Snapshot: r.fsm.persisted.Load(),
		Commands: r.count.commands.Load(), Entries: r.count.entries.Load(), Bytes: r.count.bytes.Load(),
		Unknown: r.count.unknown.Load(), Busy: r.count.busy.Load(),
		Reads: r.count.reads.Load(), ReadRounds: r.count.readRounds.Load(),
		Snapshots: r.count.snapshots.Load(), Installs: r.count.installs.Load(),
		LogBytes: r.retention.retained(), LogWrites: r.logDog.durations(), TermWrites: r.stableDog.durations(),
	}
	s.Leading = r.IsLeader()
	s.Admitted, s.InFlight = r.proposals.load()
	r.timesMu.Lock()
	s.Commits, s.SnapshotRun = r.commitTimes, r.snapshotTimes
	r.timesMu.Unlock()
	switch contact := r.raft.LastContact(); {
	case s.State == "Leader":
	case contact.IsZero():
		s.LastContact = -1
	default:
		s.LastContact = time.Since(contact)
	}
	return s
}
