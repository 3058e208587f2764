package history

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"floe/coordinator/state"
	"floe/protocol"
)

// Action is one control action: who did what to which object, why, and what came
// of it.
type Action struct {
	state.ActionTaken
	Time state.RecordTime
	Wall state.UnixMillis

	at position
}

// Index is the log index of the entry that took the action.
func (a *Action) Index() uint64 { return a.at.index }

// ActionQuery asks for control actions, newest first.
type ActionQuery struct {
	// Dataset restricts to actions on one dataset; zero is all.
	Dataset protocol.DatasetID
	// Object restricts to actions on one object, as Action.Object names it; Actor to
	// those of one user. Empty is all.
	Object string
	Actor  protocol.UserID
	Cursor string // Next of the page before
	Limit  int    // 0 is 100
}

// ActionPage is a page of actions, newest first. Next is empty at the end; as with
// AttemptPage, a short page may not be the last.
type ActionPage struct {
	Actions []Action
	Next    string
}

// Actions returns a page of control actions. A bad cursor is an error of
// protocol.CodeBadRequest.
func (l *Ledger) Actions(ctx context.Context, q ActionQuery) (page ActionPage, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	before, err := parsePlace(q.Cursor)
	if err != nil {
		return page, err
	}
	if q.Dataset != 0 {
		q.Object = fmt.Sprintf("dataset %d", q.Dataset)
	}
	err = l.read(func(r *reading) error {
		looked := 0
		return r.newestFirst(tableActions, before, func(row row) (bool, error) {
			body, err := row.event()
			if err != nil {
				return false, err
			}
			if err := ctx.Err(); err != nil {
				return false, err
			}
			b, ok := body.(*state.ActionTaken)
			if ok && (q.Object == "" || b.Object == q.Object) && (q.Actor == "" || b.By.Actor == q.Actor) {
				page.Actions = append(page.Actions, Action{*b, row.time(), row.wall(), row.key().place()})
			}
			if looked++; len(page.Actions) >= q.Limit || looked >= maxLook {
				page.Next = row.key().place().String()
				return false, nil
			}
			return true, nil
		})
	})
	return page, err
}

// newestFirst gives do the rows of a table that is sorted by position alone, from
// before on backwards, until do returns false.
func (r *reading) newestFirst(t table, before position, do func(row) (bool, error)) error {
	s := under([]byte{byte(t)})
	s.to = makeKey(t, protocol.TaskID{}, protocol.LeaseID{}, before) // not itself included
	for _, g := range slices.Backward(r.view.generations) {
		rows := generationRows(r.tx, g.number)
		var err error
		more := true
		g.keys.Descend(s.to, func(k key) bool {
			if k.compare(s.from) < 0 {
				return false
			}
			if k.compare(s.to) < 0 {
				var r row
				if r, err = rowAt(rows, k.place()); err == nil {
					more, err = do(r)
				}
			}
			return more && err == nil
		})
		if !more || err != nil {
			return err
		}
	}
	for _, g := range slices.Backward(r.view.segments) {
		if g.broken != nil {
			return g.broken
		}
		for i := range slices.Backward(g.pages) {
			p := &g.pages[i]
			if !p.touches(s) {
				continue
			}
			rows, err := g.read(p)
			if err != nil {
				return err
			}
			for _, row := range slices.Backward(rows) {
				if row.key().compare(s.to) >= 0 {
					continue
				}
				if more, err := do(row); !more || err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// parsePlace reads a position; an empty text is the end of all.
func parsePlace(s string) (p position, err error) {
	if s == "" {
		return position{1<<64 - 1, 1<<32 - 1}, nil
	}
	if n, err := fmt.Sscanf(s, "%d-%d", &p.index, &p.ordinal); n != 2 || err != nil || p.String() != s {
		return p, protocol.Errorf(protocol.CodeBadRequest, "cursor %s: use one that an earlier page gave", strconv.Quote(s))
	}
	return p, nil
}
