package pilot

import (
	"context"
	"strings"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
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

// nudge lets the loop speak soon.
func (p *Pilot) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// add adds to a request what the conversation does not know: live logs, and what
// the cache holds.
func (p *Pilot) add(r *protocol.ExchangeRequest) {
	if r.Want > 0 {
		r.Cached = p.held()
	}
	r.Cache, r.Way = p.cacheFigures(), p.way()
	size := 0
	for i := range r.Reports {
		size += r.Reports[i].Size()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, a := range p.attempts {
		if progress, said := a.progress(); said && size <= maxReport {
			progress.Lease = id
			r.Progress = append(r.Progress, progress)
			size += progressSize(&progress)
		}
		if a.log == nil || size > maxReport {
			continue
		}
		data, at, err := a.log.ReadFrom(a.told, protocol.MaxLogTail)
		if err == nil && len(data) > 0 {
			r.Logs = append(r.Logs, protocol.LogTail{Lease: id, Offset: at, Data: data})
			size += len(data)
		}
	}
}

// progress is what the payload has said of itself, and the last checkpoint stored.
func (r *running) progress() (p protocol.Progress, said bool) {
	if r.session != nil {
		p, said = r.session.Progress()
	}
	if p.Checkpoint = r.checkpoint; p.Checkpoint != nil {
		said = true
	}
	return p, said
}

// progressSize is about how many bytes it takes in an exchange.
func progressSize(p *protocol.Progress) int {
	n := 40 + len(p.Text)
	if p.Checkpoint != nil {
		n += 80 + len(p.Checkpoint.URL)
	}
	for _, s := range p.Statistics {
		n += len(s.Name) + 12
	}
	return n
}

// lookEvery is how often a pilot looks at what the cache holds, which other
// pilots of the node change, too.
const lookEvery = time.Minute

// way is how coordinators are reached, where they do not see it themselves.
func (p *Pilot) way() *protocol.Way {
	l, ok := p.link.(*Link)
	if !ok {
		return nil
	}
	rung, why := l.Way()
	if rung <= transport.RungQUIC {
		return nil
	}
	return &protocol.Way{Rung: rung.String(), Why: strings.ToValidUTF8(why[:min(len(why), protocol.MaxWhy)], "")}
}

// cacheFigures are what the cache has done, if the coordinators have not heard it.
// Only the loop calls it.
func (p *Pilot) cacheFigures() *protocol.CacheFigures {
	st := p.cache.Stats()
	now := protocol.CacheFigures{
		Hits: st.Hits, Misses: st.Misses, Evicted: st.Evicted, Quarantined: st.Quarantined,
		Saved: st.HitBytes, Neighbour: st.NeighbourBytes, Site: st.SiteBytes, Far: st.FarBytes,
	}
	if now == p.told {
		return nil
	}
	return &now
}

// held are digests the cache held a moment ago. Only the loop calls it.
func (p *Pilot) held() []protocol.Digest {
	if p.looked.IsZero() || time.Since(p.looked) >= lookEvery {
		p.cached, p.looked = p.cache.Held(protocol.MaxCached), time.Now()
	}
	return p.cached
}

// heard takes the answer to a request.
func (p *Pilot) heard(r *protocol.ExchangeRequest, reply *protocol.ExchangeReply) {
	if r.Cache != nil {
		p.told = *r.Cache
	}
	p.change(func(c *Conversation) []Effect {
		// What was cut off is told again: behind a hole, coordinators keep nothing of
		// what was before.
		for _, l := range r.Logs {
			if a := p.attempts[l.Lease]; a != nil {
				a.told = l.Offset + int64(len(l.Data))
			}
		}
		was := c.draining
		effects := c.Heard(p.instant(), reply)
		if c.draining && !was {
			p.logger.Info("draining by order")
		}
		return effects
	})
}
