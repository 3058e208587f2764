package pilot

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"floe/pilot/stage"
	"floe/protocol"
)

// Faults that neither payload nor stage has.
var (
	// errDocument: the document asks for what cannot be done.
	errDocument = errors.New("steering document")
	// errFramework: floe itself could not do its part.
	errFramework = errors.New("framework")
)

// verdictOf judges what kept an attempt from running or from leaving its outputs.
// The rows are tried in order; a context that ended decides before them.
var verdictTable = []struct {
	err     error
	verdict protocol.Verdict
}{
	{errSoftware, protocol.VerdictSoftware},
	{errDocument, protocol.VerdictPayload},
	{stage.ErrUnsupported, protocol.VerdictPayload},
	{stage.ErrOutput, protocol.VerdictPayload},
	{stage.ErrInput, protocol.VerdictData},
	{stage.ErrStorage, protocol.VerdictSite},
	{syscall.ENOSPC, protocol.VerdictDisk},
	{syscall.EDQUOT, protocol.VerdictDisk},
	{stage.ErrNode, protocol.VerdictNode},
	{errFramework, protocol.VerdictFramework},
}

func verdictOf(ctx context.Context, err error) protocol.Verdict {
	cause := context.Cause(ctx)
	if cause != nil && (errors.Is(err, cause) || errors.Is(err, context.Canceled)) {
		return protocol.VerdictPreempted // by the fence, too, as for a payload that runs
	}
	for _, row := range verdictTable {
		if errors.Is(err, row.err) {
			return row.verdict
		}
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
