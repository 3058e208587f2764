package history

import (
	"encoding/binary"
	"fmt"

	"floe/coordinator/boltfile"
	"floe/coordinator/state"
	"floe/protocol"
)

// A row is one event as journal and sealed pages hold it:
//
//	0..34   key
//	35..42  record time, nanoseconds, big-endian
//	43..50  wall clock, Unix milliseconds, big-endian
//	51      mark: what an ended attempt is sought by, else 0
//	52..    kind and CBOR of the event, as state.EncodeEvent writes them
type row []byte

const (
	rowTime   = len(key{})
	rowWall   = rowTime + 8
	rowMark   = rowWall + 8
	rowHeader = rowMark + 1
)

// mark tells what a row is worth without decoding its event: the verdict of an
// ended attempt in the lower five bits, and two flags.
type mark byte

const (
	markVerdict   mark = 1<<5 - 1
	markAccepted  mark = 1 << 5
	markPermanent mark = 1 << 6 // it has a permanent output
)

func markOf(e *state.Event) mark {
	a, ok := e.Body.(*state.AttemptEnded)
	if !ok {
		return 0
	}
	m := mark(a.Verdict) & markVerdict
	if a.Accepted {
		m |= markAccepted
	}
	for i := range a.Outputs {
		if a.Outputs[i].Type == protocol.FilePermanent {
			m |= markPermanent
		}
	}
	return m
}

func (m mark) verdict() protocol.Verdict { return protocol.Verdict(m & markVerdict) }

var errRow = fmt.Errorf("%w: history row cannot be read", boltfile.ErrDamaged)

func makeRow(k key, e *state.Event) (row, error) {
	body := e.Encoded
	if body == nil {
		var err error
		if body, err = state.EncodeEvent(e.Body); err != nil {
			return nil, err
		}
	}
	r := make(row, 0, rowHeader+len(body)+checksumSize)
	r = append(r, k[:]...)
	r = binary.BigEndian.AppendUint64(r, uint64(e.Time))
	r = binary.BigEndian.AppendUint64(r, uint64(e.Wall))
	r = append(r, byte(markOf(e)))
	return append(r, body...), nil
}

// key of the row; it must be checked before.
func (r row) key() key { return key(r[:rowTime]) }

func (r row) time() state.RecordTime {
	return state.RecordTime(binary.BigEndian.Uint64(r[rowTime:]))
}

func (r row) wall() state.UnixMillis {
	return state.UnixMillis(binary.BigEndian.Uint64(r[rowWall:]))
}

func (r row) mark() mark { return mark(r[rowMark]) }

func (r row) event() (state.EventBody, error) {
	e, err := state.DecodeEvent(r[rowHeader:])
	if err != nil {
		k := r.key()
		return nil, fmt.Errorf("%w: at %v: %w", errRow, k.place(), err)
	}
	return e, nil
}

// check refuses bytes that are too short or of no known table.
func (r row) check() error {
	if len(r) <= rowHeader {
		return fmt.Errorf("%w: %d bytes, want more than %d", errRow, len(r), rowHeader)
	}
	if t := table(r[0]); t < tableAttempts || t > tableActions {
		return fmt.Errorf("%w: unknown table %d", errRow, t)
	}
	return nil
}

// rowKey returns where an event is kept, or false for one that history does not
// keep.
func rowKey(e *state.Event) (key, bool) {
	at := placeOf(e)
	switch b := e.Body.(type) {
	case *state.AttemptEnded:
		return makeKey(tableAttempts, b.Task, b.Lease, at), true
	case *state.UsageWasted:
		return makeKey(tableAttempts, b.Task, b.Lease, at), true
	case *state.AttemptCleaned:
		// That a pilot cleaned up is the rule; only the exception is worth a row.
		return makeKey(tableAttempts, b.Task, b.Lease, at), b.Uncleaned
	case *state.AttemptsWithdrawn:
		return makeKey(tableWithdrawals, protocol.TaskID{Dataset: b.Dataset, Task: b.Task}, protocol.LeaseID{}, at), true
	case *state.ActionTaken:
		return makeKey(tableActions, protocol.TaskID{}, protocol.LeaseID{}, at), true
	}
	return key{}, false
}
