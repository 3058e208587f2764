package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A single node, bootstrapped in an empty directory, serves and survives a restart.
func TestSingleNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		n := c.leader()
		first := c.propose(n, "a")
		second := c.propose(n, "b")
		if first.Answer != 1 || second.Answer != 2 || second.Index <= first.Index || first.Term == 0 {
			t.Errorf("receipts = %+v, %+v; want answers 1, 2 and rising indexes", first, second)
		}
		if err := n.Bootstrap(t.Context()); !errors.Is(err, ErrBootstrapped) {
			t.Errorf("second Bootstrap = %v, want ErrBootstrapped", err)
		}
		n.cancel()
		if err := <-n.ended; err != nil {
			t.Errorf("Run after cancel = %v, want nil", err)
		}
		if _, err := n.Propose(t.Context(), []byte("late")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Propose after Run = %v, want ErrNotLeader", err)
		}
		if err := n.ReadIndex(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("ReadIndex after Run = %v, want ErrClosed", err)
		}
		c.start(0)
		c.leader()
		if diff := cmp.Diff([]string{"a", "b"}, n.machine.list()); diff != "" {
			t.Errorf("commands after restart (-want +got):\n%s", diff)
		}
	})
}

// Acknowledged commands are applied exactly once, in one order, on every node, while
// leaders are partitioned and crash. Commands of unknown fate may appear, once.
func TestAcknowledgedOnceThroughFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.leader()
		var mu sync.Mutex
		acked := map[string]Receipt{}
		refused := map[string]bool{}
		ctx, stop := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for k := range 12 {
			clients.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					command := fmt.Sprintf("%d/%d", k, i)
					n := c.nodes[(k+i)%3]
					for _, m := range c.nodes { // the hint of a real client
						if m.IsLeader() {
							n = m
						}
					}
					r, err := n.Propose(context.Background(), []byte(command))
					mu.Lock()
					switch {
					case err == nil:
						acked[command] = r
					case !errors.Is(err, ErrUnknown):
						refused[command] = true
					}
					mu.Unlock()
					if err != nil {
						<-time.After(20 * time.Millisecond)
					}
				}
			})
		}
		for range 3 {
			progressed := func(by int) func() bool {
				mu.Lock()
				defer mu.Unlock()
				want := len(acked) + by
				return func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) >= want }
			}
			c.eventually("progress", progressed(60))
			l := c.leader()
			c.network.Cut(l.config.Address)
			c.eventually("the cut-off leader to step down", func() bool { return !l.IsLeader() })
			c.eventually("progress without it", progressed(60))
			c.network.Heal(l.config.Address)
		}
		stop()
		clients.Wait()

		l := c.leader() // then the leader crashes, and the next one has it all
		l.crash()
		for i, n := range c.nodes {
			if n == l {
				c.start(i)
			}
		}
		c.leader()
		all := c.agree()
		times := count(all)
		position := map[string]int{}
		for i, command := range all {
			position[command] = i
			if refused[command] {
				t.Errorf("command %s was refused as not applied, but is there", command)
			}
		}
		for command, r := range acked {
			if times[command] != 1 {
				t.Errorf("command %s was acknowledged and applied %d times", command, times[command])
			}
			if r.Answer != position[command]+1 {
				t.Errorf("command %s was answered %v, it stands at %d", command, r.Answer, position[command]+1)
			}
		}
		if len(acked) < 300 {
			t.Errorf("%d commands acknowledged, want a few hundred for the test to mean anything", len(acked))
		}
	})
}

// Leadership is announced with its barrier, and the loss of it is too; a follower
// names the leader.
func TestLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		l := c.leader()
		now, changed := l.Leadership()
		if !now.Leading || now.Term != l.Term() || now.Barrier == 0 || l.Applied() < now.Barrier {
			t.Errorf("Leadership = %+v at term %d, applied %d", now, l.Term(), l.Applied())
		}
		for _, f := range c.followers() {
			_, err := f.Propose(t.Context(), []byte("x"))
			var no *NotLeaderError
			if !errors.As(err, &no) || no.Leader.ID != l.config.ID || no.Leader.Address != l.config.Address {
				t.Errorf("Propose on a follower = %v, want ErrNotLeader naming %s", err, l.config.ID)
			}
			if err := f.ReadIndex(t.Context()); !errors.Is(err, ErrNotLeader) {
				t.Errorf("ReadIndex on a follower = %v, want ErrNotLeader", err)
			}
			if err := f.Remove(t.Context(), l.config.ID); !errors.Is(err, ErrNotLeader) {
				t.Errorf("Remove on a follower = %v, want ErrNotLeader", err)
			}
		}
		if err := l.TransferLeadership(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		<-changed
		if after, _ := l.Leadership(); after.Leading && after.Term == now.Term {
			t.Errorf("Leadership after transfer = %+v", after)
		}
		if next := c.leader(); next == l {
			t.Errorf("%s leads again right after its transfer", l.config.ID)
		}
	})
}

// ReadIndex on the leader covers every acknowledged command, and fails on a leader
// that has been deposed without knowing.
func TestReadIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		l := c.leader()
		r := c.propose(l, "a")
		var readers sync.WaitGroup
		for range 50 {
			readers.Go(func() {
				if err := l.ReadIndex(t.Context()); err != nil || l.Applied() < r.Index {
					t.Errorf("ReadIndex = %v, applied %d, want at least %d", err, l.Applied(), r.Index)
				}
			})
		}
		readers.Wait()
		if s := l.Stats(); s.Reads != 50 || s.ReadRounds >= 50 {
			t.Errorf("%d reads took %d rounds, want 50 reads to share rounds", s.Reads, s.ReadRounds)
		}
		for _, f := range c.followers() {
			if err := f.WaitApplied(t.Context(), r.Index); err != nil {
				t.Error(err)
			}
		}
		c.network.Cut(l.config.Address)
		if err := l.ReadIndex(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("ReadIndex on a cut-off leader = %v, want ErrNotLeader", err)
		}
	})
}

// At a planned stop leadership moves before the leader leaves, and nothing admitted
// is lost.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		l := c.leader()
		results := make(chan error, 20)
		for i := range cap(results) {
			go func() {
				_, err := l.Propose(t.Context(), []byte(fmt.Sprint(i)))
				results <- err
			}()
		}
		synctest.Wait()
		start := time.Now()
		l.cancel()
		if err := <-l.ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Errorf("Propose admitted before the stop = %v", err)
			}
		}
		for _, f := range c.nodes {
			if f != l {
				c.eventually("the next leader", func() bool { m, ok := f.Leader(); return ok && m.ID != l.config.ID })
			}
		}
		if took := time.Since(start); took > time.Second { // virtual time: no election timeout passed
			t.Errorf("hand-over took %v of virtual time", took)
		}
	})
}

// A planned stop of the leader costs no election timeout: the next leader is the
// first to campaign, and writes go on within two seconds of virtual time (I-27),
// also under the slow clocks of members at several sites.
func TestAPlannedStopNeedsNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, func(c *Config) { c.Timing = DefaultTiming() })
		l := c.leader()
		c.propose(l, "before")
		term := l.Term()
		start := time.Now()
		l.cancel()
		var next *node
		for next == nil {
			for _, n := range c.nodes {
				if n == l {
					continue
				}
				if _, err := n.Propose(t.Context(), []byte("after")); err == nil {
					next = n
					break
				}
			}
			<-time.After(time.Millisecond)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("nothing was written for %v of virtual time", took)
		}
		if next.Term() != term+1 {
			t.Errorf("the next leader is of term %d, the former of %d: there were more campaigns than one", next.Term(), term)
		}
		if err := <-l.ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		for _, n := range c.nodes {
			if n != l {
				c.eventually("all to have it", func() bool { return slices.Equal(n.machine.list(), []string{"before", "after"}) })
			}
		}
	})
}

// A new member joins without a vote, catches up, also by snapshot, and is promoted
// by itself; a removed one stops.
func TestMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, func(c *Config) { c.Limits.RetainBytes = 1; c.Limits.InFlight = 1 })
		l := c.leader()
		for i := range 100 {
			c.propose(l, fmt.Sprint(i))
		}
		if err := l.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		joiner := &node{config: testConfig(t, t.TempDir(), 1)}
		c.nodes = append(c.nodes, joiner)
		c.start(1)
		if err := l.AddNonvoter(t.Context(), joiner.config.ID, joiner.config.Address); err != nil {
			t.Fatal(err)
		}
		if m := l.Members(); len(m) != 2 || m[1].Voter {
			t.Errorf("Members = %+v, want the joiner without a vote", m)
		}
		c.eventually("promotion", func() bool { return l.Members()[1].Voter })
		if got := c.agree(); len(got) != 100 {
			t.Errorf("joiner holds %d commands, want 100", len(got))
		}
		if joiner.Stats().Installs == 0 {
			t.Error("the joiner took no snapshot; the log should have been truncated")
		}
		if err := l.Promote(t.Context(), "nobody"); !errors.Is(err, ErrNoMember) {
			t.Errorf("Promote(nobody) = %v, want ErrNoMember", err)
		}
		if err := l.Remove(t.Context(), joiner.config.ID); err != nil {
			t.Fatal(err)
		}
		c.propose(l, "after")
		if m := l.Members(); len(m) != 1 {
			t.Errorf("Members = %+v, want one", m)
		}
	})
}
