package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"floe/protocol"
)

// document is what is submitted: a task that draws a number and one that reads
// it. Each attempt draws anew, so that what belongs to which attempt can be told.
const document = `version: 3
title: chaos
tasks:
  - name: make
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - modules:
          - src: DIR/make.sh
            data: [{type: job_temp, movement: output, local: number, remote: ""}]
  - name: join
    depends: [make]
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - modules:
          - src: DIR/join.sh
            data:
              - {type: job_temp, movement: input, local: number, remote: ""}
              - {type: permanent, movement: output, local: joined, remote: "file://DIR/out/$(dataset).$(job)"}
`

// The payloads run for 50 to 500 ms. Before anything else each says that it runs,
// in a file that grows by one line per run.
const (
	common = `set -e
read -r drawn </proc/sys/kernel/random/uuid
drawn=$((0x${drawn%%-*}))
echo "$FLOE_TASK_ID $FLOE_ATTEMPT $drawn" >>DIR/runs/$FLOE_DATASET
sleep 0.$(printf %03d $((50 + (FLOE_JOB * 7919 + FLOE_ATTEMPT * 104729) % 450)))
echo "{\"ran\": 1, \"drawn\": $drawn}" >$FLOE_STATISTICS
`
	makeScript = common + "echo \"$FLOE_ATTEMPT $drawn\" >number\n"
	joinScript = common + "read -r parent <number\necho \"$parent\" >joined\necho \"$FLOE_ATTEMPT $drawn\" >>joined\n"
)

// load submits datasets and control actions and keeps the account.
type load struct {
	config *config
	trace  *trace
	api    *client
	other  *client // with a session of its own, for reading what was written
	text   string  // the document

	mu      sync.Mutex
	account []*entry      // guarded by mu, in the order of submission
	actions int           // guarded by mu: acknowledged
	held    int           // guarded by mu: tasks that were held for losing their pilots
	longest time.Duration // guarded by mu: until a write was acknowledged
}

// entry is one dataset as it was acknowledged.
type entry struct {
	id       protocol.DatasetID
	alias    string
	jobs     uint32
	finished bool
}

func newLoad(f *federation) (*load, error) {
	l := &load{config: f.config, trace: f.trace, api: f.api, text: strings.ReplaceAll(document, "DIR", f.config.dir)}
	var err error
	if l.other, err = newClient(f.token); err != nil {
		return nil, err
	}
	for _, d := range []string{"runs", "out"} {
		if err := os.Mkdir(filepath.Join(l.config.dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{"make.sh": makeScript, "join.sh": joinScript} {
		if err := os.WriteFile(filepath.Join(l.config.dir, name), []byte(strings.ReplaceAll(text, "DIR", l.config.dir)), 0o700); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// run submits and acts until ctx ends; a request under way is repeated until its
// fate is known, so that the account has no doubts.
func (l *load) run(ctx context.Context) {
	var work sync.WaitGroup
	work.Go(func() { l.submitAll(ctx) })
	work.Go(func() { l.actAll(ctx) })
	work.Wait()
}

// settle bounds how long the fate of a request may stay unknown. It outlasts any
// fault: an answer that is not there by then is a defect.
const settle = 5 * time.Minute

// write sends a request until it is answered.
func (l *load) write(path string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	began := time.Now()
	err := l.api.until(ctx, http.MethodPost, path, in, out)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest = max(l.longest, time.Since(began))
	return err
}

// submitAll keeps about three tasks per pilot unfinished.
func (l *load) submitAll(ctx context.Context) {
	for n := 1; ctx.Err() == nil; n++ {
		r := rand.New(rand.NewPCG(l.config.seed, uint64(n)<<8))
		jobs := uint32(20 + r.IntN(max(1, l.config.pilots)))
		request := protocol.SubmitRequest{
			Key: fmt.Sprintf("chaos-%08d", n), Steering: l.text, Jobs: jobs, Alias: fmt.Sprintf("chaos-%d", n), Priority: r.IntN(20),
		}
		var reply protocol.SubmitReply
		if err := l.write("/v1/datasets", &request, &reply); err != nil {
			l.trace.fail("submit %s: %v", request.Alias, err)
			continue
		}
		e := &entry{id: reply.Dataset, alias: request.Alias, jobs: jobs}
		l.mu.Lock()
		l.account = append(l.account, e)
		l.mu.Unlock()
		l.checkRead(e, "submitted")
		if n%7 == 0 { // an answer may have been lost: the same again is the same dataset
			var again protocol.SubmitReply
			if err := l.write("/v1/datasets", &request, &again); err != nil || again.Dataset != reply.Dataset {
				l.trace.fail("submission %s, dataset %d, repeated: dataset %d, %v", request.Alias, reply.Dataset, again.Dataset, err)
			}
		}
		for ctx.Err() == nil && l.unfinished(ctx) > 3*l.config.pilots {
			pause(ctx, 500*time.Millisecond)
		}
	}
}

// checkRead asks for a dataset that was acknowledged: whoever answers must know it,
// unless the answer says that it may be old (I-17).
func (l *load) checkRead(e *entry, what string) {
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	var d protocol.Dataset
	if err := l.other.fresh(ctx, fmt.Sprintf("/v1/datasets/%d", e.id), &d); err != nil {
		l.trace.fail("dataset %d was %s and cannot be read: %v", e.id, what, err)
	} else if d.Alias != e.alias || d.Jobs != e.jobs {
		l.trace.fail("dataset %d was %s as %s with %d jobs and reads as %s with %d", e.id, what, e.alias, e.jobs, d.Alias, d.Jobs)
	}
}

// unfinished counts tasks to be done, as far as anybody answers.
func (l *load) unfinished(ctx context.Context) int {
	l.mu.Lock()
	open := make([]*entry, 0, len(l.account))
	for _, e := range l.account {
		if !e.finished {
			open = append(open, e)
		}
	}
	l.mu.Unlock()
	n := 0
	for _, e := range open {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		var d protocol.Dataset
		err := l.other.get(ctx, fmt.Sprintf("/v1/datasets/%d", e.id), &d)
		cancel()
		if err != nil {
			n += int(e.jobs) // not known: taken to be there
			continue
		}
		switch d.State {
		case protocol.DatasetComplete:
			l.mu.Lock()
			e.finished = true
			l.mu.Unlock()
		case protocol.DatasetErrors:
			l.release(e)
		}
		n += int(d.TaskCounts["queued"] + d.TaskCounts["waiting"] + d.TaskCounts["processing"] + d.TaskCounts["suspended"] + d.TaskCounts["error"])
	}
	return n
}

// actAll does now and then what people do: suspend and resume, reset, grow, and
// change priorities.
func (l *load) actAll(ctx context.Context) {
	r := rand.New(rand.NewPCG(l.config.seed, 1))
	for {
		if pause(ctx, span(r, l.config.every/2, 2*l.config.every)); ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		var e *entry
		if n := len(l.account); n > 0 {
			e = l.account[max(0, n-1-r.IntN(4))]
		}
		l.mu.Unlock()
		if e == nil {
			continue
		}
		from := r.IntN(int(e.jobs))
		jobs := fmt.Sprintf("%d-%d", from, min(int(e.jobs)-1, from+r.IntN(10)))
		switch r.IntN(5) {
		case 0:
			l.suspendAndResume(ctx, e, jobs)
		case 1:
			l.grow(e, uint32(1+r.IntN(10)))
		case 2:
			l.act(e, protocol.ActionRequest{Action: "priority", Value: r.IntN(20), Reason: "chaos"})
		case 3:
			l.act(e, protocol.ActionRequest{Action: "reset", Jobs: jobs, Tasks: []string{"make"}, States: []protocol.TaskState{protocol.TaskProcessing}, Reason: "chaos"})
		case 4:
			l.act(e, protocol.ActionRequest{Action: "reset", Jobs: jobs, States: []protocol.TaskState{protocol.TaskOK, protocol.TaskProcessing}, Reason: "chaos"})
		}
	}
}

// act has an action acknowledged.
func (l *load) act(e *entry, request protocol.ActionRequest) (reply protocol.ActionReply, ok bool) {
	if err := l.write(fmt.Sprintf("/v1/datasets/%d/actions", e.id), &request, &reply); err != nil {
		l.trace.fail("%s of dataset %d: %v", request.Action, e.id, err)
		return reply, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.finished = false
	l.actions++
	return reply, true
}

func (l *load) suspendAndResume(ctx context.Context, e *entry, jobs string) {
	did, ok := l.act(e, protocol.ActionRequest{Action: "suspend", Jobs: jobs, Reason: "chaos"})
	if !ok {
		return
	}
	reading, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	var d protocol.Dataset
	if err := l.other.fresh(reading, fmt.Sprintf("/v1/datasets/%d", e.id), &d); err != nil {
		l.trace.fail("dataset %d after suspending: %v", e.id, err)
	} else if d.TaskCounts["suspended"] < did.Tasks {
		l.trace.fail("suspending jobs %s of dataset %d moved %d tasks; a later read counts %d suspended", jobs, e.id, did.Tasks, d.TaskCounts["suspended"])
	}
	pause(ctx, 3*time.Second)
	l.act(e, protocol.ActionRequest{Action: "resume", Jobs: jobs, Reason: "chaos"})
}

func (l *load) grow(e *entry, by uint32) {
	request := protocol.GrowRequest{Key: "grow-" + protocol.RandomText(10), From: e.jobs, Jobs: by}
	var reply protocol.GrowReply
	if err := l.write(fmt.Sprintf("/v1/datasets/%d/jobs", e.id), &request, &reply); err != nil || reply.Jobs != e.jobs+by {
		l.trace.fail("grow dataset %d from %d by %d: now %d, %v", e.id, e.jobs, by, reply.Jobs, err)
		return
	}
	l.mu.Lock()
	e.jobs, e.finished = reply.Jobs, false
	l.actions++
	l.mu.Unlock()
	l.checkRead(e, "grown")
}

// finish waits until every dataset is complete.
func (l *load) finish(ctx context.Context) error {
	last, since := -1, time.Now()
	for {
		n := l.unfinished(ctx)
		l.mu.Lock()
		open := 0
		for _, e := range l.account {
			if !e.finished {
				open++
			}
		}
		l.mu.Unlock()
		if open == 0 {
			return nil
		}
		if n != last || time.Since(since) > 30*time.Second {
			last, since = n, time.Now()
			l.trace.note("%d datasets with %d tasks are not finished", open, n)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%d datasets with %d tasks are not finished: %w", open, n, ctx.Err())
		}
		pause(ctx, time.Second)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
