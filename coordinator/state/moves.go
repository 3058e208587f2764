package state

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"floe/protocol"
)

// Cause is why a task changed its state.
type Cause uint8

// The causes. The numbers are part of history.
const (
	BySubmit   Cause = iota + 1 // the job was submitted
	ByParents                   // its last parent was copied
	ByGrant                     // a pilot claimed it
	ByLapse                     // its lease fell silent
	ByRevive                    // the holder of its lapsed lease came back
	ByReport                    // its attempt succeeded and the report was accepted
	ByCleaned                   // the holder said that it has cleaned up
	ByFailure                   // its attempt failed
	ByLeave                     // its pilot ended
	ByBadInput                  // a consumer found its output missing or damaged
	ByAncestor                  // an ancestor whose output it needs was reset
	ByReset                     // a person reset it
	BySuspend                   // a person suspended it
	ByResume                    // a person resumed it
	ByNode                      // the node where it failed was to blame
)

var causes = [...]string{"", "submit", "parents", "grant", "lapse", "revive", "report", "cleaned", "failure", "leave", "bad input", "ancestor", "reset", "suspend", "resume", "node"}

func (c Cause) String() string {
	if c == 0 || int(c) >= len(causes) {
		return fmt.Sprintf("invalid cause %d", c)
	}
	return causes[c]
}

// move is one row of the transition table.
type move struct {
	from, to protocol.TaskState
	by       Cause
	when     string // for docs/state-machine.md
}

// moves is every legal change of a task's state. Tasks begin in waiting.
var moves = []move{
	{protocol.TaskWaiting, protocol.TaskQueued, BySubmit, "a new job's task has no parents"},
	{protocol.TaskWaiting, protocol.TaskQueued, ByParents, "the last parent is copied or ok"},
	{protocol.TaskQueued, protocol.TaskProcessing, ByGrant, "a pilot claims it; a lapsed lease ends as lost"},
	{protocol.TaskProcessing, protocol.TaskQueued, ByLapse, "the lease falls silent and lapses; it has not ended yet"},
	{protocol.TaskProcessing, protocol.TaskError, ByLapse, "the lease falls silent and the budget for lost attempts is spent"},
	{protocol.TaskQueued, protocol.TaskProcessing, ByRevive, "the holder of the lapsed lease is back before another claim"},
	{protocol.TaskProcessing, protocol.TaskCopied, ByReport, "success: outputs verified at their destination, statistics counted, children released"},
	{protocol.TaskProcessing, protocol.TaskOK, ByReport, "success, and the report says that nothing is left to clean"},
	{protocol.TaskCopied, protocol.TaskOK, ByCleaned, "the pilot has published the outputs and removed its directory"},
	{protocol.TaskCopied, protocol.TaskOK, ByLapse, "the pilot fell silent while cleaning; outputs stay at their recorded addresses"},
	{protocol.TaskCopied, protocol.TaskOK, ByLeave, "the pilot ended while cleaning"},
	{protocol.TaskProcessing, protocol.TaskQueued, ByFailure, "the attempt failed and the verdict's budget allows another"},
	{protocol.TaskProcessing, protocol.TaskError, ByFailure, "the attempt failed and a budget is spent"},
	{protocol.TaskError, protocol.TaskQueued, ByNode, "its last failure was held against the node, which was quarantined for it"},
	{protocol.TaskProcessing, protocol.TaskQueued, ByLeave, "the pilot left or was revoked"},

	{protocol.TaskCopied, protocol.TaskQueued, ByBadInput, "a consumer found its output missing or damaged"},
	{protocol.TaskCopied, protocol.TaskError, ByBadInput, "the same, and the budget is spent"},
	{protocol.TaskOK, protocol.TaskQueued, ByBadInput, "a consumer found its output missing or damaged"},
	{protocol.TaskOK, protocol.TaskError, ByBadInput, "the same, and the budget is spent"},

	{protocol.TaskQueued, protocol.TaskWaiting, ByAncestor, "an ancestor's accepted attempt was withdrawn"},
	{protocol.TaskProcessing, protocol.TaskWaiting, ByAncestor, "an ancestor's accepted attempt was withdrawn; the lease ends"},
	{protocol.TaskCopied, protocol.TaskWaiting, ByAncestor, "an ancestor's accepted attempt was withdrawn, and this one with it"},
	{protocol.TaskOK, protocol.TaskWaiting, ByAncestor, "an ancestor's accepted attempt was withdrawn, and this one with it"},
	{protocol.TaskError, protocol.TaskWaiting, ByAncestor, "an ancestor's accepted attempt was withdrawn"},

	{protocol.TaskQueued, protocol.TaskQueued, ByReset, "a person resets it; its lapsed lease ends"},
	{protocol.TaskProcessing, protocol.TaskQueued, ByReset, "a person resets it; the lease ends"},
	{protocol.TaskCopied, protocol.TaskQueued, ByReset, "a person resets it; the attempt is withdrawn"},
	{protocol.TaskOK, protocol.TaskQueued, ByReset, "a person resets it; the attempt is withdrawn"},
	{protocol.TaskError, protocol.TaskQueued, ByReset, "a person resets it"},
	{protocol.TaskSuspended, protocol.TaskQueued, ByReset, "a person resets it"},
	{protocol.TaskSuspended, protocol.TaskWaiting, ByReset, "a person resets it while a parent is unfinished"},

	{protocol.TaskWaiting, protocol.TaskSuspended, BySuspend, "a person holds it"},
	{protocol.TaskQueued, protocol.TaskSuspended, BySuspend, "a person holds it; a lapsed lease ends"},
	{protocol.TaskProcessing, protocol.TaskSuspended, BySuspend, "a person holds it; the lease ends"},
	{protocol.TaskError, protocol.TaskSuspended, BySuspend, "a person holds it"},
	{protocol.TaskSuspended, protocol.TaskWaiting, ByResume, "a parent is unfinished"},
	{protocol.TaskSuspended, protocol.TaskQueued, ByResume, "all parents are copied or ok"},
}

// legal holds, for each pair of states, the causes that may lead from one to the
// other, as bits.
var legal = func() (table [protocol.TaskSuspended + 1][protocol.TaskSuspended + 1]uint32) {
	for _, m := range moves {
		table[m.from][m.to] |= 1 << m.by
	}
	return table
}()

// jobSet is one job, or the many of a bitmap.
type jobSet struct {
	one  uint32
	many *roaring.Bitmap
}

func oneJob(j uint32) jobSet            { return jobSet{one: j} }
func manyJobs(b *roaring.Bitmap) jobSet { return jobSet{many: b} }

// move changes the state of a task in some jobs. It is the only function that
// does, and it panics where the table of moves forbids it or the task is not in
// from. The caller settles the jobs afterwards.
func (m *Machine) move(d *dataset, t protocol.TaskIndex, jobs jobSet, from, to protocol.TaskState, by Cause) {
	if legal[from][to]&(1<<by) == 0 {
		panic(fmt.Sprintf("state: task %d.*.%d: illegal move from %v to %v by %v", d.id, t, from, to, by))
	}
	v := &d.tasks[t]
	var left bool
	switch from {
	case protocol.TaskWaiting:
		left = true // in no set
	case protocol.TaskQueued:
		left = m.dequeue(d, t, jobs)
	default:
		left = v.in[from].drop(m.gen, jobs)
	}
	if !left {
		panic(fmt.Sprintf("state: task %d.*.%d: not %v, cannot move to %v by %v", d.id, t, from, to, by))
	}
	switch to {
	case protocol.TaskWaiting:
	case protocol.TaskQueued:
		m.enqueue(d, t, jobs)
	default:
		v.in[to].put(m.gen, jobs)
	}
}
