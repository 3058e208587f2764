package pilot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"floe/pilot/payload"
	"floe/protocol"
)

// repositories are those of CVMFS that a lease asks for.
func repositories(l *protocol.Lease) (names []string) {
	for _, tag := range l.Granted.Tags {
		if name, ok := strings.CutPrefix(tag, protocol.RepositoryTag("")); ok {
			names = append(names, name)
		}
	}
	return names
}

// findSilent looks whether the repositories of an attempt still answer. Where one does
// not, this is the node's fault, and this pilot takes no more tasks: those that run are
// waited for, and the pilot after it offers what answers then.
func (p *Pilot) findSilent(ctx context.Context, a *Attempt) error {
	names := repositories(a.Lease)
	if len(names) == 0 {
		return nil
	}
	silent := p.config.Silent(ctx, measureOptions(&p.config), names)
	if ctx.Err() != nil {
		clear(silent) // it was not waited for
	}
	if len(silent) == 0 {
		return nil
	}
	name := slices.Sorted(maps.Keys(silent))[0]
	err := fmt.Errorf("%w: %s", errNode, silent[name])
	a.Logger.Error("a repository does not answer any more; no further task is taken", "err", err)
	p.change(func(c *Conversation) []Effect { return c.Retreat() })
	return err
}

// judgeRepositories looks at them again after a failure, which may be theirs: a
// program that waits for a mount that hangs ends by its walltime.
func (p *Pilot) judgeRepositories(ctx context.Context, a *Attempt, report *protocol.Report) {
	switch {
	case a.Obstacle != nil, report.Verdict == protocol.VerdictOK, report.Verdict == protocol.VerdictPreempted, report.Verdict == protocol.VerdictNode:
		return
	case errors.Is(context.Cause(ctx), payload.ErrAbandoned):
		return
	}
	ctx, cancel := p.lasting(ctx, judgeWithin)
	defer cancel()
	if err := p.findSilent(ctx, a); err != nil {
		report.Verdict, report.Evidence = protocol.VerdictNode, evidence(fmt.Errorf("%w; the task: %s", err, report.Evidence))
	}
}
