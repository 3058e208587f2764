package replica

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
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
	// Within counts those that took at most as long as the bound at the same place.
	Within [len(DurationBounds)]uint64
}

// DurationBounds are the bounds by which Durations sorts. An alarm asks for the
// share of syncs over 100 ms and of commits over 500 ms. Source: research E2.
var DurationBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

func (d *Durations) add(t time.Duration) {
	d.Count++
	d.Total += t
	d.Max = max(d.Max, t)
	for i := len(DurationBounds) - 1; i >= 0 && t <= DurationBounds[i]; i-- {
		d.Within[i]++
	}
}

// LogFile describes the log's file for metrics.
type LogFile struct {
	First    uint64    // oldest entry kept, 0 where there is none
	Oldest   time.Time // when that was appended by its leader; zero where unknown
	FreeList int       // bytes that bolt's list of free pages takes
}

// LogFile reads what it tells from the file, two entries of it at most.
func (r *Replica) LogFile() (LogFile, error) {
	f := LogFile{FreeList: r.logStore.Stats().FreelistInuse}
	var err error
	if f.First, err = r.logStore.FirstIndex(); err != nil || f.First == 0 {
		return f, err
	}
	// The entry that founded the cluster carries no time.
	for i := f.First; i <= min(f.First+1, r.raft.LastIndex()) && f.Oldest.IsZero(); i++ {
		var entry raft.Log
		if err := r.logStore.GetLog(i, &entry); err != nil {
			return f, err
		}
		f.Oldest = entry.AppendedAt
	}
	return f, nil
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
