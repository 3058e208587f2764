package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// idlePilots is how many pilots the figure is about.
const idlePilots = 10_000

func pilots(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "GB", Target: 1.2, AtMost: true}
	n := idlePilots
	var env []string
	if r.quick {
		// A small heap may hold much garbage; the one of 10,000 pilots may not. For
		// extrapolating, this one is kept as clean as that.
		n, env = 300, []string{"GOGC=25"}
	}
	c, err := startClusterTimed(ctx, r, 1, "lan", env...)
	if err != nil {
		return out, err
	}
	defer c.close()
	x := c.nodes[0]
	before := x.process.usage()
	f, err := newFleet(ctx, c, n, 1)
	if err != nil {
		return out, err
	}
	defer f.close()
	idle := newIdlers(f.pilots)
	defer idle.end()
	connected, err := idle.begin(ctx, c)
	if err != nil {
		return out, err
	}
	// Twice what a collection takes to come by itself while nothing happens.
	settled := 30 * time.Second
	if r.quick {
		settled = 3 * time.Second
	}
	pause(ctx, settled)
	first := x.process.usage()

	// The storm: the coordinator is stopped, which ends all connections at once, and
	// comes back. After one that is killed they return over half a minute, as each
	// notices by its keep-alive.
	x.end(20 * time.Second)
	storm := time.Now()
	x.process = nil
	if err := c.start(ctx, x, "--timing", c.timing); err != nil {
		return out, err
	}
	calm := calmWithin
	if r.quick {
		calm = calmWithinQuick
	}
	for idle.parkedSince(storm) < n && time.Since(storm) < calm && ctx.Err() == nil {
		pause(ctx, lookEvery)
	}
	back := time.Since(storm)
	if there := idle.parkedSince(storm); there < n {
		out.Problems = append(out.Problems, fmt.Sprintf("%d of %d pilots are back %.0f s after the storm began", there, n, back.Seconds()))
	}
	exchanges, failed := idle.speakAll(ctx)
	after := x.process.usage()
	rss := float64(after.RSS) / 1e9
	row := func(what, format string, args ...any) {
		fmt.Fprintf(r, "%-50s "+format+"\n", append([]any{what}, args...)...)
	}
	row("pilots connected and parked", "%d, after %.1f s", n, connected.Seconds())
	row("RSS before, with them, after the storm", "%.3f, %.3f, %.3f GB", float64(before.RSS)/1e9, float64(first.RSS)/1e9, rss)
	row("per pilot", "%.0f KiB", float64(first.RSS-before.RSS)/float64(n)/1024)
	row("all back after the coordinator was restarted", "%.1f s", back.Seconds())
	row("exchanges after that: p50, p99, longest", "%.1f, %.1f, %.1f ms; %d failed", milliseconds(exchanges.quantile(0.5)),
		milliseconds(exchanges.quantile(0.99)), milliseconds(exchanges.quantile(1)), failed)
	out.Value = max(rss, float64(first.RSS)/1e9)
	if n < idlePilots {
		grown := float64(max(after.RSS, first.RSS)-before.RSS) / 1e9
		out.Value = float64(before.RSS)/1e9 + grown*idlePilots/float64(n)
		out.Notes = append(out.Notes, fmt.Sprintf("extrapolated from %d pilots", n))
	}
	if p99 := exchanges.quantile(0.99); p99 > time.Second || failed > 0 {
		out.Problems = append(out.Problems, fmt.Sprintf("exchange p99 %.0f ms after the storm, want at most 1 s; %d failed", milliseconds(p99), failed))
	}
	out.Notes = append(out.Notes, fmt.Sprintf("%d pilots; RSS %.3f GB, after a reconnect storm %.3f GB; all back after %.1f s; exchange p50 %.1f ms, p99 %.1f ms",
		n, float64(first.RSS)/1e9, rss, back.Seconds(), milliseconds(exchanges.quantile(0.5)), milliseconds(exchanges.quantile(0.99))))
	return out, nil
}

// calmWithin is how long the storm is waited out: several handshakes that nobody
// answers while the coordinator starts. A quick run has time for two.
const (
	calmWithin      = 2 * time.Minute // Source: research C12
	calmWithinQuick = 22 * time.Second
)

// idlers are pilots that have nothing to do and wait for work.
type idlers struct {
	pilots []*idler
}

// idler is one of them.
type idler struct {
	*simulated
	since atomic.Int64 // when it began the exchange that is parked now, Unix nanoseconds
	stop  context.CancelFunc
	ended sync.WaitGroup
}

func newIdlers(all []*simulated) *idlers {
	s := &idlers{pilots: make([]*idler, len(all))}
	for i, p := range all {
		s.pilots[i] = &idler{simulated: p, stop: func() {}}
	}
	return s
}

// connectAtOnce is how many pilots connect at once at first: as batch systems start
// them. A storm has no such bound.
const connectAtOnce = 64

// begin parks all pilots and returns how long that took.
func (s *idlers) begin(ctx context.Context, c *cluster) (time.Duration, error) {
	began := time.Now()
	turn := make(chan struct{}, connectAtOnce)
	for _, p := range s.pilots {
		waiting, stop := context.WithCancel(ctx)
		p.stop = stop
		p.ended.Go(func() {
			turn <- struct{}{}
			_, _ = p.exchange(waiting, nil, 0, 0) // connects; what fails is tried again below
			<-turn
			p.wait(waiting)
		})
	}
	err := c.await(ctx, "all pilots to park", func(context.Context) bool { return s.parkedSince(began) == len(s.pilots) })
	return time.Since(began), err
}

// wait asks for work, again and again, until ctx ends.
func (p *idler) wait(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		// Answered at once, so that it is known to be connected; then it parks.
		if _, err := p.exchange(ctx, nil, 0, 0); err != nil {
			p.since.Store(0)
			failures++
			pause(ctx, patience(failures))
			continue
		}
		failures = 0
		p.since.Store(time.Now().UnixNano())
		if _, err := p.exchange(ctx, nil, 1, 4*time.Minute); err != nil {
			p.since.Store(0)
		}
	}
}

// patience is how long a pilot waits after some failures in a row, as pilots do
// (pilot.Conversation): longer each time, at random.
func patience(failures int) time.Duration {
	return 100*time.Millisecond + rand.N(min(time.Minute, time.Second<<min(failures, 10)))
}

func (s *idlers) parkedSince(t time.Time) (n int) {
	for _, p := range s.pilots {
		if p.since.Load() > t.UnixNano() {
			n++
		}
	}
	return n
}

func (s *idlers) end() {
	for _, p := range s.pilots {
		p.stop()
	}
	for _, p := range s.pilots {
		p.ended.Wait()
	}
}

// exchangesPerSecond is what leaders ask of many pilots. Source: server, pace.
const exchangesPerSecond = 500

// speakAll has every pilot speak once, as often a second as leaders ask for. Each
// gives up the exchange that it has parked, as a pilot does that has something to say.
func (s *idlers) speakAll(ctx context.Context) (sample, int) {
	var took times
	var failed atomic.Int64
	var work sync.WaitGroup
	tick := time.NewTicker(time.Second / exchangesPerSecond)
	defer tick.Stop()
	for _, p := range s.pilots {
		select {
		case <-tick.C:
		case <-ctx.Done():
			failed.Add(1)
			continue
		}
		work.Go(func() {
			began := time.Now()
			p.stop()
			p.ended.Wait()
			if _, err := p.exchange(ctx, nil, 0, 0); err != nil {
				failed.Add(1)
				return
			}
			took.add(time.Since(began))
		})
	}
	work.Wait()
	return took.take(), int(failed.Load())
}
