package history

import (
	"encoding/binary"
	"fmt"

	"floe/coordinator/state"
	"floe/protocol"
)

// taskKey names a task of all jobs of a dataset.
type taskKey struct {
	dataset protocol.DatasetID
	task    protocol.TaskIndex
}

func taskOf(t protocol.TaskID) taskKey { return taskKey{t.Dataset, t.Task} }

// fold adds an event to statistics and totals. It is called before the event's own
// row is written.
func (t *transaction) fold(e *state.Event) error {
	switch b := e.Body.(type) {
	case *state.AttemptEnded:
		total, err := t.total(b.Task, b.Site)
		if err != nil {
			return err
		}
		total.count(b.Verdict)
		if !b.Accepted {
			total.Wasted.add(&b.Usage, 1)
			return nil
		}
		total.Used.add(&b.Usage, 1)
		return t.eachStatistic(b, func(a *accumulator, s protocol.Statistic) error {
			a.fold(s.Value)
			return nil
		})
	case *state.UsageWasted:
		// The attempt itself was counted when it ended.
		total, err := t.total(b.Task, b.Site)
		if err != nil {
			return err
		}
		total.Wasted.addUsage(&b.Usage, 1)
	case *state.AttemptsWithdrawn:
		return t.withdraw(b, placeOf(e))
	}
	return nil
}

func (t *transaction) total(task protocol.TaskID, site protocol.SiteID) (*Totals, error) {
	t.key = appendTotalsKey(t.key[:0], taskOf(task), site)
	return t.totals.change(t.tx, t.key)
}

// eachStatistic calls do for the statistics of an attempt. One that the server's
// checks should have refused is passed over, here and when it is withdrawn.
func (t *transaction) eachStatistic(b *state.AttemptEnded, do func(*accumulator, protocol.Statistic) error) error {
	for _, s := range b.Statistics {
		if protocol.CheckStatistic(s) != nil {
			continue
		}
		t.key = appendStatisticKey(t.key[:0], taskOf(b.Task), s.Name)
		a, err := t.statistics.change(t.tx, t.key)
		if err != nil {
			return err
		}
		if err := do(a, s); err != nil {
			return fmt.Errorf("attempt %v of task %v: statistic %s: %w", b.Lease, b.Task, s.Name, err)
		}
	}
	return nil
}

// withdraw takes back what the accepted attempts of a task had added in some jobs.
func (t *transaction) withdraw(b *state.AttemptsWithdrawn, at position) error {
	k := taskKey{b.Dataset, b.Task}
	before, err := t.withdrawals(k)
	if err != nil {
		return err
	}
	var named, found uint64
	for _, r := range b.Jobs {
		named += uint64(r.Last-r.First) + 1
		for row, err := range t.reading().rows(ofJobs(b.Dataset, b.Task, r), nil) {
			if err != nil {
				return err
			}
			if a, err := counted(row, before); err != nil {
				return err
			} else if a != nil {
				if err := t.unfold(a); err != nil {
					return err
				}
				found++
			}
		}
	}
	if found != named {
		t.ledger.config.Logger.Warn("a withdrawal names jobs of which history has no accepted attempt",
			"dataset", uint32(b.Dataset), "task", uint16(b.Task), "named", named, "found", found)
	}
	before.add(b.Jobs, at)
	return nil
}

// counted returns the attempt of a row if it was accepted and is not withdrawn, else
// nil.
func counted(r row, w *withdrawals) (*state.AttemptEnded, error) {
	k := r.key()
	if r.mark()&markAccepted == 0 || w.cover(k.task().Job, k.place()) {
		return nil, nil
	}
	body, err := r.event()
	if err != nil {
		return nil, err
	}
	a, ok := body.(*state.AttemptEnded)
	if !ok {
		return nil, fmt.Errorf("%w: at %v: it is marked as an accepted attempt", errRow, k.place())
	}
	return a, nil
}

func (t *transaction) unfold(a *state.AttemptEnded) error {
	total, err := t.total(a.Task, a.Site)
	if err != nil {
		return err
	}
	total.Used.add(&a.Usage, -1)
	total.Wasted.add(&a.Usage, 1)
	return t.eachStatistic(a, func(acc *accumulator, s protocol.Statistic) error {
		if err := acc.withdraw(s.Value); err != nil {
			return err
		}
		if acc.stale() {
			k := taskOf(a.Task)
			if t.rescans[k] == nil {
				t.rescans[k] = make(map[string]bool)
			}
			t.rescans[k][s.Name] = true
		}
		return nil
	})
}

// rescan seeks the extremes that were withdrawn among what is left. It runs once at
// the end of a transaction, however many attempts were withdrawn in it.
func (t *transaction) rescan() error {
	for k, names := range t.rescans {
		for name := range names {
			a, err := t.statistics.change(t.tx, appendStatisticKey(nil, k, name))
			if err != nil {
				return err
			}
			a.Lowest, a.Highest = extreme{}, extreme{}
		}
		withdrawn, err := t.withdrawals(k)
		if err != nil {
			return err
		}
		for row, err := range t.reading().rows(ofTask(tableAttempts, k.dataset, k.task), nil) {
			if err != nil {
				return err
			}
			a, err := counted(row, withdrawn)
			if err != nil {
				return err
			}
			if a == nil {
				continue
			}
			err = t.eachStatistic(a, func(acc *accumulator, s protocol.Statistic) error {
				if names[s.Name] {
					acc.foldExtremes(s.Value + 0)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// withdrawals returns those of a task, this transaction's included.
func (t *transaction) withdrawals(k taskKey) (*withdrawals, error) {
	if w := t.withdrawn[k]; w != nil {
		return w, nil
	}
	w, err := t.reading().withdrawals(k)
	if err == nil {
		t.withdrawn[k] = w
	}
	return w, err
}

func appendStatisticKey(b []byte, k taskKey, name string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(k.dataset))
	return binary.BigEndian.AppendUint16(append(append(b, name...), 0), uint16(k.task))
}

func appendTotalsKey(b []byte, k taskKey, site protocol.SiteID) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(k.dataset))
	return append(binary.BigEndian.AppendUint16(b, uint16(k.task)), site...)
}
