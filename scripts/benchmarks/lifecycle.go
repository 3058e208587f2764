package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
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
	done  atomic.Int64 // accepted reports
	trips times        // of exchanges
	mu    sync.Mutex
	errs  map[string]int // guarded by mu: what went wrong and was tried again
}

// drive has all pilots work until ctx ends.
func (l *load) drive(ctx context.Context, pilots []*simulated, slots int) {
	l.errs = map[string]int{}
	var work sync.WaitGroup
	for _, p := range pilots {
		work.Go(func() {
			for ctx.Err() == nil {
				if err := l.turn(ctx, p, slots); err != nil && ctx.Err() == nil {
					l.mu.Lock()
					l.errs[err.Error()]++
					l.mu.Unlock()
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

// turn is one exchange: the reports on what is held and the wish for as much.
func (l *load) turn(ctx context.Context, p *simulated, slots int) error {
	reports, err := p.reportAll()
	if err != nil {
		return err
	}
	began := time.Now()
	accepted, err := p.exchange(ctx, reports, slots, time.Minute)
	l.done.Add(int64(accepted))
	if err == nil {
		l.trips.add(time.Since(began))
	}
	return err
}

// rate is what a load did over a while.
type rate struct {
	perSecond   float64
	trips       sample
	coordinator time.Duration // CPU of the coordinators, per task
	generator   time.Duration // CPU of this process, per task
	tasks       int64
}

// measure has the pilots work for d after warm, and counts.
func (l *load) measure(ctx context.Context, c *cluster, pilots []*simulated, slots int, warm, d time.Duration) (rate, error) {
	working, stop := context.WithCancel(ctx)
	var r rate
	var ended sync.WaitGroup
	ended.Go(func() { l.drive(working, pilots, slots) })
	pause(ctx, warm)
	l.trips.take()
	self, _ := usageOf("self")
	done, used, began := l.done.Load(), c.usage(), time.Now()
	profiled := c.profile(ctx, fmt.Sprintf("%d-slot", slots), d)
	pause(ctx, d)
	took := time.Since(began)
	r.tasks = l.done.Load() - done
	r.trips = l.trips.take()
	after, afterSelf := c.usage(), self
	afterSelf, _ = usageOf("self")
	stop()
	ended.Wait()
	if err := profiled(); err != nil {
		return r, err
	}
	if r.tasks == 0 {
		return r, errors.Join(fmt.Errorf("no task was done: %v%s", l.errs, c.lastWords()), ctx.Err())
	}
	r.perSecond = float64(r.tasks) / took.Seconds()
	r.coordinator = (after.CPU - used.CPU) / time.Duration(r.tasks)
	r.generator = (afterSelf.CPU - self.CPU) / time.Duration(r.tasks)
	return r, nil
}

func lifecycle(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "tasks/s", Target: 10_000}
	pilots, warm, d := 128, 3*time.Second, 60*time.Second
	if r.quick {
		d = 10 * time.Second
	}
	c, err := startCluster(ctx, r, 3)
	if err != nil {
		return out, err
	}
	defer c.close()
	f, err := newFleet(ctx, c, pilots, 8)
	if err != nil {
		return out, err
	}
	defer f.close()
	if _, err := c.submit(ctx, oneTask, 10_000_000); err != nil {
		return out, err
	}
	var l load
	many, err := l.measure(ctx, c, f.pilots, 8, warm, d)
	if err != nil {
		return out, err
	}
	fmt.Fprintf(r, "%-44s %12.0f tasks/s\n", "8-slot pilots", many.perSecond)
	fmt.Fprintf(r, "%-44s %12.1f ms\n", "exchange p50", milliseconds(many.trips.quantile(0.5)))
	fmt.Fprintf(r, "%-44s %12.1f ms\n", "exchange p99", milliseconds(many.trips.quantile(0.99)))
	fmt.Fprintf(r, "%-44s %12.0f µs\n", "CPU per task, coordinators", float64(many.coordinator.Nanoseconds())/1e3)
	fmt.Fprintf(r, "%-44s %12.0f µs\n", "CPU per task, simulated pilots", float64(many.generator.Nanoseconds())/1e3)
	for text, n := range l.errs {
		fmt.Fprintf(r, "repeated %d times: %s\n", n, text)
	}
	out.Value = many.perSecond
	return out, nil
}
