package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// Many concurrent commands share entries; each has its own answer and place, and a
// caller's commands keep their order.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		n := c.leader()
		var callers sync.WaitGroup
		var mu sync.Mutex
		seen := map[Receipt]bool{}
		for k := range 100 {
			callers.Go(func() {
				last := Receipt{}
				for i := range 10 {
					r := c.propose(n, fmt.Sprintf("%d/%d", k, i))
					if r.Index < last.Index || r.Index == last.Index && r.Ordinal <= last.Ordinal {
						t.Errorf("command %d/%d landed at %d-%d, the one before at %d-%d", k, i, r.Index, r.Ordinal, last.Index, last.Ordinal)
					}
					last = r
					mu.Lock()
					r.Answer = nil
					if seen[r] {
						t.Errorf("two commands at %d-%d", r.Index, r.Ordinal)
					}
					seen[r] = true
					mu.Unlock()
				}
			})
		}
		callers.Wait()
		s := n.Stats()
		if s.Commands != 1000 || s.Entries > 500 || s.Admitted != 0 || s.InFlight != 0 {
			t.Errorf("stats = %+v, want 1000 commands in far fewer entries, none left", s)
		}
	})
}

// Nobody holds on to an answer once it was given, though raft caches entries.
func TestAnswersAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		n := c.leader()
		var answers []weak.Pointer[[1 << 16]byte]
		for range 20 {
			answers = append(answers, weak.Make(c.propose(n, "large").Answer.(*[1 << 16]byte)))
		}
		c.propose(n, "small")
		synctest.Wait()
		runtime.GC()
		held := 0
		for _, a := range answers {
			if a.Value() != nil {
				held++
			}
		}
		if held > 2 { // what is on some goroutine's stack yet
			t.Errorf("%d of %d answers are still held", held, len(answers))
		}
	})
}

// An entry is closed when the next command would make it too long; a longer command
// goes alone.
func TestBatchBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var largest int
		c := newCluster(t, 1, func(c *Config) {
			c.Limits.BatchBytes, c.Limits.InFlight = 100, 1
			c.Stamp = func(s Stamping) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				if size := len(bytes.Join(s.Commands, nil)); len(s.Commands) > 1 {
					largest = max(largest, size)
				}
				return stampList(s)
			}
		})
		n := c.leader()
		var callers sync.WaitGroup
		for i := range 200 {
			callers.Go(func() { c.propose(n, fmt.Sprintf("%03d%s", i, bytes.Repeat([]byte{'x'}, i))) })
		}
		callers.Wait()
		if largest > 100 || largest < 50 {
			t.Errorf("largest shared entry holds %d bytes of commands, want close to 100 and no more", largest)
		}
	})
}

// Refusals before the log are certain: the command is not there, now or later.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		odd := errors.New("odd command")
		c := newCluster(t, 1, func(c *Config) {
			c.Limits.CommandBytes, c.Limits.Admitted = 10, 3
			c.Stamp = func(s Stamping) ([]byte, error) {
				switch string(s.Commands[0]) {
				case "odd":
					return nil, odd
				case "block":
					<-block
				}
				return stampList(s)
			}
		})
		n := c.leader()
		if _, err := n.Propose(t.Context(), make([]byte, 11)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("11 bytes: %v, want ErrTooLarge", err)
		}
		if _, err := n.Propose(t.Context(), []byte("odd")); !errors.Is(err, odd) || errors.Is(err, ErrUnknown) {
			t.Errorf("refused by the stamper: %v, want its error", err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := n.Propose(ended, []byte("never")); !errors.Is(err, context.Canceled) {
			t.Errorf("ctx ended before: %v, want its error", err)
		}

		// One command is being stamped, two wait; the fourth finds no room.
		ctx, cancel := context.WithCancel(t.Context())
		results := map[string]chan error{"block": nil, "waits": nil, "gone": nil}
		for _, command := range []string{"block", "gone", "waits"} {
			result := make(chan error, 1)
			results[command] = result
			with := ctx
			if command == "waits" {
				with = t.Context()
			}
			go func() {
				_, err := n.Propose(with, []byte(command))
				result <- err
			}()
			synctest.Wait()
		}
		if _, err := n.Propose(t.Context(), []byte("full")); !errors.Is(err, ErrBusy) {
			t.Errorf("over the admission limit: %v, want ErrBusy", err)
		}
		cancel()
		if err := <-results["block"]; !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("ctx ended while proposed: %v, want ErrUnknown", err)
		}
		if err := <-results["gone"]; errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("ctx ended while waiting: %v, want ctx's error", err)
		}
		close(block)
		if err := <-results["waits"]; err != nil {
			t.Errorf("the command behind them: %v", err)
		}
		c.propose(n, "last")
		got := fmt.Sprint(n.machine.list())
		if want := "[block waits last]"; got != want {
			t.Errorf("applied %v, want %v", got, want)
		}
		if s := n.Stats(); s.Busy != 1 || s.Unknown != 1 || s.Admitted != 0 {
			t.Errorf("stats = %+v, want one busy, one unknown, none admitted", s)
		}
	})
}

// The stamper learns the leader's monotonic time between entries, and when it cannot
// be relied on.
func TestStamping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var stamps []Stamping
		c := newCluster(t, 3, func(c *Config) {
			c.Stamp = func(s Stamping) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				stamps = append(stamps, s)
				return stampList(s)
			}
		})
		l := c.leader()
		c.propose(l, "a")
		<-time.After(10 * time.Second)
		c.propose(l, "b")
		l.crash()
		for _, n := range c.nodes {
			if n == l {
				n.Replica = nil
			}
		}
		next := c.leader()
		c.propose(next, "c")
		mu.Lock()
		defer mu.Unlock()
		a, b, d := stamps[0], stamps[1], stamps[2]
		if !a.First || a.Elapsed != 0 || a.Term == 0 {
			t.Errorf("first entry: %+v, want First and no Elapsed", a)
		}
		if b.First || b.Elapsed < 10*time.Second || b.Elapsed > 11*time.Second || b.Wall.Sub(a.Wall) != b.Elapsed {
			t.Errorf("second entry: %+v, want 10 s elapsed", b)
		}
		if !d.First || d.Term <= b.Term || string(d.Commands[0]) != "c" {
			t.Errorf("first entry of the next leader: %+v, want First in a later term", d)
		}
	})
}

// Commands proposed together share an entry, in their order; one that is too large is
// refused alone, and together they may be more than an entry holds.
func TestProposeAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, func(c *Config) { c.Limits.BatchBytes, c.Limits.CommandBytes = 100, 1000 })
		n := c.leader()
		before := n.Stats()
		commands := [][]byte{[]byte("a"), []byte("b"), bytes.Repeat([]byte{'x'}, 1001), []byte("c"), bytes.Repeat([]byte{'d'}, 99), []byte("e"), []byte("f")}
		var last Receipt
		for i, o := range n.ProposeAll(t.Context(), commands) {
			if i == 2 {
				if !errors.Is(o.Err, ErrTooLarge) {
					t.Errorf("command 2 of 1001 bytes: %v, want %v", o.Err, ErrTooLarge)
				}
				continue
			}
			if o.Err != nil {
				t.Fatalf("command %d: %v", i, o.Err)
			}
			if o.Index < last.Index || o.Index == last.Index && o.Ordinal != last.Ordinal+1 {
				t.Errorf("command %d landed at %d-%d, the one before at %d-%d", i, o.Index, o.Ordinal, last.Index, last.Ordinal)
			}
			last = o.Receipt
		}
		after := n.Stats()
		if got := after.Entries - before.Entries; after.Commands-before.Commands != 6 || got > 4 {
			t.Errorf("%d commands in %d entries, want 6 in at most 4", after.Commands-before.Commands, got)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for i, o := range n.ProposeAll(ended, commands[:2]) {
			if !errors.Is(o.Err, context.Canceled) || errors.Is(o.Err, ErrUnknown) {
				t.Errorf("command %d proposed after its time: %v, want %v", i, o.Err, context.Canceled)
			}
		}
		if s := n.Stats(); s.Admitted != 0 {
			t.Errorf("%d commands are still admitted", s.Admitted)
		}
	})
}

// After an entry with company the next one waits for the window, though nothing is in
// flight; after an entry without, a command goes at once.
func TestACrowdIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		c := newCluster(t, 1, func(c *Config) {
			c.Limits.Gather = 10 * time.Millisecond
			c.Stamp = func(s Stamping) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				sizes = append(sizes, len(s.Commands))
				return stampList(s)
			}
		})
		n := c.leader()
		last := func() int {
			mu.Lock()
			defer mu.Unlock()
			return sizes[len(sizes)-1]
		}
		// pair proposes two commands a millisecond apart and returns how many entries they took.
		pair := func() uint64 {
			before := n.Stats().Entries
			var callers sync.WaitGroup
			callers.Go(func() { c.propose(n, "one") })
			<-time.After(time.Millisecond)
			callers.Go(func() { c.propose(n, "two") })
			callers.Wait()
			return n.Stats().Entries - before
		}
		for crowded := false; !crowded; crowded = last() >= crowd {
			var callers sync.WaitGroup
			for i := range 64 {
				callers.Go(func() { c.propose(n, fmt.Sprint(i)) })
			}
			callers.Wait()
		}
		if got := pair(); got != 1 {
			t.Errorf("after a crowd two commands took %d entries, want 1", got)
		}
		if got := pair(); got != 2 {
			t.Errorf("without a crowd two commands took %d entries, want 2", got)
		}
	})
}
