package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"floe/protocol"
)

const failoverPilots = 64

func failover(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "s", Target: 10, AtMost: true}
	kills, calm := 20, 3*time.Second
	if r.quick {
		kills, calm = 2, time.Second
	}
	// The clock of members at several sites, which is what coordinators start with.
	c, err := startClusterTimed(ctx, r, 3, "wan")
	if err != nil {
		return out, err
	}
	defer c.close()
	f, err := newLadderFleet(ctx, c, failoverPilots, lifecycleSlots)
	if err != nil {
		return out, err
	}
	defer f.close()
	dataset, err := c.submit(ctx, oneTask, 100_000_000)
	if err != nil {
		return out, err
	}
	book := newBook()
	l := load{accepted: book.note}
	work := l.begin(ctx, c, f.pilots, lifecycleSlots)
	pause(ctx, calm)
	fmt.Fprintf(r, "%4s %8s %22s %22s\n", "kill", "leader", "writes resumed after s", "all there again after s")
	var resumed sample
	for k := range kills {
		first, again, leader, err := killLeader(ctx, c, book)
		if err != nil {
			work.end()
			return out, fmt.Errorf("kill %d: %w", k+1, err)
		}
		fmt.Fprintf(r, "%4d %8s %22.2f %22.2f\n", k+1, leader, first.Seconds(), again.Seconds())
		resumed = append(resumed, first)
		pause(ctx, calm)
	}
	work.end()
	if err := l.settle(ctx, f.pilots); err != nil {
		return out, err
	}
	lost, doubled, err := book.compare(ctx, c, dataset)
	if err != nil {
		return out, err
	}
	slices.Sort(resumed)
	out.Value = resumed.quantile(0.99).Seconds()
	fmt.Fprintf(r, "%d tasks acknowledged; lost %d, doubled %d; repeated: %s\n", book.count(), lost, doubled, l.repeated())
	if lost != 0 || doubled != 0 {
		out.Problems = append(out.Problems, fmt.Sprintf("%d acknowledged reports lost, %d counted twice", lost, doubled))
	}
	out.Notes = append(out.Notes, fmt.Sprintf("%d kills, writes resumed after %.2f s at the median and %.2f s at most; %d tasks acknowledged, %d lost, %d doubled",
		kills, resumed.quantile(0.5).Seconds(), resumed.quantile(1).Seconds(), book.count(), lost, doubled))
	return out, nil
}

// killLeader kills the leader, waits until a report is acknowledged again, and starts
// the killed one, until all three serve and vote.
func killLeader(ctx context.Context, c *cluster, book *book) (resumed, whole time.Duration, name string, err error) {
	leader, err := c.leader(ctx)
	if err != nil || leader == nil {
		return 0, 0, "", fmt.Errorf("no leader to kill: %w", err)
	}
	killed := leader.process
	began := time.Now()
	killed.kill()
	leader.process = nil
	after := time.Now() // what is acknowledged from now on was not on its way then
	if err := c.await(ctx, "a report to be acknowledged", func(context.Context) bool { return book.last().After(after.Add(ackInFlight)) }); err != nil {
		return 0, 0, leader.name, err
	}
	resumed = book.firstAfter(after.Add(ackInFlight)).Sub(began)
	if err := c.start(ctx, leader, "--timing", c.timing); err != nil {
		return 0, 0, leader.name, err
	}
	err = c.await(ctx, "the killed coordinator to catch up", func(ctx context.Context) bool { return c.caughtUp(ctx, leader) })
	return resumed, time.Since(began), leader.name, err
}

// ackInFlight is how old an acknowledgement may be that the dead leader sent.
const ackInFlight = 100 * time.Millisecond

// book is what was acknowledged, and when.
type book struct {
	mu      sync.Mutex
	tasks   map[protocol.TaskID]protocol.LeaseID // guarded by mu
	doubled int                                  // guarded by mu: acknowledged for two leases
	at      []time.Time                          // guarded by mu: of acknowledgements, in order
}

func newBook() *book { return &book{tasks: map[protocol.TaskID]protocol.LeaseID{}} }

func (b *book) note(l protocol.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if other, known := b.tasks[l.Task]; known && other != l.ID {
		b.doubled++
	}
	b.tasks[l.Task] = l.ID
	b.at = append(b.at, time.Now())
}

func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.tasks)
}

func (b *book) last() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.at) == 0 {
		return time.Time{}
	}
	return b.at[len(b.at)-1]
}

// firstAfter is when something was first acknowledged after a time.
func (b *book) firstAfter(t time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, _ := slices.BinarySearchFunc(b.at, t, time.Time.Compare)
	return b.at[i]
}

// compare holds what was acknowledged against the record and the history of the
// leader: every acknowledged task is ok, and counted once.
func (b *book) compare(ctx context.Context, c *cluster, id protocol.DatasetID) (lost, doubled int, err error) {
	d, err := c.dataset(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	var counted protocol.StatisticsReply
	if err := c.ask(ctx, http.MethodGet, fmt.Sprintf("/v1/datasets/%d/statistics", id), nil, &counted); err != nil {
		return 0, 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ok := int(d.TaskCounts["ok"])
	lost, doubled = max(0, len(b.tasks)-ok), b.doubled
	// What is ok beyond that was accepted without its pilot hearing of it: none, once
	// all pilots have settled what they held.
	doubled += max(0, ok-len(b.tasks))
	for _, s := range counted.Statistics {
		if s.Task != "" {
			doubled += max(0, int(s.Count)-ok)
			lost += max(0, ok-int(s.Count))
		}
	}
	return lost, doubled, nil
}
