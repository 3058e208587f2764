package payload

import (
	"floe/pilot/payload/session"
	"floe/protocol"
)

func (r *runner) save([]string) (protocol.ByteSize, error) {
	return 0, session.Errorf(session.CodeRefused, "checkpoints are not kept here")
}
