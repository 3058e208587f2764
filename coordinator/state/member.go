package state

import (
	"fmt"

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

// RemoveMember forgets a coordinator that has left for good.
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
		if old.Address == p.Address && old.Raft == p.Raft {
			return Answer{Reason: "unchanged"}
		}
		next.Joined = old.Joined
	}
	m.members.Set(p.Node, &next)
	return Answer{}
}

func (r *RemoveMember) apply(m *Machine) Answer {
	if _, known := m.members.Delete(r.Node); !known {
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no coordinator %s", r.Node))
	}
	return Answer{}
}

// Member finds a coordinator.
func (r *Record) Member(id protocol.NodeID) (Member, bool) { return value(r.members.Get(id)) }

func (r *RemoveMember) action() (*Action, string, string) {
	return &r.By, "remove coordinator", string(r.Node)
}
