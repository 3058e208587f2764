package history

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"floe/coordinator/state"
	"floe/protocol"
)

// key is where a row stands in sorted order: attempts by dataset, task, job and
// lease, then withdrawals by dataset and task, then actions by position.
//
//	0      table
//	1..4   dataset    big-endian, as all numbers
//	5..6   task
//	7..10  job
//	11..22 lease
//	23..30 log index of the event
//	31..34 ordinal of the event
type key [35]byte

type table byte

// The tables. The numbers are part of the files.
const (
	tableAttempts    table = 1 // AttemptEnded, AttemptCleaned, UsageWasted
	tableWithdrawals table = 2 // AttemptsWithdrawn: job and lease are zero
	tableActions     table = 3 // ActionTaken: only the position is not zero
)

const (
	keyTask  = 1  // offset of dataset and task together
	keyJob   = 7  // offset of the job
	keyLease = 11 // offset of the lease
	keyPlace = 23 // offset of the position
)

// position is where in the log an event stands.
type position struct {
	index   uint64
	ordinal uint32
}

func (p position) before(q position) bool {
	return p.index < q.index || p.index == q.index && p.ordinal < q.ordinal
}

// String writes a position as index-ordinal in decimal, as cursors hold it.
func (p position) String() string { return fmt.Sprintf("%d-%d", p.index, p.ordinal) }

// bytes are the key of the journal.
func (p position) bytes() []byte { return p.append(make([]byte, 0, 12)) }

func (p position) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, p.index), p.ordinal)
}

func placeOf(e *state.Event) position { return position{e.Index, e.Ordinal} }

func makeKey(t table, task protocol.TaskID, lease protocol.LeaseID, at position) (k key) {
	k[0] = byte(t)
	binary.BigEndian.PutUint32(k[1:], uint32(task.Dataset))
	binary.BigEndian.PutUint16(k[5:], uint16(task.Task))
	binary.BigEndian.PutUint32(k[keyJob:], uint32(task.Job))
	id := lease.Bytes()
	copy(k[keyLease:], id[:])
	at.append(k[keyPlace:keyPlace])
	return k
}

func (k key) table() table { return table(k[0]) }

func (k key) dataset() protocol.DatasetID {
	return protocol.DatasetID(binary.BigEndian.Uint32(k[1:]))
}

func (k key) task() protocol.TaskID {
	return protocol.TaskID{
		Dataset: k.dataset(),
		Task:    protocol.TaskIndex(binary.BigEndian.Uint16(k[5:])),
		Job:     protocol.JobIndex(binary.BigEndian.Uint32(k[keyJob:])),
	}
}

func (k key) lease() protocol.LeaseID {
	return protocol.LeaseID{Index: binary.BigEndian.Uint64(k[keyLease:]), Ordinal: binary.BigEndian.Uint32(k[keyLease+8:])}
}

func (k key) place() position {
	return position{binary.BigEndian.Uint64(k[keyPlace:]), binary.BigEndian.Uint32(k[keyPlace+8:])}
}

// attempt is the part of the key that all rows of one attempt share.
func (k key) attempt() [keyPlace]byte { return [keyPlace]byte(k[:]) }

func (k key) compare(l key) int { return bytes.Compare(k[:], l[:]) }

// span is the range of keys from from to to, both included.
type span struct{ from, to key }

// under returns the span of all keys that begin with prefix.
func under(prefix []byte) (s span) {
	copy(s.from[:], prefix)
	n := copy(s.to[:], prefix)
	for i := n; i < len(s.to); i++ {
		s.to[i] = 0xff
	}
	return s
}

// startAfter narrows the span to what follows every key that begins with prefix.
func (s *span) startAfter(prefix []byte) {
	if next := under(prefix).to; s.from.compare(next) <= 0 {
		s.from = next // no row has this key: its ordinal is the highest of all
	}
}

func ofDataset(t table, d protocol.DatasetID) span {
	k := makeKey(t, protocol.TaskID{Dataset: d}, protocol.LeaseID{}, position{})
	return under(k[:5])
}

// ofTask is the span of one task in all jobs.
func ofTask(t table, d protocol.DatasetID, i protocol.TaskIndex) span {
	k := makeKey(t, protocol.TaskID{Dataset: d, Task: i}, protocol.LeaseID{}, position{})
	return under(k[:keyJob])
}

// ofJobs is the span of one task in a range of jobs.
func ofJobs(d protocol.DatasetID, i protocol.TaskIndex, r protocol.JobRange) span {
	first := makeKey(tableAttempts, protocol.TaskID{Dataset: d, Task: i, Job: r.First}, protocol.LeaseID{}, position{})
	last := makeKey(tableAttempts, protocol.TaskID{Dataset: d, Task: i, Job: r.Last}, protocol.LeaseID{}, position{})
	return span{under(first[:keyLease]).from, under(last[:keyLease]).to}
}
