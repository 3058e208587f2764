package state

import (
	"testing"

	"floe/protocol"
)

// tomorrow is a command of a format that is still to come.
type tomorrow struct {
	Tick
	done bool
}

func (*tomorrow) needs() uint32 { return 2 }
func (c *tomorrow) apply(*Machine) Answer {
	c.done = true
	return Answer{}
}

// A command that needs a newer format than the record's changes nothing.
func TestCommandsWaitForTheirFormat(t *testing.T) {
	m, c := New(), &tomorrow{}
	if f := FormatOf(c); f != 2 {
		t.Errorf("FormatOf = %d, want 2", f)
	}
	if a := m.do(c); a.Code != protocol.CodeConflict || c.done {
		t.Errorf("in format 1: answered %v, done %v; want a conflict", a.Code, c.done)
	}
	m.do(&SetFormat{Format: 2})
	if a := m.do(c); a.Code != protocol.CodeOK || !c.done {
		t.Errorf("in format 2: answered %v, done %v; want it done", a.Code, c.done)
	}
}
