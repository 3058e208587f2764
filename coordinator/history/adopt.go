package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"floe/coordinator/state"
)

// adoption is a peer's journal, complete on disk, that the writer is to take over.
type adoption struct {
	path  string
	seals []Seal
	old   *bbolt.DB // set by the writer: for the asker to close
	done  chan error
}

// Adopt closes the gap of an open, running ledger with a peer's copy: journal is
// what the peer's WriteJournal wrote, fetch brings the sealed files that are not
// here yet. What was written here after the gap and is not in the copy is added to
// it, from the rows that are here, so the log goes on being applied meanwhile.
// Nothing is replaced before all is here and verified. It answers ErrIncomplete
// where the copy has a gap itself or ends before the gap does, and ErrStopped.
func (l *Ledger) Adopt(ctx context.Context, journal io.Reader, fetch Fetch) error {
	if err := l.adopt(ctx, journal, fetch); err != nil {
		return fmt.Errorf("adopt history: %w", err)
	}
	return nil
}

func (l *Ledger) adopt(ctx context.Context, journal io.Reader, fetch Fetch) error {
	gap, open := l.Gap()
	if !open {
		return nil
	}
	a := &adoption{path: filepath.Join(l.config.Dir, incomingFile), done: make(chan error, 1)}
	var err error
	if a.seals, err = bring(ctx, l.config.Dir, l.config.Logger, journal, gap.To, fetch); err != nil {
		return err
	}
	select {
	case l.adopting <- a:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.stopped:
		return ErrStopped
	}
	if err := <-a.done; err != nil {
		return errors.Join(err, os.Remove(a.path))
	}
	// Queries that had begun on the old journal hold it open until they end.
	return a.old.Close()
}

// adopt makes a peer's journal this ledger's, between two transactions. All that is
// missing in it is written to it before it takes the old one's name: whatever a
// crash leaves is the old ledger with its gap, or the new one without.
func (w *writer) adopt(a *adoption) error {
	l := w.ledger
	l.sealing.Lock()
	defer l.sealing.Unlock()
	db, err := openJournal(a.path)
	if err != nil {
		return err
	}
	next, err := l.successor(db, a.seals)
	if err == nil {
		err = w.bequeath(next)
	}
	if err == nil {
		err = errors.Join(os.Rename(a.path, filepath.Join(l.config.Dir, journalFile)), syncDir(l.config.Dir))
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	a.old = l.view.Load().db
	from := w.standing.Gap
	*w = next.writer
	w.ledger = l
	l.publish(func(v *view) { *v = *next.view.Load() })
	select {
	case l.rotated <- struct{}{}: // there may be generations to seal
	default:
	}
	l.config.Logger.Info("history is complete again: a peer's copy closed the gap", "from", from.From, "to", from.To, "applied", w.standing.Applied)
	return nil
}

// successor is a ledger on another journal in this ledger's directory, which nobody
// else sees yet.
func (l *Ledger) successor(db *bbolt.DB, seals []Seal) (*Ledger, error) {
	v, _, err := loadJournal(db)
	if err != nil {
		return nil, err
	}
	next := &Ledger{config: l.config, codec: l.codec, rotated: make(chan struct{}, 1), changed: make(chan struct{})}
	next.openSegments(v, seals)
	next.view.Store(v)
	next.writer = newWriter(next, v)
	return next, nil
}

// bequeath writes to the successor what this ledger has and it has not: the rows
// after the successor's last index, exactly as they were applied.
func (w *writer) bequeath(next *Ledger) error {
	standing := next.view.Load().standing
	if standing.Gap.To > 0 || standing.Applied < w.standing.Gap.To {
		return fmt.Errorf("%w: it ends at %d, the gap at %d", ErrIncomplete, standing.Applied, w.standing.Gap.To)
	}
	if standing.Applied >= w.standing.Applied {
		return nil
	}
	var pending []batch
	events := 0
	flush := func() error {
		err := next.writer.commit(pending)
		pending, events = nil, 0
		return err
	}
	err := w.ledger.view.Load().db.View(func(tx *bbolt.Tx) error {
		all := tx.Bucket(bucketJournal)
		return all.ForEachBucket(func(name []byte) error { // by log index
			rows := all.Bucket(name).Cursor()
			for at, value := rows.Seek(position{index: standing.Applied + 1}.bytes()); at != nil; at, value = rows.Next() {
				r, err := checked(at, value)
				if err != nil {
					return err
				}
				e, err := eventOf(r)
				if err != nil {
					return err
				}
				if n := len(pending); n == 0 || pending[n-1].index != e.Index {
					if events >= maxCommit {
						if err := flush(); err != nil {
							return err
						}
					}
					pending = append(pending, batch{index: e.Index})
				}
				last := &pending[len(pending)-1]
				last.events = append(last.events, e)
				events++
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	pending = append(pending, batch{index: w.standing.Applied}) // passed over where its rows were the last
	return flush()
}

// eventOf is the event that a row was made of.
func eventOf(r row) (state.Event, error) {
	if err := r.check(); err != nil {
		return state.Event{}, err
	}
	body, err := r.event()
	at := r.key().place()
	return state.Event{Index: at.index, Ordinal: at.ordinal, Time: r.time(), Wall: r.wall(), Body: body}, err
}
