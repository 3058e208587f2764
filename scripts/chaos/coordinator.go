package main

import (
	"context"
	"sync"
	"syscall"
	"time"

	"floe/protocol"
)

// coordinator is one member of the triplet, and what looks after its process.
type coordinator struct {
	name    string
	host    *host
	dir     string
	log     string
	args    []string
	trace   *trace
	program string
	env     []string
	api     *client // asks this coordinator alone

	mu      sync.Mutex
	process *process // guarded by mu; nil while it is down on purpose
	ends    int      // guarded by mu: how often it ended by itself
}

// up starts the process.
func (c *coordinator) up(more ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		return nil
	}
	p, err := start(c.host, c.env, c.log, c.program, append(c.args, more...)...)
	if err == nil {
		c.process = p
	}
	return err
}

// down kills the process, as losing power does, except that the disk stays.
func (c *coordinator) down() {
	c.mu.Lock()
	p := c.process
	c.process = nil
	c.mu.Unlock()
	if p != nil {
		p.kill()
	}
}

// signal sends the process a signal, if there is one.
func (c *coordinator) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		_ = c.process.Signal(s)
	}
}

// restartAfter is what an operator's service manager waits.
const restartAfter = 2 * time.Second

// keep restarts a process that ended by itself, as a service manager would, and
// tells of it: what floe stops for is a fault, a crash is a defect.
func (c *coordinator) keep(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		ended := c.process != nil && !c.process.running()
		if ended && since.IsZero() {
			since = time.Now()
			c.ends++
			c.trace.fail("%s ended by itself, %v; its last words:\n%s", c.name, c.process.state, tail(c.log, 4))
		}
		again := ended && time.Since(since) > restartAfter
		if again {
			c.process, since = nil, time.Time{}
		}
		c.mu.Unlock()
		if again {
			if err := c.up(); err != nil {
				c.trace.fail("restart %s: %v", c.name, err)
			}
		}
	}
}

// status is what this coordinator says of the cluster.
func (c *coordinator) status(ctx context.Context) (protocol.ClusterReply, error) {
	var r protocol.ClusterReply
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err := c.api.get(ctx, "/v1/cluster", &r)
	return r, err
}

// leadership is who leads, by what the coordinators say.
type leadership struct {
	mu      sync.Mutex
	leader  *coordinator // guarded by mu; the newest known, nil before any was
	term    uint64       // guarded by mu
	changes int          // guarded by mu
}

func (l *leadership) now() *coordinator {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leader
}

func (l *leadership) changed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}

// watch asks all coordinators who leads until ctx ends.
func (l *leadership) watch(ctx context.Context, all []*coordinator, t *trace) {
	var work sync.WaitGroup
	for _, c := range all {
		work.Go(func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				if s, err := c.status(ctx); err == nil {
					l.heard(all, s, t)
				}
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	work.Wait()
}

func (l *leadership) heard(all []*coordinator, s protocol.ClusterReply, t *trace) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Leader == "" || s.Term < l.term || s.Term == l.term && l.leader != nil {
		return
	}
	for _, c := range all {
		if c.name == string(s.Leader) {
			if l.leader != nil && l.leader != c {
				l.changes++
			}
			t.note("%s leads in term %d", c.name, s.Term)
			l.leader, l.term = c, s.Term
		}
	}
}
