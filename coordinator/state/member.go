package state

import (
	"fmt"
	"iter"

	"floe/protocol"
)

// PutMember records where a coordinator is reached, when it joins or moves. Who
// votes is raft's to know.
type PutMember struct {
	Node protocol.NodeID `cbor:"1,keyasint"`
	// Address is host:port of its API, Raft that of its raft listener.
	Address string `cbor:"2,keyasint"`
	Raft    string `cbor:"3,keyasint"`
}

// RemoveMember ends a coordinator that has left for good. From format 2 on its
// name is remembered and never used again, whether it was a member or only had been
// invited: what its disk knew of votes is lost with it (I-25).
type RemoveMember struct {
	By   Action          `cbor:"1,keyasint"`
	Node protocol.NodeID `cbor:"2,keyasint"`
}

// Member is one coordinator as others reach it.
type Member struct {
	Node    protocol.NodeID `cbor:"1,keyasint"`
	Address string          `cbor:"2,keyasint"`
	Raft    string          `cbor:"3,keyasint"`
	Joined  UnixMillis      `cbor:"4,keyasint"`
	// Removed is when it was removed for good; zero while it is a member.
	Removed UnixMillis `cbor:"5,keyasint,omitempty"`
}

// Kind returns the command's number in the log.
func (*PutMember) Kind() Kind { return KindPutMember }

// Kind returns the command's number in the log.
func (*RemoveMember) Kind() Kind { return KindRemoveMember }

// Validate implements Command.
func (p *PutMember) Validate() error {
	var c check
	c.name("coordinator", string(p.Node))
	c.that(p.Address != "" && p.Raft != "", "coordinator %s: no address", p.Node)
	c.text("address", p.Address, MaxLine)
	c.text("raft address", p.Raft, MaxLine)
	return c.err
}

// Validate implements Command.
func (r *RemoveMember) Validate() error {
	var c check
	c.action(&r.By)
	c.name("coordinator", string(r.Node))
	return c.err
}

func (p *PutMember) apply(m *Machine) Answer {
	next := Member{Node: p.Node, Address: p.Address, Raft: p.Raft, Joined: m.wall}
	if old, known := m.members.Get(p.Node); known {
		if old.Removed != 0 {
			return refuse(protocol.CodeConflict, fmt.Sprintf("coordinator %s was removed for good; join under a new name", p.Node))
		}
		if old.Address == p.Address && old.Raft == p.Raft {
			return Answer{Reason: "unchanged"}
		}
		next.Joined = old.Joined
	}
	m.members.Set(p.Node, &next)
	m.emitMember(&next)
	return Answer{}
}

func (r *RemoveMember) apply(m *Machine) Answer {
	if m.format < 2 {
		if _, known := m.members.Delete(r.Node); !known {
			return refuse(protocol.CodeNotFound, fmt.Sprintf("no coordinator %s", r.Node))
		}
		return Answer{}
	}
	gone := Member{Node: r.Node, Removed: max(m.wall, 1)}
	if old, known := m.members.Get(r.Node); known {
		if old.Removed != 0 {
			return Answer{Reason: "removed before"}
		}
		gone.Joined = old.Joined
	}
	m.dropJoins(JoinCoordinator, string(r.Node))
	m.members.Set(r.Node, &gone)
	m.emitMember(&gone)
	return Answer{}
}

func (m *Machine) emitMember(x *Member) {
	if m.format >= 2 {
		m.emit(&MemberChanged{Node: x.Node, Address: x.Address, Raft: x.Raft, Removed: x.Removed != 0})
	}
}

// Member finds a coordinator; one that was removed is none.
func (r *Record) Member(id protocol.NodeID) (Member, bool) {
	m, known := value(r.members.Get(id))
	return m, known && m.Removed == 0
}

// Members yields all coordinators by name, those that were removed included.
func (r *Record) Members() iter.Seq[Member] { return values(r.members.Scan) }

// RemovedMember tells whether a coordinator of this name was removed for good.
func (r *Record) RemovedMember(id protocol.NodeID) bool {
	m, known := r.members.Get(id)
	return known && m.Removed != 0
}

func (r *RemoveMember) action() (*Action, string, string) {
	return &r.By, "remove coordinator", string(r.Node)
}
