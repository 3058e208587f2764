package server

import (
	"floe/coordinator/state"
	"floe/protocol"
)

// permits refuses a command that the record's format does not have yet: a
// coordinator of an older release would stop at it.
func (s *Server) permits(c state.Command) error {
	needs, has := state.FormatOf(c), uint32(1)
	if needs == has {
		return nil
	}
	s.Record.Read(func(m *state.Machine) { has = m.Format() })
	if needs > has {
		return protocol.Errorf(protocol.CodeConflict,
			"this needs format %d of the record, which has format %d: bring every coordinator to this release, then run floe cluster upgrade", needs, has)
	}
	return nil
}
