package state

import (
	"fmt"

	"github.com/tidwall/btree"

	"floe/protocol"
)

// generation counts snapshots. An object of an older generation is shared with a
// Frozen and must be copied before it is changed.
type generation uint64

// Record is what the coordinators agree on, for reading. Its methods return
// values, never what the record itself holds.
type Record struct {
	index  uint64 // of the last applied entry
	term   uint64 // of its proposer
	time   RecordTime
	wall   UnixMillis
	format uint32
	next   protocol.DatasetID // the number of the next dataset

	datasets *btree.Map[protocol.DatasetID, *dataset]
	pilots   *btree.Map[protocol.PilotID, *Pilot]
	sites    *btree.Map[protocol.SiteID, *Site]
	launches *btree.Map[protocol.LaunchID, *Launch]
	users    *btree.Map[protocol.UserID, *User]
	members  *btree.Map[protocol.NodeID, *Member]
	nodes    *btree.Map[string, *Node] // by nodeKey; those in good standing are not there
	// Keyed by the digest's 32 bytes.
	tickets *btree.Map[string, *Ticket]
	tokens  *btree.Map[string, *Token]
	joins   *btree.Map[string, *JoinToken]
	// software is keyed by name, version and platform, publishers by their key.
	software   *btree.Map[string, *Software]
	publishers *btree.Map[string, *Publisher]
	release    *Release // of the pilot; nil is none
	// answered remembers what keyed commands were answered.
	answered *btree.Map[string, *answered]

	running uint64 // pilots that have not left
	leases  uint64 // current leases of all datasets
}

// Machine applies the log to its record. See the package's documentation for
// who may call what when.
type Machine struct {
	Record
	gen   generation
	ready ready
	due   due

	// Of the entry being applied.
	nonce    Nonce
	ordinal  uint32 // of the next lease
	events   []Event
	released []release

	// recent is the pilot that was changed last: the commands of a pilot come together,
	// and each asks for it several times. Nil where there is none.
	recent *Pilot
	// keys is memory for lists that live no longer than one call.
	keys []uint64
}

// New returns an empty machine.
func New() *Machine {
	return &Machine{
		gen:   1,
		ready: newReady(),
		Record: Record{
			format:   1,
			next:     1,
			datasets: new(btree.Map[protocol.DatasetID, *dataset]),
			pilots:   new(btree.Map[protocol.PilotID, *Pilot]),
			sites:    new(btree.Map[protocol.SiteID, *Site]),
			launches: new(btree.Map[protocol.LaunchID, *Launch]),
			users:    new(btree.Map[protocol.UserID, *User]),
			members:  new(btree.Map[protocol.NodeID, *Member]),
			nodes:    new(btree.Map[string, *Node]),
			tickets:  new(btree.Map[string, *Ticket]),
			tokens:   new(btree.Map[string, *Token]),
			joins:    new(btree.Map[string, *JoinToken]),
			answered: new(btree.Map[string, *answered]),

			software:   new(btree.Map[string, *Software]),
			publishers: new(btree.Map[string, *Publisher]),
		},
	}
}

// Apply applies the entry at a log index, which was committed under term. It
// returns one answer per command, in order, and what happened.
//
// An entry at or before the last applied index was applied already: it changes
// nothing and both lists are empty. Where the proposer's term is not the
// committed one the entry is a ghost of a lost leadership: every command is
// answered CodeUnknown and nothing changes.
//
// An error means that the entry cannot be understood. The record is unchanged and
// the node must stop. A panic means a broken invariant.
func (m *Machine) Apply(index, term uint64, entry []byte) (answers []Answer, events []Event, err error) {
	if index <= m.index {
		return nil, nil, nil
	}
	e, err := DecodeEntry(entry)
	if err != nil {
		return nil, nil, fmt.Errorf("apply entry %d: %w", index, err)
	}
	commands := make([]Command, len(e.Commands))
	for i, b := range e.Commands {
		if commands[i], err = DecodeCommand(b); err != nil {
			return nil, nil, fmt.Errorf("apply entry %d: command %d: %w", index, i+1, err)
		}
		if f, raises := commands[i].(*SetFormat); raises && f.Format > Format {
			return nil, nil, fmt.Errorf("apply entry %d: %w: format %d", index, ErrUnknownCommand, f.Format)
		}
	}
	answers = make([]Answer, len(commands))
	m.index = index
	if e.Term != term {
		for i := range answers {
			answers[i] = refuse(protocol.CodeUnknown, "ghost: proposed in another term than it was committed in")
		}
		return answers, nil, nil
	}

	m.nonce, m.ordinal = e.Nonce, 0
	m.events, m.released = make([]Event, 0, 3*len(commands)/2+1), m.released[:0]
	m.advance(e)
	m.expireDue()
	for i, c := range commands {
		answers[i] = m.do(c)
	}
	m.announceReleased()
	events, m.events = m.events, nil
	return answers, events, nil
}

// maxElapsed keeps a broken clock from running record time over its end.
const maxElapsed = 366 * Day

// advance moves record time on.
func (m *Machine) advance(e *Entry) {
	elapsed := min(e.Elapsed, maxElapsed)
	if e.First {
		step := RecordTime(e.Wall-m.wall) * (Second / 1000)
		if m.wall == 0 {
			step = 0 // the cluster's first entry
		}
		elapsed = min(max(step, 0), MaxWallStep)
		m.emit(&LeaderChanged{Term: e.Term, Step: step, Clamped: step > MaxWallStep || step < -MaxWallBack})
	}
	m.term = e.Term
	m.time += elapsed
	m.wall = e.Wall
}

// do carries out one command: the control actions among them once per key and
// with an audit record.
func (m *Machine) do(c Command) Answer {
	if refused := m.takes(c); refused != nil {
		return *refused
	}
	action, isAction := c.(control)
	if !isAction {
		return c.apply(m)
	}
	by, verb, object := action.action()
	if a, repeated := m.answerAgain(by, c.Kind()); repeated {
		return a
	}
	a := c.apply(m)
	m.remember(by, c.Kind(), &a)
	if a.Dataset != 0 {
		object = datasetObject(a.Dataset)
	}
	m.emit(&ActionTaken{By: *by, Verb: verb, Object: object, Code: a.Code, Answer: a.Reason, Moved: a.Moved})
	return a
}

func (m *Machine) emit(body EventBody) {
	m.events = append(m.events, Event{
		Index: m.index, Ordinal: uint32(len(m.events)),
		Time: m.time, Wall: m.wall, Body: body,
	})
}

// dataset returns a dataset for changing, nil where there is none.
func (m *Machine) dataset(id protocol.DatasetID) *dataset {
	d, known := m.datasets.Get(id)
	if !known {
		return nil
	}
	if d.gen != m.gen {
		d = d.clone(m.gen)
		m.datasets.Set(id, d)
	}
	return d
}

// pilot returns a pilot for changing, nil where there is none.
func (m *Machine) pilot(id protocol.PilotID) *Pilot {
	if p := m.recent; p != nil && p.ID == id && p.gen == m.gen {
		return p
	}
	p, known := m.pilots.Get(id)
	if !known {
		return nil
	}
	if p.gen != m.gen {
		p = p.clone()
		p.gen = m.gen
		m.pilots.Set(id, p)
	}
	m.recent = p
	return p
}

// site returns a site for changing, nil where there is none.
func (m *Machine) site(id protocol.SiteID) *Site {
	s, known := m.sites.Get(id)
	if !known {
		return nil
	}
	if s.gen != m.gen {
		c := *s
		c.gen = m.gen
		s = &c
		m.sites.Set(id, s)
	}
	return s
}

func (c *Checkpoint) apply(m *Machine) Answer {
	m.emit(&CheckpointTaken{})
	return Answer{}
}

func (*Tick) apply(*Machine) Answer { return Answer{} }
