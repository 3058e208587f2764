package state

import (
	"fmt"

	"floe/protocol"
)

// Format is the newest format of the record that this build knows. It gates
// changes of meaning: a machine follows the format its log raised it to, and a
// cluster that is new is raised to this one at once.
//
//	1  the first
//	2  a coordinator that was removed is remembered, so that nobody comes back
//	   under its name, and changes of members are told as events; tasks that bring
//	   their pilots down are held (I-13) and nodes have a standing (I-14); there is a
//	   catalog of software, and platforms are matched by what runs on them; pilot jobs
//	   that come to nothing cut what their site may launch; sites have policies and
//	   orders of their own
const Format = 2

// formatStanding is the format from which on failures are judged by I-13 and I-14.
const formatStanding = 2

// formatSoftware is the format from which on there is a catalog of software.
const formatSoftware = 2

// formatAllowance is the format from which on shapes of pilot jobs have an allowance.
const formatAllowance = 2

// formatPolicy is the format from which on sites have policies and orders.
const formatPolicy = 2

// newer is a command that records of an older format do not take.
type newer interface {
	// needs is the format of the record that the command needs.
	needs() uint32
}

// FormatOf is the format to which a record must have been raised before c may be
// proposed: a coordinator of an older build would stop at it.
func FormatOf(c Command) uint32 {
	if n, ok := c.(newer); ok {
		return n.needs()
	}
	return 1
}

// takes refuses a command that the record's format does not know yet. A server
// does not propose such a command; this keeps the record sound all the same.
func (m *Machine) takes(c Command) *Answer {
	if f := FormatOf(c); f > m.format {
		a := refuse(protocol.CodeConflict, fmt.Sprintf("this needs format %d of the record, which has format %d", f, m.format))
		return &a
	}
	return nil
}

func (s *SetFormat) apply(m *Machine) Answer {
	switch {
	case s.Format < m.format:
		return refuse(protocol.CodeConflict, fmt.Sprintf("the format is %d already; it is never lowered", m.format))
	case s.Format > m.format:
		m.format = s.Format
		m.emit(&FormatRaised{Format: s.Format})
	}
	return Answer{}
}
