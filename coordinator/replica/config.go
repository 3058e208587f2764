package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"floe/protocol"
)

// Config describes one replica. Zero values of Timing, Limits and PromoteAfter mean
// their defaults.
type Config struct {
	ID      protocol.NodeID // never reused once its storage was lost
	Address string          // how peers reach Stream; kept in the log as this member's address
	Dir     string          // on a local file system; created when missing
	Stream  StreamLayer     // raft's own listener and dialer; closed by the replica
	Machine Machine
	Stamp   Stamper
	Logger  *slog.Logger
	Timing  Timing
	Limits  Limits

	// PromoteAfter is how long a non-voter must have kept up before the leader makes
	// it a voter; negative leaves promotion to Promote. Default 30 s.
	PromoteAfter time.Duration
}

// Timing are raft's clocks. The library's own defaults are too short here because
// heartbeats share a loop with fsync (see transport).
type Timing struct {
	Heartbeat time.Duration // silence after which a follower campaigns
	Election  time.Duration // length of one campaign; at least Heartbeat
	Lease     time.Duration // silence of the majority after which a leader steps down; at most Heartbeat
	Commit    time.Duration // an idle leader's interval of telling the commit index
	RPC       time.Duration // limit of one request between members
}

// DefaultTiming suits members at several sites. Source: research E2.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat: 3 * time.Second, Election: 3 * time.Second, Lease: 2 * time.Second,
		Commit: 50 * time.Millisecond, RPC: 10 * time.Second,
	}
}

// LANTiming suits members in one machine room. Source: research E2.
func LANTiming() Timing {
	t := DefaultTiming()
	t.Heartbeat, t.Election, t.Lease = 1500*time.Millisecond, 1500*time.Millisecond, time.Second
	return t
}

// LoopbackTiming is for members on one machine: demos and tests.
func LoopbackTiming() Timing {
	return Timing{
		Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond, Lease: 250 * time.Millisecond,
		Commit: 20 * time.Millisecond, RPC: 2 * time.Second,
	}
}

// Limits bound what is held in memory, in flight and on disk. Zero means default.
type Limits struct {
	CommandBytes int           // one command; default 256 KiB (I-26)
	Admitted     int           // commands queued or in flight; default 4,096 (I-26)
	InFlight     int           // entries in flight; default 8 (design §3)
	BatchBytes   int           // commands gathered into one entry; default 64 KiB (design §3)
	Gather       time.Duration // longest wait for more commands while entries are in flight or many come at once; default 4 ms

	SnapshotBytes    int64 // entry bytes applied since the last snapshot that trigger one; default 256 MiB
	SnapshotCommands int64 // the same for commands; default 500,000
	RetainBytes      int64 // log kept behind the newest entry; default 512 MiB

	StoreStall time.Duration // longest write before the node stops; default 5 s (I-23)
	Drain      time.Duration // longest hand-over at shutdown; default 5 s (E1.8)
}

// retainEntries is the least number of entries to keep: it must exceed any suffix a
// deposed leader can have in flight, by far (raft#697). Source: design §3.
func (l Limits) retainEntries() uint64 { return 16 * uint64(l.InFlight) }

func (l Limits) withDefaults() Limits {
	orDefault(&l.CommandBytes, 256<<10)
	orDefault(&l.Admitted, 4096)
	orDefault(&l.InFlight, 8)
	orDefault(&l.BatchBytes, 64<<10)
	orDefault(&l.Gather, 4*time.Millisecond)
	orDefault(&l.SnapshotBytes, 256<<20)
	orDefault(&l.SnapshotCommands, 500_000)
	orDefault(&l.RetainBytes, 512<<20)
	orDefault(&l.StoreStall, 5*time.Second)
	orDefault(&l.Drain, 5*time.Second)
	return l
}

func orDefault[T ~int | ~int64](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.withDefaults()
	if c.Timing == (Timing{}) {
		c.Timing = DefaultTiming()
	}
	orDefault(&c.PromoteAfter, 30*time.Second)
	return c
}

// Validate returns all mistakes, joined.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("replica config: "+format, args...))
		}
	}
	check(c.ID != "", "id is empty")
	check(c.Address != "", "address is empty")
	check(c.Dir != "", "dir is empty")
	check(c.Stream != nil, "stream is nil")
	check(c.Machine != nil, "machine is nil")
	check(c.Stamp != nil, "stamp is nil")
	check(c.Logger != nil, "logger is nil")
	t, l := c.Timing, c.Limits
	check(t.Heartbeat > 0 && t.Election >= t.Heartbeat, "election timeout %v is shorter than heartbeat timeout %v", t.Election, t.Heartbeat)
	check(t.Lease > 0 && t.Lease <= t.Heartbeat, "lease %v is not within heartbeat timeout %v", t.Lease, t.Heartbeat)
	check(t.Commit > 0 && t.RPC > 0, "commit and rpc timeouts must be positive")
	check(l.CommandBytes > 0 && l.Admitted > 0 && l.InFlight > 0 && l.BatchBytes > 0 && l.Gather > 0, "admission limits must be positive")
	check(l.SnapshotBytes > 0 && l.SnapshotCommands > 0 && l.RetainBytes > 0, "retention limits must be positive")
	check(l.StoreStall > 0 && l.Drain > 0, "store stall and drain limits must be positive")
	return errors.Join(errs...)
}
