package glidein

import (
	"slices"

	"floe/glidein/batch"
	"floe/protocol"
)

// Result is what a pass saw and did.
type Result struct {
	Running   int                 `json:"running"`
	Queued    int                 `json:"queued"`
	Held      int                 `json:"held"`
	Submitted []protocol.LaunchID `json:"submitted,omitempty"`
	Removed   []protocol.LaunchID `json:"removed,omitempty"`
	Ended     []protocol.LaunchID `json:"ended,omitempty"`
	Adopted   []protocol.LaunchID `json:"adopted,omitempty"`
	Refused   []string            `json:"refused,omitempty"`
	// Waiting says, in the batch system's words, why jobs are held or wait.
	Waiting []Waiting `json:"waiting,omitempty"`
	// Queues are what the pass saw of each queue.
	Queues  []QueueResult `json:"queues"`
	Reports int           `json:"reports"`
	Reasons []string      `json:"reasons,omitempty"`
	// Relay says how the site's relay is, where it has one.
	Relay string `json:"relay,omitempty"`
	// Orders are what the site is told to do.
	Orders []protocol.SiteOrder `json:"orders,omitempty"`
	// SubmitFiles are the files that a dry run wrote, one for each queue.
	SubmitFiles []string `json:"submit_files,omitempty"`
}

// QueueResult is what a pass saw of one queue. The numbers of a queue whose batch
// system did not answer are those of the ledger, all of them queued.
type QueueResult struct {
	Name    string `json:"name"`
	Running int    `json:"running"`
	Queued  int    `json:"queued"`
	Held    int    `json:"held"`
	// Room is how many more pilot jobs the caps allow in this pass, and Bound which of
	// them it is.
	Room  int    `json:"room"`
	Bound string `json:"bound,omitempty"`
	// Error says that the batch system did not answer: nothing is launched.
	Error string `json:"error,omitempty"`
}

// total is how many pilot jobs there are.
func (q *QueueResult) total() int { return q.Running + q.Queued + q.Held }

// Waiting is one reason for which pilot jobs do not start.
type Waiting struct {
	State  string      `json:"state"` // queued or held
	Reason string      `json:"reason"`
	Jobs   int         `json:"jobs"`
	First  batch.JobID `json:"first"` // one of them, to look at
}

// wait notes a job that does not start.
func (r *Result) wait(e *batch.Entry) {
	if e.Reason == "" || e.State != batch.Queued && e.State != batch.Held {
		return
	}
	at := slices.IndexFunc(r.Waiting, func(w Waiting) bool { return w.State == e.State.String() && w.Reason == e.Reason })
	if at < 0 {
		at, r.Waiting = len(r.Waiting), append(r.Waiting, Waiting{State: e.State.String(), Reason: e.Reason, First: e.ID})
	}
	r.Waiting[at].Jobs++
}
