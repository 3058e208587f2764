package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"floe/protocol"
)

// The queues of the backlog bench.
var backlogs = []uint32{1_000, 100_000, 10_000_000}

// Each queue is worked on in turn, several times, so that what disturbs the machine
// meets all of them.
const (
	backlogRounds = 5
	backlogPilots = 64
	feedEvery     = 50 * time.Millisecond
)

func backlog(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "ratio", Target: 0.9}
	rounds, d := backlogRounds, 8*time.Second
	if r.quick {
		rounds, d = 3, 2500*time.Millisecond
	}
	c, err := startCluster(ctx, r, 3)
	if err != nil {
		return out, err
	}
	defer c.close()
	f, err := newFleet(ctx, c, backlogPilots, lifecycleSlots)
	if err != nil {
		return out, err
	}
	defer f.close()
	queues := make([]*queue, len(backlogs))
	for i, n := range backlogs {
		if queues[i], err = newQueue(ctx, c, n); err != nil {
			return out, err
		}
	}
	rates, cpu := make([][]float64, len(queues)), make([][]float64, len(queues))
	var l load
	for range rounds {
		for i, q := range queues {
			m, err := q.work(ctx, &l, f.pilots, d)
			if err != nil {
				return out, fmt.Errorf("%d queued: %w", q.length, err)
			}
			rates[i] = append(rates[i], m.perSecond)
			cpu[i] = append(cpu[i], microseconds(m.coordinator))
		}
	}
	fmt.Fprintf(r, "%12s %14s %30s\n", "queued", "tasks/s", "CPU µs per task, coordinators")
	for i, q := range queues {
		fmt.Fprintf(r, "%12d %14.0f %30.0f\n", q.length, median(rates[i]), median(cpu[i]))
	}
	fmt.Fprintf(r, "%12s %s\n", "repeated", l.repeated())
	first, last := 0, len(queues)-1
	out.Value, out.Peer, out.PeerIs = median(rates[last])/median(rates[first]), 1, "no slower"
	byCPU := median(cpu[first]) / median(cpu[last])
	fmt.Fprintf(r, "last ÷ first: %.2f by the clock, %.2f by CPU\n", out.Value, byCPU)
	for i, q := range queues {
		out.Notes = append(out.Notes, fmt.Sprintf("%d queued: %.0f tasks/s, %.0f µs CPU", q.length, median(rates[i]), median(cpu[i])))
	}
	out.Notes = append(out.Notes, fmt.Sprintf("by CPU %.2f", byCPU))
	return out, nil
}

// queue is a dataset that is kept at a length while it is worked on.
type queue struct {
	c      *cluster
	id     protocol.DatasetID
	length uint32
	jobs   uint32 // submitted so far
}

// newQueue submits a dataset and suspends it.
func newQueue(ctx context.Context, c *cluster, length uint32) (*queue, error) {
	id, err := c.submit(ctx, oneTask, length)
	if err != nil {
		return nil, err
	}
	return &queue{c, id, length, length}, c.act(ctx, id, "suspend")
}

// work has the pilots work on this queue alone, and adds as much as they do.
func (q *queue) work(ctx context.Context, l *load, pilots []*simulated, d time.Duration) (rate, error) {
	if err := q.c.act(ctx, q.id, "resume"); err != nil {
		return rate{}, err
	}
	working := l.begin(ctx, q.c, pilots, lifecycleSlots)
	feeding, stop := context.WithCancel(ctx)
	fed := make(chan error, 1)
	from, before := q.jobs, l.done.Load()
	missing := func() int64 { return int64(from) + l.done.Load() - before - int64(q.jobs) }
	go func() { fed <- q.feed(feeding, missing) }()
	pause(ctx, time.Second)
	m, err := working.measure(ctx, fmt.Sprintf("queued-%d", q.length), d, nil)
	stop()
	err = errors.Join(err, <-fed)
	working.end()
	if err != nil {
		return m, err
	}
	if err := errors.Join(l.settle(ctx, pilots), q.grow(ctx, missing())); err != nil {
		return m, err
	}
	return m, q.c.act(ctx, q.id, "suspend")
}

// feed adds the jobs that are missing, until ctx ends.
func (q *queue) feed(ctx context.Context, missing func() int64) error {
	for ctx.Err() == nil {
		pause(ctx, feedEvery)
		if err := q.grow(context.WithoutCancel(ctx), missing()); err != nil {
			return err
		}
	}
	return nil
}

func (q *queue) grow(ctx context.Context, more int64) error {
	if more <= 0 {
		return nil
	}
	var reply protocol.GrowReply
	request := protocol.GrowRequest{Key: protocol.RandomText(10), From: q.jobs, Jobs: uint32(more)}
	err := q.c.ask(ctx, http.MethodPost, fmt.Sprintf("/v1/datasets/%d/jobs", q.id), &request, &reply)
	if err == nil {
		q.jobs = reply.Jobs
	}
	return err
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	if len(all) == 0 {
		return 0
	}
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}
