package history

import (
	"floe/coordinator/state"
	"floe/protocol"
)

// withdrawals says, for one task of a dataset, in which jobs accepted attempts were
// taken back, and when last.
type withdrawals struct {
	jobs map[protocol.JobIndex]position
	wide []withdrawnRange
}

type withdrawnRange struct {
	protocol.JobRange
	at position
}

// wideRange is how many jobs a range has at least to be kept as one.
const wideRange = 64

// add notes a withdrawal that is later than all before it.
func (w *withdrawals) add(ranges []protocol.JobRange, at position) {
	for _, r := range ranges {
		if r.Last-r.First >= wideRange {
			w.wide = append(w.wide, withdrawnRange{r, at})
			continue
		}
		for j := r.First; j <= r.Last; j++ {
			w.jobs[j] = at
		}
	}
}

// cover reports whether an attempt of the job, accepted at the position, was taken
// back afterwards.
func (w *withdrawals) cover(j protocol.JobIndex, accepted position) bool {
	if at, ok := w.jobs[j]; ok && accepted.before(at) {
		return true
	}
	for i := len(w.wide) - 1; i >= 0 && accepted.before(w.wide[i].at); i-- {
		if r := &w.wide[i]; r.First <= j && j <= r.Last {
			return true
		}
	}
	return false
}

// withdrawals reads those of a task.
func (r *reading) withdrawals(k taskKey) (*withdrawals, error) {
	w := &withdrawals{jobs: make(map[protocol.JobIndex]position)}
	for row, err := range r.rows(ofTask(tableWithdrawals, k.dataset, k.task), nil) {
		if err != nil {
			return nil, err
		}
		body, err := row.event()
		if err != nil {
			return nil, err
		}
		if b, ok := body.(*state.AttemptsWithdrawn); ok {
			w.add(b.Jobs, row.key().place())
		}
	}
	return w, nil
}
