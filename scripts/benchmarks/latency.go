package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"floe/protocol"
)

// parentAndChild has a task for pilots with one tag whose child only pilots with
// another can run: it never stays where its parent was.
const parentAndChild = `version: "3"
title: latency
tasks:
  - name: parent
    requirements: {cpu: 1, memory: 1, disk: 1}
    trays: [{name: tray, modules: [{name: nothing, src: /bin/true}]}]
  - name: child
    depends: [parent]
    requirements: {cpu: 1, memory: 1, disk: 1}
    trays: [{name: tray, modules: [{name: nothing, src: /bin/true}]}]
`

func latency(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "ms", Target: 50, AtMost: true}
	rounds := 1000
	if r.quick {
		rounds = 150
	}
	c, err := startCluster(ctx, r, 3)
	if err != nil {
		return out, err
	}
	defer c.close()
	f, err := newFleet(ctx, c, 2, 1)
	if err != nil {
		return out, err
	}
	defer f.close()
	var submitted, released times
	for i := range rounds {
		// One runs the parent and holds it while the other waits: the child cannot go
		// to the first, which is asked for its report alone.
		if err := relay(ctx, c, f.pilots[i%2], f.pilots[1-i%2], &submitted, &released); err != nil {
			return out, fmt.Errorf("round %d: %w", i, err)
		}
	}
	first, child := submitted.take(), released.take()
	fmt.Fprintf(r, "%-44s %8s %8s %8s %8s\n", "ms", "p50", "p90", "p99", "longest")
	for _, row := range []struct {
		what string
		of   sample
	}{{"submit → first start", first}, {"parent's report → child's start", child}} {
		fmt.Fprintf(r, "%-44s %8.1f %8.1f %8.1f %8.1f\n", row.what, milliseconds(row.of.quantile(0.5)), milliseconds(row.of.quantile(0.9)),
			milliseconds(row.of.quantile(0.99)), milliseconds(row.of.quantile(1)))
		out.Notes = append(out.Notes, fmt.Sprintf("%s: p50 %.1f ms, p99 %.1f ms", row.what, milliseconds(row.of.quantile(0.5)), milliseconds(row.of.quantile(0.99))))
	}
	out.Value = milliseconds(max(first.quantile(0.99), child.quantile(0.99)))
	return out, nil
}

// relay is one round: a dataset of one job is submitted while a pilot waits, which
// runs the parent; the other waits when it reports.
func relay(ctx context.Context, c *cluster, parent, child *simulated, submitted, released *times) error {
	got := waitForLease(ctx, parent)
	pause(ctx, parkPause)
	began := time.Now()
	if _, err := c.submit(ctx, parentAndChild, 1); err != nil {
		return err
	}
	at := <-got
	if at.err != nil {
		return at.err
	}
	submitted.add(at.at.Sub(began))

	got = waitForLease(ctx, child)
	pause(ctx, parkPause)
	reports, err := parent.reportAll()
	if err != nil {
		return err
	}
	began = time.Now()
	if _, err := parent.exchange(ctx, reports, 0, 0); err != nil {
		return err
	}
	if at = <-got; at.err != nil {
		return at.err
	}
	released.add(at.at.Sub(began))
	if reports, err = child.reportAll(); err != nil {
		return err
	}
	_, err = child.exchange(ctx, reports, 0, 0)
	return err
}

// parkPause lets an exchange arrive and park before what wakes it.
const parkPause = 20 * time.Millisecond

// arrival is when a pilot was given a lease.
type arrival struct {
	at  time.Time
	err error
}

// waitForLease has a pilot ask for work until it is given some.
func waitForLease(ctx context.Context, p *simulated) <-chan arrival {
	got := make(chan arrival, 1)
	go func() {
		for {
			_, err := p.exchange(ctx, nil, 1, time.Minute)
			switch {
			case len(p.held) > 0:
				got <- arrival{at: time.Now()}
				return
			case ctx.Err() != nil:
				got <- arrival{err: ctx.Err()}
				return
			case err != nil && !errors.Is(err, errUnsettled) && protocol.CodeOf(err) == protocol.CodeUnauthorized:
				got <- arrival{err: err}
				return
			case err != nil:
				pause(ctx, retryPause)
			}
		}
	}()
	return got
}
