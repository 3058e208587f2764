package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"floe/protocol"
)

// The record that memory and snapshot are measured at: 10^8 queued tasks.
const (
	manyDatasets = 1000
	manyJobs     = 100_000
	// manyLeases are pulled by pilots that hold as many as a pilot may.
	manyLeases = 100_000
	// warmPilots pull first, so that what grows once has grown.
	warmPilots = 4
)

// leanTask asks for a core alone, so that a pilot's memory does not bound what it
// holds.
const leanTask = `version: "3"
title: queued
tasks:
  - name: work
    requirements: {cpu: 1}
    trays: [{name: tray, modules: [{name: nothing, src: /bin/true}]}]
`

// memory measures one real coordinator process that is fed through its API: what the
// others of a triplet hold is the same.
func memory(ctx context.Context, r *run) (result, error) {
	out := result{
		Unit: "MiB", Target: 512, AtMost: true,
		Notes: []string{"one coordinator process, fed through its API; resident memory, mapped files included"},
	}
	c, err := startCluster(ctx, r, 1)
	if err != nil {
		return out, err
	}
	defer c.close()
	// The pilots enrol first: afterwards their own demand would be one of many.
	pilots := warmPilots + (manyLeases+protocol.MaxHeld-1)/protocol.MaxHeld
	f, err := newFleet(ctx, c, pilots, protocol.MaxHeld)
	if err != nil {
		return out, err
	}
	defer f.close()
	empty := c.nodes[0].usage()
	if err := submitMany(ctx, c, manyDatasets); err != nil {
		return out, err
	}
	queued := settled(ctx, c.nodes[0])
	held := 0
	var before usage
	for i, p := range f.pilots {
		if i == warmPilots {
			before = settled(ctx, c.nodes[0])
			held = 0
		}
		if _, err := p.exchange(ctx, nil, protocol.MaxHeld, 0); err != nil {
			return out, err
		}
		held += len(p.held)
	}
	if held == 0 {
		return out, errors.New("no lease was granted")
	}
	after := settled(ctx, c.nodes[0])
	perLease := float64(after.RSS-before.RSS) / float64(held)
	fmt.Fprintf(r, "%-44s %12.0f MiB\n", "an empty coordinator", mebibytes(empty.RSS))
	fmt.Fprintf(r, "%-44s %12.0f MiB (at most %.0f while they came)\n", "with 10^8 queued tasks in 1,000 datasets", mebibytes(queued.RSS), mebibytes(queued.Peak))
	fmt.Fprintf(r, "%-44s %12.0f MiB, %.0f bytes each\n", fmt.Sprintf("with %d live leases more", held), mebibytes(after.RSS), perLease)
	out.Value = mebibytes(queued.RSS)
	out.Notes = append(out.Notes,
		fmt.Sprintf("%.0f MiB before, %.0f MiB at most", mebibytes(empty.RSS), mebibytes(after.Peak)),
		fmt.Sprintf("%d live leases: %.0f bytes each", held, perLease))
	if perLease > 1024 {
		out.Problems = append(out.Problems, fmt.Sprintf("a live lease takes %.0f bytes, more than 1024", perLease))
	}
	return out, nil
}

// submitMany submits some of the many datasets, a few at a time.
func submitMany(ctx context.Context, c *cluster, n int) error {
	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(8)
	for range n {
		work.Go(func() error {
			_, err := c.submit(workCtx, leanTask, manyJobs)
			return err
		})
	}
	return work.Wait()
}

// settled is what a process uses once it has stopped growing and shrinking.
func settled(ctx context.Context, x *node) usage {
	const calm = 250 * time.Millisecond
	last := x.usage()
	for range 20 {
		pause(ctx, calm)
		now := x.usage()
		if d := now.RSS - last.RSS; d < 1<<20 && d > -1<<20 {
			return now
		}
		last = now
	}
	return last
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
