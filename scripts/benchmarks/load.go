package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"floe/protocol"
)

// oneTask is a dataset of jobs that are one task of one core.
const oneTask = `version: "3"
title: load
tasks:
  - name: work
    requirements: {cpu: 1, memory: 1, disk: 1}
    trays: [{name: tray, modules: [{name: nothing, src: /bin/true}]}]
`

// load is pilots at work: each reports what it was granted and asks for as much.
type load struct {
	done      atomic.Int64 // accepted reports
	exchanges atomic.Int64 // answered
	forwarded atomic.Int64 // of them, by others than the leader
	trips     times        // of exchanges

	mu   sync.Mutex
	errs map[string]int // guarded by mu: what went wrong and was tried again

	// accepted, where not nil, is told of every accepted report. It may be called
	// concurrently.
	accepted func(protocol.Lease)
}

// drive has all pilots work until ctx ends.
func (l *load) drive(ctx context.Context, pilots []*simulated, slots int) {
	var work sync.WaitGroup
	for _, p := range pilots {
		work.Go(func() {
			for ctx.Err() == nil {
				if err := l.turn(ctx, p, slots, time.Minute); err != nil && ctx.Err() == nil {
					l.note(err)
					pause(ctx, retryPause)
				}
			}
		})
	}
	work.Wait()
}

// retryPause keeps simulated pilots from asking in vain all the time.
const retryPause = 100 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// note counts what went wrong, by what it was.
func (l *load) note(err error) {
	text := "no answer"
	var refused *protocol.Error
	switch {
	case errors.Is(err, errUnsettled):
		text = err.Error()
	case errors.As(err, &refused):
		text = refused.Code.String()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.errs == nil {
		l.errs = map[string]int{}
	}
	l.errs[text]++
}

// repeated is what was tried again, for people.
func (l *load) repeated() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errs) == 0 {
		return "none"
	}
	var all string
	for _, text := range slices.Sorted(maps.Keys(l.errs)) {
		all += fmt.Sprintf("%d × %s ", l.errs[text], text)
	}
	return all
}

// turn is one exchange: the reports on what is held and the wish for as much.
func (l *load) turn(ctx context.Context, p *simulated, slots int, wait time.Duration) error {
	reports, err := p.reportAll()
	if err != nil {
		return err
	}
	began := time.Now()
	accepted, err := p.exchange(ctx, reports, slots, wait)
	if l.accepted != nil {
		for _, lease := range accepted {
			l.accepted(lease)
		}
	}
	l.done.Add(int64(len(accepted)))
	if err != nil {
		return err
	}
	l.trips.add(time.Since(began))
	l.exchanges.Add(1)
	if p.leader != "" && p.served != p.leader {
		l.forwarded.Add(1)
	}
	return nil
}

// settle has the pilots report what they hold and take nothing more.
func (l *load) settle(ctx context.Context, pilots []*simulated) error {
	var work sync.WaitGroup
	for _, p := range pilots {
		work.Go(func() {
			for ctx.Err() == nil && len(p.held) > 0 {
				if err := l.turn(ctx, p, 0, 0); err != nil {
					l.note(err)
					pause(ctx, retryPause)
				}
			}
		})
	}
	work.Wait()
	return ctx.Err()
}

// rate is what a load did over a while.
type rate struct {
	perSecond   float64
	trips       sample
	coordinator time.Duration // CPU of the coordinators, per task
	generator   time.Duration // CPU of this process, per task
	forwarded   float64       // share of the exchanges that others than the leader took
	tasks       int64
	written     float64 // bytes that the coordinators wrote to disks, per task
}

// cpu is what a task costs all processes.
func (r *rate) cpu() time.Duration { return r.coordinator + r.generator }

// running is a load at work.
type running struct {
	*load
	c     *cluster
	stop  func()
	ended sync.WaitGroup
}

// begin has the pilots work until end is called.
func (l *load) begin(ctx context.Context, c *cluster, pilots []*simulated, slots int) *running {
	working, stop := context.WithCancel(ctx)
	r := &running{load: l, c: c, stop: stop}
	r.ended.Go(func() { l.drive(working, pilots, slots) })
	return r
}

func (r *running) end() {
	r.stop()
	r.ended.Wait()
}

// measure counts for d, and longer while more says so.
func (r *running) measure(ctx context.Context, name string, d time.Duration, more func() bool) (rate, error) {
	var out rate
	r.trips.take()
	self, err := usageOf("self")
	if err != nil {
		return out, err
	}
	profiled := r.c.profile(ctx, name, d)
	done, exchanges, forwarded := r.done.Load(), r.exchanges.Load(), r.forwarded.Load()
	used, began := r.c.usage(), time.Now()
	for pause(ctx, d); more != nil && more() && ctx.Err() == nil; {
		pause(ctx, lookEvery)
	}
	took := time.Since(began)
	after := r.c.usage()
	afterSelf, err := usageOf("self")
	if err != nil {
		return out, err
	}
	out.tasks = r.done.Load() - done
	out.trips = r.trips.take()
	if err := errors.Join(ctx.Err(), profiled()); err != nil {
		return out, err
	}
	if out.tasks == 0 {
		return out, fmt.Errorf("no task was done; repeated: %s%s", r.repeated(), r.c.lastWords())
	}
	n := time.Duration(out.tasks)
	out.perSecond = float64(out.tasks) / took.Seconds()
	out.coordinator, out.generator = (after.CPU-used.CPU)/n, (afterSelf.CPU-self.CPU)/n
	out.written = float64(after.Written-used.Written) / float64(n)
	if e := r.exchanges.Load() - exchanges; e > 0 {
		out.forwarded = float64(r.forwarded.Load()-forwarded) / float64(e)
	}
	return out, nil
}
