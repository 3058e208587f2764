package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fault is one entry of the schedule.
type fault struct {
	number int
	at     time.Duration // since the load began
	lasts  time.Duration
	kind   kind
	// draws settle, at its time, what it hits: the schedule must not depend on who
	// leads or which pilots live.
	draws [3]uint64
}

// kind is a sort of fault.
type kind struct {
	name   string
	weight int
	// longest is how long it lasts at most, shortest at least.
	shortest, longest time.Duration
	// strike lets it happen and returns what it hit and how it is undone.
	strike func(ctx context.Context, f *federation, x *fault) (what string, undo func(context.Context) error, err error)
}

// coordinatorKinds happen one after another, so that there is a majority most of
// the time; siteKinds overlap each other and these.
var (
	coordinatorKinds = []kind{
		{"kill-leader", 4, 500 * time.Millisecond, 10 * time.Second, killCoordinators(leading)},
		{"kill-follower", 2, 500 * time.Millisecond, 20 * time.Second, killCoordinators(following)},
		{"kill-two", 1, time.Second, 8 * time.Second, killCoordinators(leading, following)},
		{"kill-all", 1, time.Second, 5 * time.Second, killCoordinators(leading, following, remaining)},
		{"freeze-leader", 4, 500 * time.Millisecond, time.Minute, freezeCoordinator(leading)},
		{"freeze-follower", 2, 500 * time.Millisecond, time.Minute, freezeCoordinator(following)},
		{"isolate-leader", 3, time.Second, 20 * time.Second, isolateLeader},
		{"leader-unplugged", 3, time.Second, 20 * time.Second, unplug(leading)},
		{"leader-deaf-to-one", 2, time.Second, 20 * time.Second, oneWay(leading, following)},
		{"one-deaf-to-leader", 2, time.Second, 20 * time.Second, oneWay(following, leading)},
		{"followers-apart", 1, time.Second, 20 * time.Second, apart(following, remaining)},
		{"leader-and-one-apart", 2, time.Second, 20 * time.Second, apart(leading, following)},
		{"leader-loses", 3, 2 * time.Second, 20 * time.Second, lossAtCoordinator(leading)},
		{"follower-loses", 2, 2 * time.Second, 20 * time.Second, lossAtCoordinator(following)},
		{"leader-slow", 1, 2 * time.Second, 15 * time.Second, slowCoordinator(leading)},
	}
	siteKinds = []kind{
		{"kill-pilots", 5, 0, 0, signalPilots(syscall.SIGKILL)},
		{"drain-pilots", 2, 0, 0, signalPilots(syscall.SIGTERM)},
		{"freeze-pilots", 5, 500 * time.Millisecond, time.Minute, signalPilots(syscall.SIGSTOP)},
		{"freeze-site", 2, time.Second, time.Minute, freezeSite},
		{"site-unplugged", 3, time.Second, 40 * time.Second, unplugSite},
		{"site-and-leader-apart", 3, time.Second, 30 * time.Second, siteApart},
		{"site-loses", 4, 2 * time.Second, 30 * time.Second, lossAtSite},
	}
)

// schedule draws all faults of a run from its seed.
func schedule(seed uint64, lasts, every time.Duration, only []string) []*fault {
	var all []*fault
	for lane, kinds := range [][]kind{coordinatorKinds, siteKinds} {
		kinds := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return len(only) > 0 && !slices.Contains(only, k.name) })
		if len(kinds) == 0 {
			continue
		}
		r := rand.New(rand.NewPCG(seed, uint64(lane)))
		for at := span(r, 0, 2*every); at < lasts; {
			x := &fault{at: at, kind: pick(r, kinds)}
			x.lasts = x.kind.shortest + span(r, 0, x.kind.longest-x.kind.shortest)
			if r.IntN(3) > 0 { // most are short
				x.lasts = min(x.lasts, x.kind.shortest+5*time.Second)
			}
			for i := range x.draws {
				x.draws[i] = r.Uint64()
			}
			all = append(all, x)
			at += span(r, every/2, 3*every/2)
			if lane == 0 {
				at += x.lasts
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *fault) int { return int(a.at - b.at) })
	for i, x := range all {
		x.number = i + 1
	}
	return all
}

func span(r *rand.Rand, least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(r.Int64N(int64(most-least)))
}

func pick(r *rand.Rand, kinds []kind) kind {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	at := r.IntN(total)
	for _, k := range kinds {
		if at -= k.weight; at < 0 {
			return k
		}
	}
	panic("unreachable: weights add up")
}

// rage lets the faults happen at their times and returns when all are undone,
// which it also does when ctx ends before.
func (f *federation) rage(ctx context.Context, began time.Time, all []*fault) map[string]int {
	var work sync.WaitGroup
	struck := map[string]int{}
	for _, x := range all {
		select {
		case <-time.After(time.Until(began.Add(x.at))):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		what, undo, err := x.kind.strike(ctx, f, x)
		if err != nil {
			f.trace.fail("fault %d %s: %v", x.number, x.kind.name, err)
			continue
		}
		if what == "" {
			continue // nobody to hit
		}
		struck[x.kind.name]++
		f.trace.note("fault %d %s: %s for %v", x.number, x.kind.name, what, x.lasts.Round(time.Millisecond))
		if undo == nil {
			continue
		}
		work.Go(func() {
			select {
			case <-time.After(x.lasts):
			case <-ctx.Done():
			}
			if err := undo(context.WithoutCancel(ctx)); err != nil {
				f.trace.fail("undo fault %d %s: %v", x.number, x.kind.name, err)
			}
			f.trace.note("fault %d %s: over", x.number, x.kind.name)
		})
	}
	work.Wait()
	return struck
}

// role is one of the coordinators at the time of a fault.
type role int

const (
	leading role = iota
	following
	remaining
)

// cast says who plays which role: the leader as far as known, the others as drawn.
func (f *federation) cast(x *fault) [3]*coordinator {
	var order [3]*coordinator
	copy(order[:], f.coordinators)
	if l := f.leadership.now(); l != nil {
		i := slices.Index(order[:], l)
		order[0], order[i] = order[i], order[0]
	}
	if x.draws[0]%2 == 1 {
		order[1], order[2] = order[2], order[1]
	}
	return order
}

type strike = func(ctx context.Context, f *federation, x *fault) (string, func(context.Context) error, error)

func killCoordinators(roles ...role) strike {
	return func(_ context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
		var hit []*coordinator
		var names []string
		for _, r := range roles {
			c := f.cast(x)[r]
			hit, names = append(hit, c), append(names, c.name)
		}
		for _, c := range hit {
			c.down()
		}
		return strings.Join(names, " "), func(context.Context) error {
			for _, c := range hit {
				if err := c.up(); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
}

func freezeCoordinator(r role) strike {
	return func(_ context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
		c := f.cast(x)[r]
		c.signal(syscall.SIGSTOP)
		return c.name, func(context.Context) error { c.signal(syscall.SIGCONT); return nil }, nil
	}
}

// isolateLeader cuts the leader off from the other coordinators, but not from sites
// and people: a minority that is asked must not answer as if it led (I-17, I-27).
func isolateLeader(ctx context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
	c := f.cast(x)
	return c[0].name, func(ctx context.Context) error { return f.network.heal(ctx, x.number) },
		f.network.drop(ctx, x.number, c[0].host,
			"in ip saddr "+c[1].host.address, "in ip saddr "+c[2].host.address,
			"out ip daddr "+c[1].host.address, "out ip daddr "+c[2].host.address)
}

func unplug(r role) strike {
	return func(ctx context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
		c := f.cast(x)[r]
		return c.name, func(ctx context.Context) error { return c.host.cable(ctx, true) }, c.host.cable(ctx, false)
	}
}

// oneWay makes the first deaf to the second, who hears everything.
func oneWay(deaf, to role) strike {
	return func(ctx context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
		c := f.cast(x)
		return c[deaf].name + " to " + c[to].name, func(ctx context.Context) error { return f.network.heal(ctx, x.number) },
			f.network.drop(ctx, x.number, c[deaf].host, "in ip saddr "+c[to].host.address)
	}
}

// apart cuts two coordinators off from each other; both reach the third.
func apart(a, b role) strike {
	return func(ctx context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
		c := f.cast(x)
		return c[a].name + " and " + c[b].name, func(ctx context.Context) error { return f.network.heal(ctx, x.number) },
			f.network.drop(ctx, x.number, c[a].host, "in ip saddr "+c[b].host.address, "out ip daddr "+c[b].host.address)
	}
}

// loss is between 1 and 20 % of what arrives.
func (x *fault) loss() (percent uint64, rule string) {
	percent = 1 + x.draws[1]%20
	return percent, fmt.Sprintf("in numgen random mod 100 < %d", percent)
}

func lossAtCoordinator(r role) strike {
	return func(ctx context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
		c := f.cast(x)[r]
		percent, rule := x.loss()
		return fmt.Sprintf("%s, %d %%", c.name, percent), func(ctx context.Context) error { return f.network.heal(ctx, x.number) },
			f.network.drop(ctx, x.number, c.host, rule)
	}
}

func slowCoordinator(r role) strike {
	return func(ctx context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
		c := f.cast(x)[r]
		return c.name + " at 2 Mbit/s", func(ctx context.Context) error { return c.host.throttle(ctx, "") }, c.host.throttle(ctx, "2mbit")
	}
}

func (f *federation) siteOf(x *fault) *site { return f.sites[x.draws[0]%uint64(len(f.sites))] }

// signalPilots sends some pilots of a site a signal; SIGSTOP is undone by SIGCONT.
func signalPilots(s syscall.Signal) strike {
	return func(_ context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
		at := f.siteOf(x)
		pids := at.living()
		if len(pids) == 0 {
			return "", nil, nil
		}
		r := rand.New(rand.NewPCG(x.draws[1], x.draws[2]))
		r.Shuffle(len(pids), func(i, j int) { pids[i], pids[j] = pids[j], pids[i] })
		pids = pids[:1+r.IntN(max(1, len(pids)/2))]
		for _, pid := range pids {
			_ = syscall.Kill(pid, s)
		}
		what := fmt.Sprintf("%d of %s", len(pids), at.name)
		if s != syscall.SIGSTOP {
			return what, nil, nil
		}
		return what, func(context.Context) error {
			for _, pid := range pids {
				if command(pid) == "floe-pilot" {
					_ = syscall.Kill(pid, syscall.SIGCONT)
				}
			}
			return nil
		}, nil
	}
}

// freezeSite freezes everything at a site, payloads and passes, too.
func freezeSite(_ context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
	at := f.siteOf(x)
	signal := func(s syscall.Signal) {
		for _, pid := range at.host.processes() {
			_ = syscall.Kill(pid, s)
		}
	}
	signal(syscall.SIGSTOP)
	return at.name, func(context.Context) error { signal(syscall.SIGCONT); return nil }, nil
}

func unplugSite(ctx context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
	at := f.siteOf(x)
	return at.name, func(ctx context.Context) error { return at.host.cable(ctx, true) }, at.host.cable(ctx, false)
}

// siteApart hides the leader from a site, which must go through the followers.
func siteApart(ctx context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
	at, l := f.siteOf(x), f.cast(x)[0]
	return at.name + " and " + l.name, func(ctx context.Context) error { return f.network.heal(ctx, x.number) },
		f.network.drop(ctx, x.number, at.host, "in ip saddr "+l.host.address, "out ip daddr "+l.host.address)
}

func lossAtSite(ctx context.Context, f *federation, x *fault) (string, func(context.Context) error, error) {
	at := f.siteOf(x)
	percent, rule := x.loss()
	return fmt.Sprintf("%s, %d %%", at.name, percent), func(ctx context.Context) error { return f.network.heal(ctx, x.number) },
		f.network.drop(ctx, x.number, at.host, rule)
}
