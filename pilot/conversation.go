package pilot

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"floe/pilot/payload"
	"floe/protocol"
)

// exchange speaks once; it is cut short when an attempt has something to say.
// Leases granted in an answer that is cut off are sent again: the next exchange
// does not list them.
func (p *Pilot) exchange(ctx context.Context, request *protocol.ExchangeRequest, wait time.Duration) (*protocol.ExchangeReply, error) {
	// Draining must not cut off the reports of what was drained.
	speaking, cancel := p.lasting(ctx, wait+30*time.Second)
	defer cancel()
	if request.Wait > 0 {
		woken := make(chan struct{})
		defer close(woken)
		go func() {
			select {
			case <-p.wake:
				cancel()
			case <-woken:
			}
		}()
		if ctx.Err() == nil {
			stop := context.AfterFunc(ctx, cancel)
			defer stop()
		}
	} else if wait > 0 {
		p.settle(wait)
	}
	return p.link.Exchange(speaking, request)
}

// settle waits until an attempt has something to say, at most for d.
func (p *Pilot) settle(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.wake:
	}
}

func (p *Pilot) pause(failures int) {
	ceiling := min(lastPause, firstPause<<min(failures, 10))
	p.settle(rand.N(ceiling) + 100*time.Millisecond)
}

// unsettled tells whether a reply leaves a report's fate open.
func unsettled(reply *protocol.ExchangeReply) bool {
	return slices.ContainsFunc(reply.Answers, func(a protocol.ReportAnswer) bool {
		return a.Code.Retryable() || a.Code == protocol.CodeInternal
	})
}

// isFatal tells whether speaking again would never help.
func (p *Pilot) isFatal(err error) bool {
	switch protocol.CodeOf(err) {
	case protocol.CodeUnauthorized, protocol.CodeForbidden:
		return true
	}
	return false
}

// nudge lets the loop speak soon.
func (p *Pilot) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// compose lists what is held and what is free. The second result is how long the
// exchange may take, or wait before it speaks where there is nothing new.
func (p *Pilot) compose(idleSince time.Time) (*protocol.ExchangeRequest, time.Duration) {
	cached := p.held() // reads a directory, and so not under the lock
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sequence++
	r := &protocol.ExchangeRequest{Sequence: p.sequence, Free: p.packing.free()}
	size := 0
	for id, a := range p.attempts {
		if a.over || a.settled {
			continue
		}
		r.Held = append(r.Held, protocol.HeldLease{Lease: id, Task: a.lease.Task, Phase: a.phase})
		if a.report != nil && len(r.Reports) < protocol.MaxReports && (size == 0 || size+len(a.report.Body) < maxReport) {
			r.Reports = append(r.Reports, *a.report)
			size += len(a.report.Body)
		}
	}
	slices.SortFunc(r.Held, func(a, b protocol.HeldLease) int { return a.Lease.Compare(b.Lease) })
	for id, a := range p.attempts {
		if a.log == nil || a.phase == protocol.PhaseCleaning || size > maxReport {
			continue
		}
		data, at, err := a.log.ReadFrom(a.told, protocol.MaxLogTail)
		if err == nil && len(data) > 0 {
			r.Logs = append(r.Logs, protocol.LogTail{Lease: id, Offset: at, Data: data})
			size += len(data)
		}
	}
	if !p.draining && r.Free.Cores > 0 && !p.slotIsOver() {
		r.Want = uint16(min(r.Free.Cores, 64))
		r.Cached = cached
	}
	switch {
	case len(r.Reports) > 0:
		return r, 0
	case len(p.attempts) > 0 && r.Want > 0:
		// Renewing and asking: parked for as long as the logs may wait.
		r.Wait = protocol.SecondsOf(p.pace)
		return r, p.pace
	case len(p.attempts) > 0:
		return r, p.pace
	case r.Want > 0:
		wait := min(askWait, max(time.Second, p.config.Idle-time.Since(idleSince)))
		r.Wait = protocol.SecondsOf(wait)
		return r, wait
	}
	return r, time.Second
}

// lookEvery is how often a pilot looks at what the cache holds, which other
// pilots of the node change, too.
const lookEvery = time.Minute

// held are digests the cache held a moment ago. Only the loop calls it.
func (p *Pilot) held() []protocol.Digest {
	if p.looked.IsZero() || time.Since(p.looked) >= lookEvery {
		p.cached, p.looked = p.cache.Held(protocol.MaxCached), time.Now()
	}
	return p.cached
}

// told notes what an answered request told of the logs. What was cut off is told
// again: behind a hole, coordinators keep nothing of what was before.
func (p *Pilot) told(r *protocol.ExchangeRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range r.Logs {
		if a := p.attempts[l.Lease]; a != nil {
			a.told = l.Offset + int64(len(l.Data))
		}
	}
}

// obey follows orders and settles the fate of reports.
func (p *Pilot) obey(reply *protocol.ExchangeReply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range reply.Answers {
		r := p.attempts[a.Lease]
		if r == nil || r.report == nil || a.Code.Retryable() || a.Code == protocol.CodeInternal {
			continue
		}
		if a.Code != protocol.CodeOK {
			p.logger.Warn("report not accepted", "lease", a.Lease, "task", r.lease.Task, "err", a.Code.String()+": "+a.Reason)
		}
		r.report, r.code = nil, a.Code
		r.settled = r.last || a.Code != protocol.CodeOK
		close(r.answer)
		if err := p.spool.Remove(a.Lease); err != nil {
			p.logger.Warn("delivered report stays in the spool", "lease", a.Lease, "err", err)
		}
	}
	for _, o := range reply.Orders {
		switch o.Kind {
		case protocol.OrderAbandon:
			if r := p.attempts[o.Lease]; r != nil && !r.settled {
				p.logger.Warn("attempt abandoned", "lease", o.Lease, "task", r.lease.Task, "err", o.Reason)
				r.stop(payload.ErrAbandoned)
				if r.report != nil {
					// Its fate is known: nobody waits for it any more.
					r.report, r.code, r.settled = nil, protocol.CodeStale, true
					close(r.answer)
					_ = p.spool.Remove(o.Lease)
				}
			}
		case protocol.OrderDrain:
			if !p.draining {
				p.logger.Info("draining", "err", o.Reason)
			}
			p.draining = true
		case protocol.OrderStop:
			p.drainLocked(payload.ErrDrain)
		}
	}
}
