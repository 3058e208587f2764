package glidein

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"floe/glidein/batch"
	"floe/protocol"
)

// reconcile makes the ledger agree with one batch system: jobs it has are adopted,
// jobs that have ended are cleaned. Where it did not answer, the jobs of the ledger
// are taken to be there, waiting: unknown is not zero.
func (p *Pass) reconcile(ctx context.Context, ledger *Ledger, s *station, result *Result) {
	if s.err != nil {
		for _, j := range ledger.Jobs {
			if ledger.at(j, []*station{s}) == s {
				j.seen, j.System = batch.Queued, s.where
				s.count(j, batch.Queued, result)
			}
		}
		return
	}
	launches := ledger.launches()
	for i := range s.entries {
		e := &s.entries[i]
		if e.Launch == "" || batch.OfRun(e.Launch) {
			continue
		}
		launch, ok := launches[place{e.Launch, e.Index}]
		if !ok {
			launch = stray(e)
		}
		known := ledger.Jobs[launch]
		if e.State == batch.Ended {
			system := s.system()
			if known != nil {
				system = s.speaks(known)
			}
			if p.DryRun {
				continue
			}
			if err := system.Clean(ctx, e.ID, p.knownDir(launch)); err != nil {
				p.Logger.Warn("ended pilot job not cleaned", "launch", launch, "batch_id", e.ID, "err", err)
			}
			continue // not seen: it ends in retireEnded
		}
		if known == nil {
			result.Adopted = append(result.Adopted, launch)
			known = &Launched{Submitted: e.Since}
			if launch != e.Launch {
				known.Leader, known.Index = e.Launch, e.Index
			}
			ledger.Jobs[launch] = known
		}
		if known.seen != 0 {
			continue // listed twice
		}
		known.BatchID, known.System, known.seen = e.ID, s.where, e.State
		if e.State == batch.Running && known.Running.IsZero() {
			known.Running = time.Now()
		}
		result.wait(e)
		s.count(known, e.State, result)
	}
}

// stray is the name under which a job of an array is adopted that the ledger
// does not know: nobody has such a launch lease, so it will be asked to be removed.
func stray(e *batch.Entry) protocol.LaunchID {
	if e.Index == 0 {
		return e.Launch
	}
	return protocol.LaunchID(fmt.Sprintf("%s.%d", e.Launch, e.Index))
}

// retireEnded takes the jobs that no batch system has out of the ledger.
func (p *Pass) retireEnded(ledger *Ledger, stations []*station, result *Result) {
	lost := map[string]int{}
	for _, launch := range slices.Sorted(maps.Keys(ledger.Jobs)) {
		j := ledger.Jobs[launch]
		if j.seen != 0 {
			continue
		}
		if ledger.at(j, stations) == nil {
			lost[j.System]++
		}
		result.Ended = append(result.Ended, launch)
		ledger.Ended = append(ledger.Ended, p.obituary(launch, j, ledger.at(j, stations) == nil))
		delete(ledger.Jobs, launch)
		if p.DryRun {
			continue
		}
		if err := p.retire(launch); err != nil {
			p.Logger.Warn("directory of an ended pilot job stays", "launch", launch, "err", err)
		}
	}
	for where, n := range lost {
		result.Reasons = append(result.Reasons, fmt.Sprintf("%d pilot jobs are forgotten: no queue is in %s any more", n, where))
	}
	slices.Sort(result.Reasons)
	slices.Sort(result.Adopted)
}

// obituary says how a job ended, as far as the pass can know.
func (p *Pass) obituary(launch protocol.LaunchID, j *Launched, forgotten bool) protocol.EndedLaunch {
	e := protocol.EndedLaunch{Launch: launch}
	switch {
	case forgotten:
		e.How, e.Reason = protocol.LaunchRemoved, "no queue of the site is in its batch system any more"
	case j.Refused != "":
		e.How, e.Reason = protocol.LaunchRefused, j.Refused
	case j.Removed:
		e.How, e.Reason = protocol.LaunchRemoved, "a pass removed it"
	case j.BatchID == "":
		e.How, e.Reason = protocol.LaunchUnknown, "its submission was not answered, and the batch system does not have it"
	default:
		e.Reason = lastWords(p.jobDir(launch))
	}
	return e
}

// request says what is here and how much room there is.
func (p *Pass) request(ledger *Ledger, stations []*station, result *Result) *protocol.LaunchRequest {
	r := &protocol.LaunchRequest{Version: protocol.Version, Ended: ledger.Ended, Policy: p.policy}
	silent := map[string]bool{}
	for _, s := range stations {
		silent[s.where] = s.err != nil
	}
	for launch, job := range ledger.Jobs {
		r.Known = append(r.Known, protocol.KnownLaunch{
			Launch: launch, BatchID: string(job.BatchID), Running: job.seen == batch.Running, Unseen: silent[job.System], For: job.runs(),
		})
	}
	slices.SortFunc(r.Known, func(a, b protocol.KnownLaunch) int { return strings.Compare(string(a.Launch), string(b.Launch)) })
	rooms := 0
	for _, s := range stations {
		for _, l := range s.lines {
			rooms += l.result.Room
			r.Shapes = append(r.Shapes, protocol.LaunchShape{
				Name: l.Shape(), Offer: l.offer(), Room: uint32(l.result.Room), Bound: l.result.Bound,
				Running: uint32(l.result.Running), Queued: uint32(l.result.Queued), Held: uint32(l.result.Held), BatchError: cut(l.result.Error, protocol.MaxEvidence),
			})
		}
	}
	if room, bound := p.siteRoom(result); room < rooms {
		r.Room, r.Bound = uint32(room), bound
		if room == 0 {
			for i := range r.Shapes {
				r.Shapes[i].Room, r.Shapes[i].Bound = 0, bound
			}
		}
	}
	if p.Spool != nil {
		reports, err := p.Spool.Pending(protocol.MaxReports)
		if err != nil {
			p.Logger.Warn("spool not read", "err", err)
		}
		r.Reports = fitting(reports, protocol.MaxExchangeBytes-sizeOf(r))
	}
	return r
}

// sizeOf is what a request takes on the wire at most, without its reports.
func sizeOf(r *protocol.LaunchRequest) int {
	size := 32 << 10 // the shapes, and room to spare
	for i := range r.Known {
		size += len(r.Known[i].Launch) + len(r.Known[i].BatchID) + 24
	}
	for i := range r.Ended {
		size += len(r.Ended[i].Launch) + len(r.Ended[i].Reason) + 24
	}
	return size
}

// fitting are the first reports, as many as go into size. The others go with the next
// pass.
func fitting(reports []protocol.SignedReport, size int) []protocol.SignedReport {
	for i := range reports {
		if size -= len(reports[i].Body) + len(reports[i].Signature) + 24; size < 0 {
			return reports[:i]
		}
	}
	return reports
}

func cut(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}
