package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"floe/protocol"
)

// restartLimit is how long a restart may take with 2.3·10^7 finished tasks. Source:
// design §11.
const restartLimit = 5 * time.Second

// restart ends all coordinators in good order, starts them again and measures, from
// there, when all listened and when a question was answered. It returns the latter.
func (c *cluster) restart(ctx context.Context) (time.Duration, error) {
	for _, x := range c.nodes {
		x.end(30 * time.Second)
		x.process = nil
	}
	began := time.Now()
	var starting errgroup.Group
	for _, x := range c.nodes {
		starting.Go(func() error { return c.start(ctx, x, "--timing", c.timing) })
	}
	if err := starting.Wait(); err != nil {
		return 0, err
	}
	open := time.Since(began)
	if err := c.connect(); err != nil {
		return 0, err
	}
	err := c.await(ctx, "an answer", func(ctx context.Context) bool {
		var page protocol.DatasetPage
		return c.api.CallJSON(ctx, http.MethodGet, "/v1/datasets", nil, &page) == nil
	})
	took := time.Since(began)
	fmt.Fprintf(c.r, "%-46s %10.2f s, leading and answering after %.2f s\n", "restarted, listening after", open.Seconds(), took.Seconds())
	return took, err
}

// noteRestart adds a restart to a result.
func (r *result) noteRestart(took time.Duration, finished int64) {
	if took > restartLimit {
		r.Problems = append(r.Problems, fmt.Sprintf("a restart took %.1f s, more than %.0f", took.Seconds(), restartLimit.Seconds()))
	}
	r.Notes = append(r.Notes, fmt.Sprintf("restarted, answers after %.2f s, with %d finished tasks", took.Seconds(), finished))
}
