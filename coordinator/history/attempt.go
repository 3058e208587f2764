package history

import (
	"context"
	"encoding/base64"
	"fmt"
	"iter"
	"slices"

	"floe/coordinator/state"
	"floe/protocol"
)

// Attempt is one ended attempt.
type Attempt struct {
	state.AttemptEnded
	// Ended and EndedWall are when the coordinators recorded the end.
	Ended     state.RecordTime
	EndedWall state.UnixMillis
	// Withdrawn says that the attempt was accepted and taken back later.
	Withdrawn bool
	// Uncleaned says that the pilot vanished between its report and the cleaning up.
	Uncleaned bool
	// Late says that Usage is from a report that came after the attempt had ended.
	Late bool
}

// Counts reports whether the attempt is the one of its task that counts.
func (a *Attempt) Counts() bool { return a.Accepted && !a.Withdrawn }

// Public returns the attempt as people's verbs answer it.
func (a *Attempt) Public() protocol.Attempt {
	return protocol.Attempt{
		Lease: a.Lease.String(), Number: a.AttemptEnded.Attempt, Task: a.Task,
		Verdict: a.Verdict, Accepted: a.Accepted, Withdrawn: a.Withdrawn,
		Evidence: a.Evidence, ExitCode: a.ExitCode, Signal: a.Signal,
		Site: a.Site, Pilot: a.Pilot, Host: a.Host,
		Granted: int64(a.GrantedWall), Ended: int64(a.EndedWall),
		Usage: a.Usage, Statistics: a.Statistics, Outputs: a.Outputs, Modules: a.Modules, Log: a.Log,
	}
}

// attempts folds the rows of a span into attempts, in order of their keys.
func (r *reading) attempts(s span, skip func(*pageInfo) bool) iter.Seq2[Attempt, error] {
	return func(yield func(Attempt, error) bool) {
		var current Attempt
		var id [keyPlace]byte
		var ended bool
		var withdrawn *withdrawals
		var of taskKey
		for row, err := range r.rows(s, skip) {
			if err != nil {
				yield(Attempt{}, err)
				return
			}
			k := row.key()
			if k.attempt() != id {
				if ended && !yield(current, nil) {
					return
				}
				current, id, ended = Attempt{}, k.attempt(), false
			}
			if t := taskOf(k.task()); withdrawn == nil || t != of {
				if withdrawn, err = r.withdrawals(t); err != nil {
					yield(Attempt{}, err)
					return
				}
				of = t
			}
			body, err := row.event()
			if err != nil {
				yield(Attempt{}, err)
				return
			}
			switch b := body.(type) {
			case *state.AttemptEnded:
				current.AttemptEnded, ended = *b, true
				current.Ended, current.EndedWall = row.time(), row.wall()
				current.Withdrawn = b.Accepted && withdrawn.cover(b.Task.Job, k.place())
			case *state.UsageWasted:
				current.Usage, current.Late = b.Usage, true
			case *state.AttemptCleaned:
				current.Uncleaned = b.Uncleaned
			}
		}
		if ended {
			yield(current, nil)
		}
	}
}

// Attempts returns the ended attempts of one task, newest last.
func (l *Ledger) Attempts(t protocol.TaskID) (all []Attempt, err error) {
	s := ofJobs(t.Dataset, t.Task, protocol.JobRange{First: t.Job, Last: t.Job})
	err = l.read(func(r *reading) error {
		for a, err := range r.attempts(s, nil) {
			if err != nil {
				return err
			}
			all = append(all, a)
		}
		return nil
	})
	return all, err
}

// Attempt returns the ended attempt of a lease, or false if there is none.
func (l *Ledger) Attempt(id protocol.LeaseID) (found Attempt, ok bool, err error) {
	err = l.read(func(r *reading) error {
		k, known, err := r.find(id)
		if !known || err != nil {
			return err
		}
		prefix := k.attempt()
		for a, err := range r.attempts(under(prefix[:]), nil) {
			if err != nil {
				return err
			}
			found, ok = a, true
		}
		return nil
	})
	return found, ok, err
}

// find seeks a row of a lease. Jobs are pulled in order, so the leases of a page
// are close together and few pages are read.
func (r *reading) find(id protocol.LeaseID) (found key, ok bool, err error) {
	for _, g := range slices.Backward(r.view.generations) {
		g.keys.Scan(func(k key) bool {
			if k.table() == tableAttempts && k.lease() == id {
				found, ok = k, true
			}
			return !ok && k.table() == tableAttempts
		})
		if ok {
			return found, true, nil
		}
	}
	for _, s := range slices.Backward(r.view.segments) {
		if s.broken != nil {
			return key{}, false, s.broken
		}
		for i := range s.pages {
			if !s.pages[i].holds(id) || table(s.pages[i].First[0]) != tableAttempts {
				continue
			}
			rows, err := s.read(&s.pages[i])
			if err != nil {
				return key{}, false, err
			}
			for _, row := range rows {
				if row.key().lease() == id {
					return row.key(), true, nil
				}
			}
		}
	}
	return key{}, false, nil
}

// Outcome says what became of an attempt.
type Outcome uint8

// The outcomes.
const (
	AnyOutcome Outcome = iota
	Counted            // accepted and not withdrawn
	NotCounted         // failed, superseded or withdrawn
	Withdrawn          // accepted and withdrawn
)

// AttemptQuery asks for ended attempts of a dataset. The zero value of each field
// but Dataset does not restrict.
type AttemptQuery struct {
	Dataset  protocol.DatasetID
	Task     *protocol.TaskIndex
	Outcome  Outcome
	Verdicts []protocol.Verdict
	Site     protocol.SiteID
	Cursor   string // Next of the page before
	Limit    int    // 0 is 100
}

// AttemptPage is a page of attempts by task, job and age.
type AttemptPage struct {
	Attempts []Attempt
	// Next continues; it is empty at the end. A page may hold fewer attempts than the
	// limit and still not be the last: one query looks at a bounded number of them.
	Next string
}

// maxLook is how many attempts one query looks at.
const maxLook = 20_000

// AttemptsPage returns a page of the attempts of a dataset. A bad cursor is an
// error of protocol.CodeBadRequest.
func (l *Ledger) AttemptsPage(ctx context.Context, q AttemptQuery) (page AttemptPage, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	s := ofDataset(tableAttempts, q.Dataset)
	if q.Task != nil {
		s = ofTask(tableAttempts, q.Dataset, *q.Task)
	}
	if _, err := s.resume(q.Cursor, 0); err != nil {
		return page, err
	}
	var verdicts uint32
	for _, v := range q.Verdicts {
		verdicts |= 1 << v
	}
	skip := func(p *pageInfo) bool { return verdicts != 0 && p.Verdicts&verdicts == 0 }
	err = l.read(func(r *reading) error {
		looked := 0
		for a, err := range r.attempts(s, skip) {
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if q.matches(&a, verdicts) {
				page.Attempts = append(page.Attempts, a)
			}
			if looked++; len(page.Attempts) >= q.Limit || looked >= maxLook {
				page.Next = cursorAt(&a, nil)
				return nil
			}
		}
		return nil
	})
	return page, err
}

func (q *AttemptQuery) matches(a *Attempt, verdicts uint32) bool {
	switch {
	case verdicts != 0 && verdicts&(1<<a.Verdict) == 0, q.Site != "" && a.Site != q.Site:
		return false
	}
	switch q.Outcome {
	case Counted:
		return a.Counts()
	case NotCounted:
		return !a.Counts()
	case Withdrawn:
		return a.Withdrawn
	default:
		return true
	}
}

// cursorAt names the attempt a page ended with, and what of it was given already.
func cursorAt(a *Attempt, extra []byte) string {
	id := makeKey(tableAttempts, a.Task, a.Lease, position{}).attempt()
	return base64.RawURLEncoding.EncodeToString(append(id[:], extra...))
}

// resume narrows the span to what follows a cursor with so many extra bytes, which
// it returns. With extra bytes the attempt itself is part of the span.
func (s *span) resume(cursor string, extra int) ([]byte, error) {
	if cursor == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) != keyPlace+extra {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "cursor %.80q: use one that an earlier page gave", cursor)
	}
	if from := under(b[:keyPlace]).from; from.compare(s.from) < 0 || from.compare(s.to) > 0 {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "cursor %.80q: it is of another query", cursor)
	}
	if extra == 0 {
		s.startAfter(b)
	} else {
		s.from = under(b[:keyPlace]).from
	}
	return b[keyPlace:], nil
}

func (o Outcome) String() string {
	if names := [...]string{"any", "counted", "not counted", "withdrawn"}; int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("invalid outcome %d", uint8(o))
}
