package glidein

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"floe/glidein/batch"
	"floe/protocol"
)

// remove ends pilot jobs that the coordinator no longer wants.
func (p *Pass) remove(ctx context.Context, ledger *Ledger, stations []*station, launches []protocol.LaunchID, result *Result) {
	for _, launch := range launches {
		job := ledger.Jobs[launch]
		if job == nil || job.BatchID == "" {
			continue
		}
		s := ledger.at(job, stations)
		if s.err != nil {
			continue // whoever asked does not know that it was not seen
		}
		if err := s.speaks(job).Remove(ctx, job.BatchID); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
			p.Logger.Warn("pilot job not removed", "launch", launch, "batch_id", job.BatchID, "err", err)
			continue
		}
		job.Removed = true
		result.Removed = append(result.Removed, launch)
	}
}

// strayPatience is how long a pilot job may run of which no coordinator knows the
// launch lease. Its pilot has left, and has yet to clean up; or nobody lets it in.
const strayPatience = time.Hour

// strays notes which jobs run of which no coordinator knows, and returns those that
// have for too long.
func (l *Ledger) strays(launches []protocol.LaunchID, result *Result) (remove []protocol.LaunchID) {
	for launch, j := range l.Jobs {
		if !slices.Contains(launches, launch) {
			j.Stray = time.Time{}
			continue
		}
		if j.Stray.IsZero() {
			j.Stray = time.Now()
		}
		if time.Since(j.Stray) >= strayPatience {
			remove = append(remove, launch)
		}
	}
	if len(remove) > 0 {
		result.Reasons = append(result.Reasons, fmt.Sprintf("%d pilot jobs are removed that have been running for %v without a launch lease", len(remove), strayPatience))
	}
	slices.Sort(remove)
	return remove
}

// submit turns launch leases into pilot jobs, queue by queue, never more than the
// caps allow, as arrays where the batch system has them. Trouble with one batch
// system keeps no queue of another from its jobs.
// Leases that were not used are not in the ledger when the next pass lists it,
// and one that the batch system refused is found to be gone: either way its
// demand is free again then.
func (p *Pass) submit(ctx context.Context, ledger *Ledger, stations []*station, grants []protocol.LaunchGrant, result *Result) error {
	var all []error
	left, _ := p.siteRoom(result)
	caps := p.budget(stations)
	for _, s := range stations {
		for _, l := range s.lines {
			own := l.grants(grants)
			capped, _ := caps.room(l)
			room := min(l.result.Room, left, capped)
			if len(own) > room {
				p.Logger.Warn("more launch leases than there is room for", "queue", l.Shape(), "granted", len(own), "room", room)
				own = own[:room]
			}
			left -= len(own)
			caps.take(l, len(own))
			if err := p.submitLine(ctx, ledger, l, own, result); err != nil {
				all = append(all, fmt.Errorf("%s: %w", l.Section(), err))
			}
		}
	}
	return errors.Join(all...)
}

// grants are the launch leases of the queue's shape.
func (l *line) grants(all []protocol.LaunchGrant) (own []protocol.LaunchGrant) {
	for _, g := range all {
		if g.Shape == l.Shape() {
			own = append(own, g)
		}
	}
	return own
}

func (p *Pass) submitLine(ctx context.Context, ledger *Ledger, l *line, grants []protocol.LaunchGrant, result *Result) error {
	for some := range slices.Chunk(grants, max(1, l.system.Properties().MaxArray)) {
		err := p.submitTogether(ctx, ledger, l, some, result)
		if errors.Is(err, batch.ErrRefused) {
			// They stay in the ledger: the next pass finds no such jobs and says so.
			for _, g := range some {
				ledger.Jobs[g.Launch].Refused = cut(err.Error(), protocol.MaxEvidence)
			}
			result.Refused = append(result.Refused, fmt.Sprintf("%s: %s: %v", l.Shape(), some[0].Launch, err))
			p.Logger.Error("batch system refused a pilot job", "queue", l.Shape(), "launch", some[0].Launch, "jobs", len(some), "err", err)
			return nil // the next ones would be refused, too
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// submitTogether hands in pilot jobs as one submission. The ledger holds them
// before the batch system does.
func (p *Pass) submitTogether(ctx context.Context, ledger *Ledger, q *line, grants []protocol.LaunchGrant, result *Result) error {
	jobs := make([]batch.Job, len(grants))
	for i, g := range grants {
		job, err := p.prepare(q, g)
		if err != nil {
			return fmt.Errorf("prepare pilot job %s: %w", g.Launch, err)
		}
		jobs[i] = job
	}
	file, err := q.system.WriteSubmitFile(jobs)
	if err != nil {
		return fmt.Errorf("prepare pilot job %s: %w", grants[0].Launch, err)
	}
	for i, g := range grants {
		l := &Launched{Shape: g.Shape, System: q.Where(), Submitted: time.Now()}
		if len(grants) > 1 {
			l.Leader, l.Index = grants[0].Launch, i
		}
		ledger.Jobs[g.Launch] = l
	}
	if err := ledger.save(); err != nil {
		return err
	}
	ids, err := q.system.Submit(ctx, jobs, file)
	if err != nil {
		return fmt.Errorf("submit pilot job: %w", err)
	}
	if len(ids) != len(grants) {
		return fmt.Errorf("submit pilot job: %w: %d jobs handed in, %d ids came back", batch.ErrTransient, len(grants), len(ids))
	}
	for i, g := range grants {
		ledger.Jobs[g.Launch].BatchID = ids[i]
		result.Submitted = append(result.Submitted, g.Launch)
	}
	return nil
}
