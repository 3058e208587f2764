package pilot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"floe/pilot/payload"
	"floe/protocol"
)

// judgeWithin bounds how long cards are looked at after a failure.
const judgeWithin = 3 * time.Minute

// judge looks again at the cards of an attempt that failed. One that is no longer
// sound is retired, and the failure is the node's, not the task's; the node's other
// cards and its cores go on.
func (p *Pilot) judge(ctx context.Context, a *Attempt, report *protocol.Report) {
	switch {
	case len(a.GPUs) == 0, report.Verdict == protocol.VerdictOK, report.Verdict == protocol.VerdictPreempted:
		return
	case errors.Is(context.Cause(ctx), payload.ErrAbandoned):
		return
	}
	ctx, cancel := p.lasting(ctx, judgeWithin)
	defer cancel()
	faults := p.config.Faults(ctx, measureOptions(&p.config), a.GPUs)
	if len(faults) == 0 {
		return
	}
	said := report.Evidence
	for _, id := range slices.Sorted(maps.Keys(faults)) {
		err := fmt.Errorf("card %s: %s", id, faults[id])
		a.Logger.Error("card retired", "err", err)
		report.Verdict, report.Evidence = protocol.VerdictNode, evidence(fmt.Errorf("%w; the task: %s", err, said))
	}
	p.mu.Lock()
	p.talk.Retire(slices.Collect(maps.Keys(faults)))
	p.mu.Unlock()
}
