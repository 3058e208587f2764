package history

import (
	"errors"
	"fmt"
	"iter"
	"sort"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// reading is a consistent look at journal and sealed files together.
type reading struct {
	view *view
	tx   *bbolt.Tx
}

// read calls do with a consistent look, which ends with the call.
func (l *Ledger) read(do func(*reading) error) error {
	for {
		v := l.view.Load()
		tx, err := v.db.Begin(false)
		if errors.Is(err, berrors.ErrDatabaseNotOpen) && l.view.Load().db != v.db {
			continue // replaced in between
		}
		if err != nil {
			return fmt.Errorf("history: %w", err)
		}
		// A generation may have been sealed between the two. Its sealed file is in
		// the view before its rows are gone, so another look is enough.
		complete := true
		for _, g := range v.generations {
			complete = complete && generationRows(tx, g.number) != nil
		}
		if complete {
			err = do(&reading{v, tx})
		}
		if closeErr := tx.Rollback(); err == nil {
			err = closeErr
		}
		if complete || err != nil {
			return err
		}
	}
}

// source is one sorted run of rows. A nil row is its end.
type source struct {
	head row
	next func() (row, error)
}

// rows returns the rows of a span in order of their keys, whichever file holds
// them. Sealed pages for which skip returns true are passed over unread. A row is
// valid until the reading ends or, in a transaction, writes.
func (r *reading) rows(s span, skip func(*pageInfo) bool) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		var sources []*source
		open := func(next func() (row, error)) bool {
			head, err := next()
			if err != nil {
				yield(nil, err)
				return false
			}
			if head != nil {
				sources = append(sources, &source{head, next})
			}
			return true
		}
		for _, g := range r.view.segments {
			if !open(g.scan(s, skip)) {
				return
			}
		}
		for _, g := range r.view.generations {
			next, stop := g.scan(r.tx, s)
			defer stop()
			if !open(next) {
				return
			}
		}
		merge(sources, yield)
	}
}

// merge yields the rows of sorted runs in order. There are few runs, so the least
// head is sought by looking at all of them.
func merge(sources []*source, yield func(row, error) bool) {
	for len(sources) > 0 {
		least := 0
		for i := 1; i < len(sources); i++ {
			if sources[i].head.key().compare(sources[least].head.key()) < 0 {
				least = i
			}
		}
		from := sources[least]
		if !yield(from.head, nil) {
			return
		}
		var err error
		if from.head, err = from.next(); err != nil {
			yield(nil, err)
			return
		}
		if from.head == nil {
			sources = append(sources[:least], sources[least+1:]...)
		}
	}
}

// scan returns a function that gives the segment's rows of a span one by one.
func (g *segment) scan(s span, skip func(*pageInfo) bool) func() (row, error) {
	if g.broken != nil {
		return func() (row, error) { return nil, g.broken }
	}
	at := sort.Search(len(g.pages), func(i int) bool { return key(g.pages[i].Last).compare(s.from) >= 0 })
	var rows []row
	return func() (row, error) {
		for {
			for len(rows) > 0 {
				r := rows[0]
				rows = rows[1:]
				if k := r.key(); k.compare(s.to) > 0 {
					return nil, nil
				} else if k.compare(s.from) >= 0 {
					return r, nil
				}
			}
			if at >= len(g.pages) || !g.pages[at].touches(s) {
				return nil, nil
			}
			p := &g.pages[at]
			at++
			if skip != nil && skip(p) {
				continue
			}
			var err error
			if rows, err = g.read(p); err != nil {
				return nil, err
			}
		}
	}
}

// scan returns a function that gives the generation's rows of a span one by one,
// and one to call when no more are wanted.
func (g *generation) scan(tx *bbolt.Tx, s span) (next func() (row, error), stop func()) {
	rows := generationRows(tx, g.number)
	keys, stop := iter.Pull(func(yield func(key) bool) {
		g.keys.Ascend(s.from, func(k key) bool { return k.compare(s.to) <= 0 && yield(k) })
	})
	return func() (row, error) {
		k, ok := keys()
		if !ok {
			return nil, nil
		}
		return rowAt(rows, k.place())
	}, stop
}
