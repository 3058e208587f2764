package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"floe/protocol"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func waitCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "wait DATASET", Short: "Wait until a dataset has finished; exit 6 if jobs are in error", Args: exactArgs("DATASET"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := datasetArg(args[0])
			if err != nil {
				return err
			}
			api, err := dial(c)
			if err != nil {
				return err
			}
			defer api.Close()
			timeout, _ := c.Flags().GetDuration("timeout")
			return waitFor(c, api, id, timeout)
		},
	}
	c.Flags().Duration("timeout", 0, "give up after this long, exit 124; default: never")
	return c
}

// waitFor shows a dataset's progress until it has finished.
func waitFor(c *cobra.Command, api *client, id protocol.DatasetID, timeout time.Duration) error {
	ctx := c.Context()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	show := newProgress(c)
	d, err := api.watch(ctx, id, show.dataset)
	show.end()
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return withExit(exitTimeout, fmt.Errorf("dataset %d has not finished after %v", id, timeout))
		}
		return err
	}
	if n := d.JobCounts["error"]; n > 0 {
		return withExit(exitWaitFailed, fmt.Errorf("dataset %d: %d of %d jobs are in error; see: floe tasks %d --state error", id, n, d.Jobs, id))
	}
	return nil
}

// finished tells whether nothing more will happen to a dataset by itself.
func finished(d *protocol.Dataset) bool {
	return d.State == protocol.DatasetComplete || d.State == protocol.DatasetErrors
}

// watch follows a dataset's events until it has finished, through any number of
// lost connections and changes of leader.
func (a *client) watch(ctx context.Context, id protocol.DatasetID, each func(*protocol.Dataset)) (*protocol.Dataset, error) {
	for {
		d, err := a.watchOnce(ctx, id, each)
		if d != nil {
			return d, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var refused *protocol.Error
		if errors.As(err, &refused) && !refused.Code.Retryable() {
			return nil, err
		}
		again := time.NewTimer(time.Second)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil, ctx.Err()
		}
	}
}

// watchOnce reads one stream of events; a nil dataset without an error is a
// stream that ended early.
func (a *client) watchOnce(ctx context.Context, id protocol.DatasetID, each func(*protocol.Dataset)) (*protocol.Dataset, error) {
	body, err := a.stream(ctx, fmt.Sprintf("/v1/events?dataset=%d", id))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		d := new(protocol.Dataset)
		if err := json.Unmarshal([]byte(data), d); err != nil {
			return nil, fmt.Errorf("event: %w", err)
		}
		each(d)
		if finished(d) {
			return d, nil
		}
	}
	return nil, lines.Err()
}

// progress shows a dataset's counts: one line rewritten on a terminal, otherwise
// a line whenever the number of finished jobs changes.
type progress struct {
	c    *cobra.Command
	tty  bool
	last string
	from time.Time
}

func newProgress(c *cobra.Command) *progress {
	p := &progress{c: c, from: time.Now()}
	if f, ok := c.ErrOrStderr().(*os.File); ok {
		p.tty = term.IsTerminal(int(f.Fd()))
	}
	return p
}

const barWidth = 24

func (p *progress) dataset(d *protocol.Dataset) {
	ok, bad := d.JobCounts["ok"], d.JobCounts["error"]
	key := fmt.Sprintf("%d/%d/%d", ok, bad, d.Jobs)
	if !p.tty {
		if key != p.last {
			fmt.Fprintf(p.c.ErrOrStderr(), "dataset %d: %d of %d jobs ok, %d in error; tasks: %s\n", d.ID, ok, d.Jobs, bad, counts(d.TaskCounts, protocol.TaskStates))
		}
		p.last = key
		return
	}
	full := 0
	if d.Jobs > 0 {
		full = int(uint64(barWidth) * (ok + bad) / uint64(d.Jobs))
	}
	line := fmt.Sprintf("dataset %d  %s%s  %d/%d jobs ok", d.ID, strings.Repeat("█", full), strings.Repeat("░", barWidth-full), ok, d.Jobs)
	if bad > 0 {
		line += fmt.Sprintf(", %d in error", bad)
	}
	line += fmt.Sprintf("  tasks: %s  %s", counts(d.TaskCounts, protocol.TaskStates), time.Since(p.from).Round(time.Second))
	if width, _, err := term.GetSize(int(os.Stderr.Fd())); err == nil && len([]rune(line)) > width {
		line = string([]rune(line)[:max(width-1, 0)]) + "…"
	}
	fmt.Fprintf(p.c.ErrOrStderr(), "\r\x1b[K%s", line)
	p.last = key
}

func (p *progress) end() {
	if p.tty && p.last != "" {
		fmt.Fprintln(p.c.ErrOrStderr())
	}
}
