package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
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
	var before int64
	for i, p := range f.pilots {
		if i == warmPilots {
			held = 0
			if before, err = c.nodes[0].live(ctx); err != nil {
				return out, err
			}
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
	live, err := c.nodes[0].live(ctx)
	if err != nil {
		return out, err
	}
	perLease := float64(live-before) / float64(held)
	fmt.Fprintf(r, "%-44s %12.0f MiB\n", "an empty coordinator", mebibytes(empty.RSS))
	fmt.Fprintf(r, "%-44s %12.0f MiB (at most %.0f while they came)\n", "with 10^8 queued tasks in 1,000 datasets", mebibytes(queued.RSS), mebibytes(queued.Peak))
	fmt.Fprintf(r, "%-44s %12.0f MiB, %.0f bytes of live heap each\n", fmt.Sprintf("with %d live leases more", held), mebibytes(after.RSS), perLease)
	out.Value = mebibytes(queued.RSS)
	out.Notes = append(out.Notes,
		fmt.Sprintf("%.0f MiB before, %.0f MiB at most", mebibytes(empty.RSS), mebibytes(after.Peak)),
		fmt.Sprintf("%d live leases: %.0f bytes of heap each once garbage is collected", held, perLease))
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

// live is what a coordinator's heap holds once its garbage is collected.
func (x *node) live(ctx context.Context) (bytes int64, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/heap?gc=1&debug=1", x.debug), nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, is := strings.CutPrefix(lines.Text(), "# HeapAlloc = "); is {
			return strconv.ParseInt(text, 10, 64)
		}
	}
	return 0, errors.New("the heap profile does not say what is live")
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
