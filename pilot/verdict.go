package pilot

import (
	"context"
	"errors"
	"strings"

	"floe/pilot/stage"
	"floe/protocol"
)

// Faults that neither payload nor stage has.
var (
	// errDocument: the document asks for what cannot be done.
	errDocument = errors.New("steering document")
	// errNode: the node lacks what it offered.
	errNode = errors.New("node")
	// errFramework: floe itself could not do its part.
	errFramework = errors.New("framework")
)

// verdictOf judges what kept an attempt from running or from leaving its outputs.
// A context that ended decides first.
func verdictOf(ctx context.Context, err error) protocol.Verdict {
	cause := context.Cause(ctx)
	if cause != nil && (errors.Is(err, cause) || errors.Is(err, context.Canceled)) {
		return protocol.VerdictPreempted // by the fence, too, as for a payload that runs
	}
	switch {
	case errors.Is(err, errForbidden):
		return protocol.VerdictPreempted // it costs the task nothing
	case errors.Is(err, errSoftware):
		return protocol.VerdictSoftware
	case errors.Is(err, errNode):
		return protocol.VerdictNode
	case errors.Is(err, errDocument):
		return protocol.VerdictPayload
	}
	if v := stage.Verdict(err); v != 0 {
		return v
	}
	return protocol.VerdictFramework
}

// evidence is an error as a report carries it.
func evidence(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\ufffd")
	if len(text) > protocol.MaxEvidence {
		text = strings.ToValidUTF8(text[:protocol.MaxEvidence-3], "") + "…"
	}
	return text
}
