package glidein

import (
	"context"
	"fmt"
	"math"
	"sync"

	"floe/glidein/batch"
)

// line is one queue in a pass.
type line struct {
	*Queue
	system batch.System
	result *QueueResult
	// program is the pilot to launch; empty is that of the configuration.
	program string
}

// station is one batch system and the queues that the site has in it: it is asked
// once for the jobs of all of them.
type station struct {
	where   string // Queue.Where
	lines   []*line
	entries []batch.Entry
	err     error // it did not answer
}

// system is what the station is asked by, and what it is asked to do to jobs of
// which nobody knows the queue.
func (s *station) system() batch.System { return s.lines[0].system }

// stations opens the batch systems of all queues.
func (p *Pass) stations(result *Result) ([]*station, error) {
	var all []*station
	byWhere := map[string]*station{}
	queues := p.Config.InUse()
	result.Queues = make([]QueueResult, len(queues))
	for i, q := range queues {
		system, err := p.Batch(q)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.Section(), err)
		}
		s := byWhere[q.Where()]
		if s == nil {
			s = &station{where: q.Where()}
			byWhere[s.where] = s
			all = append(all, s)
		}
		result.Queues[i].Name = q.Shape()
		s.lines = append(s.lines, &line{Queue: q, system: system, result: &result.Queues[i]})
	}
	return all, nil
}

// ask asks each batch system for its jobs, all at the same time: one that hangs
// keeps the others from nothing.
func (p *Pass) ask(ctx context.Context, stations []*station, ledger *Ledger) {
	var asking sync.WaitGroup
	for _, s := range stations {
		known := ledger.known(func(j *Launched) bool { return ledger.at(j, stations) == s })
		asking.Go(func() { s.entries, s.err = s.system().Status(ctx, known) })
	}
	asking.Wait()
	for _, s := range stations {
		for _, l := range s.lines {
			if s.err != nil {
				l.result.Error = s.err.Error()
			}
		}
	}
}

// at is the station that has a job; nil where the configuration names none any more.
func (l *Ledger) at(j *Launched, stations []*station) *station {
	for _, s := range stations {
		if s.where == j.System || j.System == "" {
			return s
		}
	}
	return nil
}

// lineOf is the queue of a job; nil where nobody knows it.
func (s *station) lineOf(j *Launched) *line {
	for _, l := range s.lines {
		if l.Shape() == j.Shape {
			return l
		}
	}
	if len(s.lines) == 1 {
		return s.lines[0]
	}
	return nil
}

// speaks is the batch system as the queue of a job is configured to speak to it.
func (s *station) speaks(j *Launched) batch.System {
	if l := s.lineOf(j); l != nil {
		return l.system
	}
	return s.system()
}

// count notes where a job stands. One of which nobody knows the queue counts in
// all those of its batch system: the caps hold whatever it is.
func (s *station) count(j *Launched, state batch.State, result *Result) {
	one := func(running, queued, held *int) {
		switch state {
		case batch.Running:
			*running++
		case batch.Held:
			*held++
		default:
			*queued++
		}
	}
	one(&result.Running, &result.Queued, &result.Held)
	own := s.lineOf(j)
	for _, l := range s.lines {
		if own == nil || own == l {
			one(&l.result.Running, &l.result.Queued, &l.result.Held)
		}
	}
}

// rampStart is by how many a queue may grow in one pass in any case. With a third of
// what runs, which is the default, it takes a few passes to fill a site, and a site
// that is broken wastes few. Source: research/grid-peers.md B3.
const rampStart = 10

// room sets how many more pilot jobs the caps allow in each queue in this pass.
// Held jobs count: a queue whose jobs are held is not given more of them.
func (p *Pass) room(stations []*station) {
	caps := p.budget(stations)
	for _, s := range stations {
		for _, l := range s.lines {
			r := l.result
			if s.err != nil {
				r.Room, r.Bound = 0, "its batch system, which does not answer"
				continue
			}
			r.Room, r.Bound = l.MaxPilots-r.total(), "max_pilots"
			if n := l.MaxQueued - r.Queued - r.Held; n < r.Room {
				r.Room, r.Bound = n, "max_queued"
			}
			if l.PerPass < r.Room {
				r.Room, r.Bound = l.PerPass, "per_pass"
			}
			if n := max(rampStart, r.Running/max(1, l.Ramp)); n < r.Room {
				r.Room, r.Bound = n, "ramp"
			}
			if n, bound := caps.room(l); n < r.Room {
				r.Room, r.Bound = n, bound
			}
			r.Room = max(0, r.Room)
		}
	}
}

// siteRoom is how many more pilot jobs the caps of the whole site allow in this
// pass, and which of them it is.
func (p *Pass) siteRoom(r *Result) (room int, bound string) {
	c := &p.Config.Site
	room = math.MaxInt32
	if n := c.MaxPilots - r.Running - r.Queued - r.Held; c.MaxPilots > 0 && n < room {
		room, bound = n, "site.max_pilots"
	}
	if n := c.MaxQueued - r.Queued - r.Held; c.MaxQueued > 0 && n < room {
		room, bound = n, "site.max_queued"
	}
	if c.PerPass > 0 && c.PerPass < room {
		room, bound = c.PerPass, "site.per_pass"
	}
	return max(0, room), bound
}
