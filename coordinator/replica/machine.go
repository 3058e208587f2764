package replica

import (
	"io"
	"time"

	"floe/protocol"
)

// Machine is the replicated record as the replica drives it. Apply, Snapshot and
// Restore are never called concurrently. A panic in any of them blows the fuse.
type Machine interface {
	// Apply applies one committed entry and returns one answer per command in it.
	// It must be a pure function of the machine's state and its arguments, and must
	// neither keep nor change entry. An error stops the node: refusing a command is
	// an answer, not an error.
	Apply(index, term uint64, entry []byte) (answers []any, err error)

	// Snapshot captures the state in time proportional to the number of its
	// collections; entries wait meanwhile.
	Snapshot() (Snapshot, error)

	// Restore discards all state and reads what Persist wrote, to the end of r. A
	// reader whose bytes were damaged fails with ErrSnapshotDamaged at its end;
	// after any error the state is undefined and another Restore must follow.
	Restore(r io.Reader) error
}

// Snapshot is a captured state, unaffected by later entries.
type Snapshot interface {
	// Persist writes the state, concurrently with later Apply calls. It returns only
	// after everything derived from entries up to the snapshot (the history ledger)
	// is synced: the log is truncated on the strength of it.
	Persist(w io.Writer) error

	// Release is called exactly once, whether or not Persist was.
	Release()
}

// Stamping is what the leader knows when it seals an entry.
type Stamping struct {
	// Term is the leader's term. An entry may still be committed under another one
	// only through a defect below; Apply sees both and can refuse the difference.
	Term uint64

	// First says that Elapsed means nothing: this is the first entry this leader
	// proposes in the term, or the one before was turned away. The machine then
	// advances record time by the clamped difference of wall clocks.
	First bool

	// Elapsed is monotonic time since this leader's previous entry; zero with First.
	Elapsed time.Duration

	// Wall is the leader's wall clock.
	Wall time.Time

	// Commands are the gathered commands in order, at least one. They are valid only
	// during the call and must not be changed.
	Commands [][]byte
}

// Stamper seals gathered commands into one entry. It is called only on a leader,
// outside raft's goroutines, one call at a time. An error turns the commands away:
// they are certainly not applied.
type Stamper func(s Stamping) (entry []byte, err error)

// Receipt is the proof that a command was committed and applied.
type Receipt struct {
	Index   uint64 // of the entry in the log
	Term    uint64 // of the entry
	Ordinal uint32 // of the command within the entry, from 0
	Answer  any    // what the machine's Apply returned for this command
}

// Member is one server of the cluster.
type Member struct {
	ID      protocol.NodeID
	Address string // host and port of its raft listener
	Voter   bool   // a non-voter receives the log and has no say
}
