package history

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"floe/coordinator/state"
)

// writer is the one goroutine that writes rows, and what it keeps between
// transactions.
type writer struct {
	ledger     *Ledger
	standing   standing
	current    *generation // the growing one; its keys are ahead of the view's
	statistics *cache[accumulator, *accumulator]
	totals     *cache[Totals, *Totals]
	withdrawn  map[taskKey]*withdrawals
}

func newWriter(l *Ledger, v *view) writer {
	last := v.generations[len(v.generations)-1]
	return writer{
		ledger: l, standing: v.standing,
		current:    &generation{last.number, last.keys.Copy()},
		statistics: newCache[accumulator](bucketStatistics),
		totals:     newCache[Totals](bucketTotals),
		withdrawn:  make(map[taskKey]*withdrawals),
	}
}

func (w *writer) run(ctx context.Context) error {
	for {
		pending := w.gather(ctx)
		if len(pending) == 0 {
			return nil
		}
		if err := w.commit(pending); err != nil {
			return err
		}
		if err := w.waitForSealer(ctx); err != nil {
			return err
		}
	}
}

// gather waits for log entries and returns those of one transaction; none once ctx
// has ended and the queue is empty.
func (w *writer) gather(ctx context.Context) (pending []batch) {
	for pending == nil {
		select {
		case b := <-w.ledger.queue:
			pending = append(pending, b)
		case a := <-w.ledger.adopting:
			a.done <- w.adopt(a)
		case <-ctx.Done():
			return w.drain(nil)
		}
	}
	timer := time.NewTimer(w.ledger.config.CommitInterval)
	defer timer.Stop()
	for n := len(pending[0].events); n < maxCommit; {
		select {
		case b := <-w.ledger.queue:
			pending = append(pending, b)
			n += len(b.events)
		case <-timer.C:
			return pending
		case <-w.ledger.urgent:
			return w.drain(pending)
		case <-ctx.Done():
			return w.drain(pending)
		}
	}
	return pending
}

// drain adds what is queued at this moment.
func (w *writer) drain(pending []batch) []batch {
	for {
		select {
		case b := <-w.ledger.queue:
			pending = append(pending, b)
		default:
			return pending
		}
	}
}

// waitForSealer keeps the journal bounded when sealing does not keep up.
func (w *writer) waitForSealer(ctx context.Context) error {
	for {
		w.ledger.mu.Lock()
		changed := w.ledger.changed
		w.ledger.mu.Unlock()
		// While there is a gap nothing is sealed, and waiting would not help.
		if v := w.ledger.view.Load(); len(v.generations) <= maxGenerations || v.standing.Gap.To > 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// commit writes log entries and what follows from them in one transaction.
func (w *writer) commit(pending []batch) error {
	// Only this goroutine replaces the journal.
	tx, err := w.ledger.view.Load().db.Begin(true)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing after Commit
	// The sealer cannot commit while tx is open, but it may publish: look once.
	base := w.ledger.view.Load()
	closed := base.generations[:len(base.generations)-1]
	t := &transaction{writer: w, tx: tx, segments: base.segments, closed: closed, rescans: make(map[taskKey]map[string]bool)}
	for i := range pending {
		if err := t.apply(&pending[i]); err != nil {
			return fmt.Errorf("write entry %d: %w", pending[i].index, err)
		}
	}
	if err := t.finish(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	w.statistics.trim()
	w.totals.trim()
	if len(w.withdrawn) > 64 {
		clear(w.withdrawn)
	}
	w.ledger.publish(func(v *view) {
		// The sealer may have taken generations off the front in the meantime.
		v.standing = w.standing
		n := len(v.generations) - 1
		v.generations = append(v.generations[:n:n], t.closed[len(closed):]...)
		v.generations = append(v.generations, &generation{w.current.number, w.current.keys.Copy()})
	})
	if len(t.closed) > len(closed) {
		select {
		case w.ledger.rotated <- struct{}{}:
		default:
		}
	}
	return nil
}

// transaction is one commit in progress.
type transaction struct {
	*writer
	tx       *bbolt.Tx
	segments []*segment
	closed   []*generation               // those closed in this transaction included
	rescans  map[taskKey]map[string]bool // statistics whose extremes were withdrawn
	rows     *bbolt.Bucket               // of the growing generation; nil until it is needed
	key      []byte                      // memory for the key sought last
}

// reading lets the transaction query what it has written so far.
func (t *transaction) reading() *reading {
	all := append(t.closed[:len(t.closed):len(t.closed)], t.current)
	return &reading{view: &view{generations: all, segments: t.segments}, tx: t.tx}
}

func (t *transaction) apply(b *batch) error {
	if b.index <= t.standing.Applied {
		return nil // replayed after a restart
	}
	if b.restored {
		t.restore(b.index)
		return nil
	}
	for i := range b.events {
		if err := t.record(&b.events[i]); err != nil {
			return err
		}
	}
	t.standing.Applied = b.index
	if t.current.keys.Len() >= t.ledger.config.JournalLimit {
		return t.rotate(b.index + 1)
	}
	return nil
}

// restore notes that the events up to the index will never come.
func (t *transaction) restore(index uint64) {
	if t.standing.Gap.From == 0 {
		t.standing.Gap.From = t.standing.Applied + 1
	}
	t.standing.Gap.To = index
	t.standing.Applied = index
	t.ledger.config.Logger.Warn("history has a gap; a peer's copy will close it", "from", t.standing.Gap.From, "to", index)
}

// record writes the row of an event, if it has one, and folds it.
func (t *transaction) record(e *state.Event) error {
	k, keep := rowKey(e)
	if !keep {
		return nil
	}
	if err := t.fold(e); err != nil {
		return err
	}
	r, err := makeRow(k, e)
	if err != nil {
		return err
	}
	if t.rows == nil {
		t.rows = generationRows(t.tx, t.current.number)
		t.rows.FillPercent = 0.95 // keys only rise
	}
	if err := put(t.rows, placeOf(e).bytes(), r); err != nil {
		return err
	}
	t.current.keys.Set(k)
	return nil
}

// rotate closes the growing generation and begins the next at the log index. That
// happens at the same index on every coordinator with the same limit.
func (t *transaction) rotate(next uint64) error {
	if _, err := t.tx.Bucket(bucketJournal).CreateBucket(generationName(next)); err != nil {
		return err
	}
	t.closed = append(t.closed[:len(t.closed):len(t.closed)], t.current)
	t.current, t.rows = newGeneration(next), nil
	return nil
}

func (t *transaction) finish() error {
	if err := t.rescan(); err != nil {
		return err
	}
	if err := t.statistics.flush(t.tx); err != nil {
		return err
	}
	if err := t.totals.flush(t.tx); err != nil {
		return err
	}
	return store(t.tx.Bucket(bucketMeta), keyStanding, t.standing)
}
