package replica

import "sync"

// marksPerLimit is how many marks retention keeps of the log's size: the limit in
// bytes is kept to within one part in this many.
const marksPerLimit = 512

// retention counts the log in bytes and commands, because an entry holds anything
// from one command to a thousand. It answers when a snapshot is due and how many
// entries raft should keep behind the newest.
type retention struct {
	limits Limits
	grain  int64 // bytes between two marks

	mu    sync.Mutex
	marks []mark // guarded by mu; ascending; one per grain of stored entries
	last  uint64 // guarded by mu; newest stored index
	bytes int64  // guarded by mu; stored since the log began, as far as known

	applied, captured load          // guarded by mu; since the last snapshot; at the capture under way
	due               chan struct{} // holds a token while a snapshot is due
}

// mark says how many bytes had been stored up to and including an index.
type mark struct {
	index uint64
	bytes int64
}

type load struct{ bytes, commands int64 }

func newRetention(l Limits) *retention {
	return &retention{limits: l, grain: max(1, l.RetainBytes/marksPerLimit), due: make(chan struct{}, 1)}
}

// stored counts an entry appended to the log.
func (r *retention) stored(index uint64, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = index
	r.bytes += int64(size)
	if n := len(r.marks); n == 0 || r.bytes-r.marks[n-1].bytes >= r.grain {
		r.marks = append(r.marks, mark{index, r.bytes})
	}
}

// deleted forgets a range: the head of the log after a snapshot, or its tail when
// it conflicts with the leader's.
func (r *retention) deleted(low, high uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if high >= r.last { // tail; sizes since the last mark are forgotten with it
		for n := len(r.marks); n > 0 && r.marks[n-1].index >= low; n = len(r.marks) {
			r.marks = r.marks[:n-1]
		}
		r.last = low - 1
		if n := len(r.marks); n > 0 {
			r.bytes = r.marks[n-1].bytes
		}
		return
	}
	n := 0
	for n < len(r.marks) && r.marks[n].index <= high {
		n++
	}
	r.marks = append(r.marks[:0], r.marks[n:]...)
}

// trailing is the number of entries to keep behind the newest: as many as fit in
// RetainBytes, and never fewer than the floor that keeps followers from falling
// into an install loop.
func (r *retention) trailing() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	keep := r.last
	for i := len(r.marks) - 1; i >= 0; i-- {
		if r.bytes-r.marks[i].bytes > r.limits.RetainBytes-r.grain {
			keep = r.last - r.marks[i].index
			break
		}
	}
	return max(keep, r.limits.retainEntries())
}

// retained is the size of the entries behind the newest, to within one mark.
func (r *retention) retained() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.marks) == 0 {
		return 0
	}
	return r.bytes - r.marks[0].bytes
}

// wasApplied counts an entry given to the machine.
func (r *retention) wasApplied(bytes, commands int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied.bytes += int64(bytes)
	r.applied.commands += int64(commands)
	if r.applied.bytes >= r.limits.SnapshotBytes || r.applied.commands >= r.limits.SnapshotCommands {
		select {
		case r.due <- struct{}{}:
		default:
		}
	}
}

// capture remembers what the snapshot under way covers; called between entries.
func (r *retention) capture() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.captured = r.applied
}

// persisted starts the count anew from the last capture.
func (r *retention) persisted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied.bytes -= r.captured.bytes
	r.applied.commands -= r.captured.commands
	r.captured = load{}
}
