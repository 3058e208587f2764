package blob

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"floe/protocol"
)

// Tails keep the ends of the logs of running attempts in the leader's memory, as
// pilots send them. They are bounded per log and in all and lost with the process:
// the stored log of an ended attempt is a blob. All methods may be called
// concurrently.
type Tails struct {
	perLog, total int

	mu    sync.Mutex
	logs  map[protocol.LeaseID]*list.Element // guarded by mu
	order *list.List                         // guarded by mu: of *tail, least recently written first
	bytes int                                // guarded by mu: sum of the capacities
}

// Bounds of Tails. Source: 10,000 running attempts of which a few hundred are
// watched or chatty.
const (
	TailBytes  = 256 << 10
	TailsBytes = 64 << 20
)

type tail struct {
	lease   protocol.LeaseID
	start   int64 // position of data[0] in the whole log
	data    []byte
	sealed  bool
	changed chan struct{} // closed at the next change
}

// NewTails returns an empty store that keeps the last perLog bytes of each log and
// total bytes in all, dropping the least recently written logs. Zeros mean
// TailBytes and TailsBytes.
func NewTails(perLog, total int) *Tails {
	if perLog <= 0 {
		perLog = TailBytes
	}
	if total <= 0 {
		total = TailsBytes
	}
	return &Tails{perLog: perLog, total: max(total, perLog), logs: make(map[protocol.LeaseID]*list.Element), order: list.New()}
}

// Append adds data that stands at offset in the log. What is there already is
// skipped, so a repeated append changes nothing; after a hole only what follows it
// is kept. A sealed log takes nothing more.
func (t *Tails) Append(lease protocol.LeaseID, offset int64, data []byte) error {
	if offset < 0 {
		return fmt.Errorf("log of %v: negative offset %d", lease, offset)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.tailLocked(lease)
	end := l.start + int64(len(l.data))
	switch {
	case l.sealed || offset+int64(len(data)) <= end:
		return nil
	case offset > end:
		l.start, l.data = offset, l.data[:0]
	default:
		data = data[end-offset:]
	}
	before := cap(l.data)
	if spill := len(l.data) + len(data) - t.perLog; spill > 0 {
		l.start += int64(spill)
		if spill >= len(l.data) {
			data = data[spill-len(l.data):]
			l.data = l.data[:0]
		} else {
			l.data = l.data[:copy(l.data, l.data[spill:])]
		}
	}
	l.data = append(l.data, data...)
	t.bytes += cap(l.data) - before
	l.wake()
	for t.bytes > t.total && t.order.Len() > 1 {
		t.removeLocked(t.order.Front())
	}
	return nil
}

// tailLocked returns the tail of a lease, making it if need be, as the most
// recently written one.
func (t *Tails) tailLocked(lease protocol.LeaseID) *tail {
	if e := t.logs[lease]; e != nil {
		t.order.MoveToBack(e)
		return e.Value.(*tail)
	}
	l := &tail{lease: lease, changed: make(chan struct{})}
	t.logs[lease] = t.order.PushBack(l)
	return l
}

func (t *Tails) removeLocked(e *list.Element) {
	l := e.Value.(*tail)
	t.order.Remove(e)
	delete(t.logs, l.lease)
	t.bytes -= cap(l.data)
	l.wake()
}

func (l *tail) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// TailPiece is a part of a live log.
type TailPiece struct {
	Offset int64 // position of Data in the whole log; after the one asked for if that is gone
	Data   []byte
	End    int64 // position after the last byte known
	Sealed bool  // nothing will follow
}

// Read returns up to n bytes from offset on. A negative offset counts from the end.
// It answers ErrNotFound if nothing of the log is held.
func (t *Tails) Read(lease protocol.LeaseID, offset int64, n int) (TailPiece, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.logs[lease]
	if e == nil {
		return TailPiece{}, fmt.Errorf("live log of %v: %w", lease, ErrNotFound)
	}
	l := e.Value.(*tail)
	end := l.start + int64(len(l.data))
	if offset < 0 {
		offset += end
	}
	offset = min(max(offset, l.start), end)
	data := l.data[offset-l.start:]
	if len(data) > n {
		data = data[:max(n, 0)]
	}
	return TailPiece{Offset: offset, Data: append([]byte(nil), data...), End: end, Sealed: l.sealed}, nil
}

// Wait returns once the log reaches beyond offset, is sealed or dropped, or ctx
// ends.
func (t *Tails) Wait(ctx context.Context, lease protocol.LeaseID, offset int64) error {
	for {
		t.mu.Lock()
		e := t.logs[lease]
		if e == nil {
			t.mu.Unlock()
			return fmt.Errorf("live log of %v: %w", lease, ErrNotFound)
		}
		l := e.Value.(*tail)
		done, changed := l.sealed || l.start+int64(len(l.data)) > offset, l.changed
		t.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Seal says that the attempt has ended; its tail stays until it is dropped.
func (t *Tails) Seal(lease protocol.LeaseID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.logs[lease]; e != nil {
		l := e.Value.(*tail)
		l.sealed = true
		l.wake()
	}
}

// Drop forgets a log.
func (t *Tails) Drop(lease protocol.LeaseID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.logs[lease]; e != nil {
		t.removeLocked(e)
	}
}
