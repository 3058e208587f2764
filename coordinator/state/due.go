package state

import (
	"encoding/binary"

	"github.com/tidwall/btree"

	"floe/protocol"
)

// due orders what expires by record time. It is derived: restoring a snapshot
// rebuilds it.
type due struct {
	keys     deadlines
	launches deadlines
	tickets  deadlines
	tokens   deadlines
	joins    deadlines
	pilots   deadlines // that left
	// nodes are standings to forget, quarantines those that end.
	nodes       deadlines
	quarantines deadlines
}

// maxDue is how much of each kind one entry expires, so that no entry takes long.
const maxDue = 1000

// PilotMemory is how long a pilot that left is remembered, at most MaxLeftPilots
// of them, so that reports from spools can be verified and answered.
const (
	PilotMemory   = 7 * Day
	MaxLeftPilots = 50_000
)

// deadlines orders names by time.
type deadlines struct {
	tree btree.Set[string] // 8 bytes of time, big-endian, and the name
}

func deadline(t RecordTime, name string) string {
	return string(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(name)), uint64(t))) + name
}

func (d *deadlines) add(t RecordTime, name string)    { d.tree.Insert(deadline(t, name)) }
func (d *deadlines) remove(t RecordTime, name string) { d.tree.Delete(deadline(t, name)) }

// popFirst removes the earliest and tells its name; false where there is none.
func (d *deadlines) popFirst(f func(name string)) bool {
	key, found := d.tree.PopMin()
	if found {
		f(key[8:])
	}
	return found
}

// pop removes what is due and tells the names.
func (d *deadlines) pop(now RecordTime, f func(name string)) {
	for range maxDue {
		key, found := d.tree.Min()
		if !found || RecordTime(binary.BigEndian.Uint64([]byte(key[:8]))) > now {
			return
		}
		d.tree.PopMin()
		f(key[8:])
	}
}

// expireDue ends what has expired by now.
func (m *Machine) expireDue() {
	m.due.keys.pop(m.time, func(name string) { m.answered.Delete(name) })
	m.due.tickets.pop(m.time, func(name string) { m.tickets.Delete(name) })
	m.due.joins.pop(m.time, func(name string) { m.joins.Delete(name) })
	m.due.pilots.pop(m.time, m.forgetPilot)
	m.due.quarantines.pop(m.time, m.endQuarantine)
	m.due.nodes.pop(m.time, m.forgetNode)
	m.due.tokens.pop(m.time, func(name string) {
		if t, known := m.tokens.Delete(name); known {
			m.emit(&TokenChanged{Hash: t.Hash, User: t.User})
		}
	})
	m.due.launches.pop(m.time, func(name string) {
		if l, known := m.launches.Get(protocol.LaunchID(name)); known && l.Pilot == "" {
			m.endLaunch(l, EndQuietly, "expired before a pilot enrolled")
		}
	})
}
