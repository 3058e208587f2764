package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// enqueueLimit is how long raft's main loop may take to accept an entry, which is
// at most one write; the watchdog fires at the same time if the disk is the cause.
const enqueueLimit = 5 * time.Second

// committer gathers proposals into entries. One goroutine gathers, stamps and hands
// over, in order; up to Limits.InFlight entries then wait for their outcome side by
// side, so that their syncs overlap.
type committer struct {
	r     *Replica
	carry *proposal     // taken from the queue but too large for the entry gathered last
	idle  chan struct{} // a token when the last entry in flight settled
	last  int           // proposals in the entry gathered last

	term    uint64    // of the entry proposed last
	stamped time.Time // when it was

	turnedAway chan struct{} // a token when an entry was not applied after its stamp
}

func newCommitter(r *Replica) *committer {
	return &committer{r: r, idle: make(chan struct{}, 1), turnedAway: make(chan struct{}, 1)}
}

// run proposes until ctx ends, and then turns away what is still queued.
func (c *committer) run(ctx context.Context) {
	for {
		batch := c.gather(ctx)
		if batch == nil {
			break
		}
		c.propose(batch)
	}
	c.r.proposals.close()
	for {
		select {
		case p := <-c.r.proposals.queue:
			p.fate.CompareAndSwap(waiting, taken)
			c.r.proposals.settle(p, outcome{err: ErrClosed})
		default:
			return
		}
	}
}

// gather waits for a command and for those that follow it closely, and takes a slot
// for their entry. With nothing in flight a command goes alone and at once; else it
// waits for company, until the entry is full, the window has passed or all earlier
// entries are settled. Where the entry before had company, there will be some again,
// and the window is waited for in any case. It returns nil when ctx ended.
func (c *committer) gather(ctx context.Context) []*proposal {
	limits, q := c.r.config.Limits, c.r.proposals
	var batch []*proposal
	size := 0
	add := func(p *proposal) (fits bool) {
		if len(batch) > 0 && size+p.size > limits.BatchBytes {
			c.carry = p
			return false
		}
		if !p.fate.CompareAndSwap(waiting, taken) {
			q.settle(p, outcome{})
			return true
		}
		batch = append(batch, p)
		size += p.size
		return size < limits.BatchBytes
	}
	for len(batch) == 0 {
		if p := c.carry; p != nil {
			c.carry = nil
			add(p)
			continue
		}
		select {
		case p := <-q.queue:
			add(p)
		case <-ctx.Done():
			return nil
		}
	}
	room := c.carry == nil && size < limits.BatchBytes
	for room { // what waits already costs no time
		select {
		case p := <-q.queue:
			room = add(p)
			continue
		default:
		}
		break
	}
	window := time.NewTimer(limits.Gather)
	defer window.Stop()
	idle := c.idle
	if c.last >= crowd {
		idle = nil
	}
	for ready := idle != nil && len(q.slots) == 0; ; {
		queue, slots := q.queue, q.slots
		if !room {
			queue = nil
		} else if !ready {
			slots = nil
		}
		select {
		case p := <-queue:
			room = add(p)
		case <-window.C:
			ready = true
		case <-idle:
			ready = true
		case slots <- struct{}{}:
			c.last = len(batch)
			return batch
		case <-ctx.Done():
			c.settle(batch, ErrClosed)
			return nil
		}
	}
}

// crowd is how many proposals in one entry say that more are coming. An entry costs
// every member a write, a sync and a message, whatever is in it: under load fewer and
// fuller ones leave more for the work, and without load nobody waits.
const crowd = 3

// propose stamps a batch and hands it to raft; its slot is held until it settles.
func (c *committer) propose(batch []*proposal) {
	r := c.r
	release := func() {
		<-r.proposals.slots
		if len(r.proposals.slots) == 0 {
			token(c.idle)
		}
	}
	standing, _ := r.standing.get()
	if !standing.Leading {
		release()
		c.settle(batch, r.notLeader())
		return
	}
	now := time.Now()
	entry, err := r.config.Stamp(c.stamping(batch, standing.Term, now))
	if err != nil {
		release()
		c.settle(batch, fmt.Errorf("stamp entry: %w", err))
		return
	}
	future := r.raft.Apply(entry, enqueueLimit)
	c.term, c.stamped = standing.Term, now
	r.count.entries.Add(1)
	r.count.bytes.Add(uint64(len(entry)))
	r.raftWork.Go(func() {
		defer release()
		c.await(batch, future, now)
	})
}

// stamping describes the entry to the stamper. The first entry of a term, and one
// after an entry that was turned away, cannot rely on the monotonic clock.
func (c *committer) stamping(batch []*proposal, term uint64, now time.Time) Stamping {
	s := Stamping{Term: term, Wall: now, First: c.term != term}
	select {
	case <-c.turnedAway:
		s.First = true
	default:
	}
	if !s.First {
		s.Elapsed = now.Sub(c.stamped)
	}
	s.Commands = make([][]byte, 0, commandsIn(batch))
	for _, p := range batch {
		s.Commands = append(s.Commands, p.commands...)
	}
	return s
}

// await waits for one entry's fate and gives every command its own answer.
func (c *committer) await(batch []*proposal, future raft.ApplyFuture, since time.Time) {
	r := c.r
	raftErr := future.Error()
	err, notApplied := fate(raftErr)
	r.transfers.saw(raftErr)
	if notApplied {
		token(c.turnedAway)
		if errors.Is(err, ErrNotLeader) {
			err = r.notLeader()
		}
	}
	var a *applied
	if err == nil {
		var ok bool
		if a, ok = future.Response().(*applied); !ok {
			err = fmt.Errorf("%w: %w", ErrUnknown, future.Response().(error))
		} else if n := commandsIn(batch); len(a.answers) != n {
			r.fuse.blow(fmt.Errorf("%w: entry %d holds %d commands, answers %d", ErrAnswers, a.index, n, len(a.answers)))
			err = fmt.Errorf("%w: %w", ErrUnknown, ErrAnswers)
		}
	}
	if err != nil {
		c.settle(batch, err)
		return
	}
	r.timesMu.Lock()
	r.commitTimes.add(time.Since(since))
	r.timesMu.Unlock()
	r.count.commands.Add(uint64(len(a.answers)))
	first := 0
	for _, p := range batch {
		n := len(p.commands)
		r.proposals.settle(p, outcome{index: a.index, term: a.term, first: first, answers: a.answers[first : first+n]})
		first += n
	}
	// Raft's log cache keeps the future, and with it the response, for hundreds of
	// entries more.
	a.answers = nil
}

func commandsIn(batch []*proposal) (n int) {
	for _, p := range batch {
		n += len(p.commands)
	}
	return n
}

// settle gives all commands of a batch the same error.
func (c *committer) settle(batch []*proposal, err error) {
	if errors.Is(err, ErrUnknown) {
		c.r.count.unknown.Add(uint64(commandsIn(batch)))
	}
	for _, p := range batch {
		c.r.proposals.settle(p, outcome{err: err})
	}
}

// token puts a token into a channel that holds one.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
