package simulation

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// Options of a run.
type Options struct {
	// Minutes of virtual time are full of faults; zero is 20. Then everything heals and
	// the run goes on until nothing is left to do.
	Minutes int
	// Trace takes what happens, line by line; nil for none.
	Trace io.Writer
	// Replay has the committed log replayed as well (Replay), at twice the cost.
	Replay bool
	// Launches has pilots come by launch leases alone, as glidein passes get them.
	Launches bool
	// Owners has the owners of sites ban, cap and give orders.
	Owners bool
}

// Result of a run that went well, and of one that did not.
type Result struct {
	Seed uint64
	// Trace is a digest of everything that happened: the same seed gives the same.
	Trace uint64
	// Virtual is how long it took in there.
	Virtual                   time.Duration
	Entries, Attempts, Pilots int
	Undecided                 int // tasks whose history could not be judged in time
	Resumed                   int // leases that went on from a checkpoint
	Ahead                     int // and that were granted beyond what was free
	Log                       []Committed
	Events                    [][]state.Event
	Account                   *Account
	// Proven and InVain count pilot jobs whose pilots were given a task, and that came to
	// nothing.
	Proven, InVain uint64
}

// patience is how long after everything has healed it may take until nothing is left to
// do. Lost and fenced attempts take 40 min each; nobody waits here.
const patience = 24 * time.Hour

// Run runs a federation from one seed and returns the first broken invariant.
func Run(seed uint64, o Options) (*Result, error) {
	if o.Minutes == 0 {
		o.Minutes = 20
	}
	w := &World{
		rng: rand.New(rand.NewPCG(seed, 0x666c6f65)), trace: o.Trace, books: newBooks(),
		net: network{slowest: 5 * time.Millisecond, cut: map[[2]string]time.Duration{}}, chaotic: true,
		launches: o.Launches, owners: o.Owners,
	}
	w.net.w = w
	w.found()
	chaos := time.Duration(o.Minutes) * time.Minute
	w.run(chaos)
	w.heal()
	for end := chaos + patience; w.err == nil && w.now < end; {
		w.run(w.now + time.Minute)
		if w.isDone() == nil {
			break
		}
		if int(w.now/time.Minute)%5 == 0 { // a late word of the operator may have come
			w.operator.settle()
		}
	}
	if w.err == nil {
		w.fail(w.isDone())
	}
	w.run(w.now + 2*time.Minute)
	for range 1000 { // the last entry may be on its way
		if w.err == nil && !w.isEven() {
			w.run(w.now + 100*time.Millisecond)
		}
	}
	if w.err == nil {
		w.fail(w.final(o))
	}
	r := &Result{
		Seed: seed, Virtual: w.now, Entries: len(w.books.log), Attempts: len(w.books.account.leases), Pilots: w.launched,
		Log: w.books.log, Events: w.books.events, Account: w.books.account, Undecided: w.undecided, Resumed: w.books.resumed, Ahead: w.books.ahead, Trace: w.mix,
	}
	for x := range w.nodes[0].machine.Sites() {
		k := x.Shape(shape)
		r.Proven, r.InVain = r.Proven+k.Proven, r.InVain+k.Died+k.Refused+k.Vain
	}
	if w.err != nil {
		return r, fmt.Errorf("seed %d: %w", seed, w.err)
	}
	return r, nil
}

// found makes the federation.
func (w *World) found() {
	for i := range []int{1, 3, 3, 3, 3, 3, 5}[w.rng.IntN(7)] {
		w.nodes = append(w.nodes, newNode(w, fmt.Sprintf("c%d", i+1)))
	}
	for _, n := range w.nodes {
		n.start()
	}
	w.operator = operator{process: process{w: w, name: "operator"}, doom: map[protocol.TaskID]bool{}, acts: map[protocol.UserID]int{}}
	w.operator.begin()
	if w.rng.IntN(10) > 0 {
		w.operator.ask("raise the format", func(_ *state.Machine, by state.Action) state.Command {
			return &state.SetFormat{By: by, Format: state.Format}
		}, nil)
	}
	for i := range []int{1, 1, 2, 3}[w.rng.IntN(4)] {
		w.open(i)
	}
	for range 1 + w.rng.IntN(3) {
		w.operator.after(w.between(0, 5*time.Minute), w.operator.submit)
	}
	for range w.rng.IntN(4) {
		t := protocol.TaskID{Job: protocol.JobIndex(w.rng.IntN(8)), Task: protocol.TaskIndex(w.rng.IntN(4))}
		w.operator.doom[t] = true
	}
	w.operator.after(time.Minute, w.operator.steer)
	if w.owners {
		w.operator.after(30*time.Second, w.operator.own)
	}
	w.after(time.Minute, w.weather)
	w.after(time.Minute, w.strike)
	if w.chance(6) {
		w.after(w.between(8*time.Minute, 18*time.Minute), w.maroon)
	}
	w.after(time.Second, w.watch)
}

// open opens a site: its first node has enough of everything for any task.
func (w *World) open(i int) {
	s := &site{process: process{w: w, name: fmt.Sprintf("s%d", i)}, id: protocol.SiteID(fmt.Sprintf("site%d", i))}
	s.ticket = protocol.DigestOf([]byte(s.id))
	s.begin()
	w.sites = append(w.sites, s)
	for k := range []int{1, 1, 2, 3, 4}[w.rng.IntN(5)] {
		h := &host{name: fmt.Sprintf("%s-h%d", s.id, k), spool: map[protocol.LeaseID]protocol.SignedReport{}}
		h.has = protocol.Resources{
			Cores: 4, Memory: 200 * protocol.GB, Disk: 500 * protocol.GB, Tags: []string{"far"},
			GPUs: []protocol.GPU{{ID: "0", Memory: 8 * protocol.GB, Capability: 80, Tested: true}},
		}
		if k > 0 {
			h.has.Cores = 1 + w.rng.IntN(4)
			h.broken = w.chance(6)
			if w.chance(2) {
				h.has.GPUs, h.has.Tags = nil, nil
			}
		}
		s.hosts = append(s.hosts, h)
	}
	w.operator.ask("open site", func(_ *state.Machine, by state.Action) state.Command {
		return &state.PutSite{By: by, Site: s.id}
	}, func(state.Answer) {
		if w.launches {
			s.passLaunches()
			return
		}
		w.operator.ask("make tickets", func(_ *state.Machine, by state.Action) state.Command {
			return &state.PutTicket{By: by, Site: s.id, Hash: s.ticket, Uses: state.MaxUses, Expires: 1000 * state.Day}
		}, func(state.Answer) { s.pass() })
	})
}

// watchEvery is how often the world looks at the parked exchanges, and parkedWithin how
// long one may be parked though something fits it.
const (
	watchEvery   = 2 * time.Second
	parkedWithin = 20 * time.Second
)

// watch checks that nobody is parked while something fits (I-5), and that no payload
// runs on behind the fence (I-10).
func (w *World) watch() {
	w.after(watchEvery, w.watch)
	for _, p := range w.pilots {
		if running := p.running(); len(running) > 0 && !p.isFrozen() && p.isBehindFence() {
			w.broken("I-10", "%s runs the payload of %v though no coordinator answered for %v", p.name, running[0].lease.ID, w.now-p.heard)
		}
	}
	for _, n := range w.nodes {
		if !n.alive || n.isFrozen() || n.term == 0 || n.term != w.newestTerm() {
			continue
		}
		for _, s := range n.parked {
			switch {
			case !n.machine.AnyFits(s.pilot, &s.free):
				s.fits = 0
			case s.fits == 0:
				s.fits = w.now
			case w.now-s.fits > parkedWithin:
				w.broken("I-5", "%s is parked at %s for %v though a task fits", s.pilot, n.name, w.now-s.fits)
			}
		}
	}
}

// leader is the node that leads the newest term, nil while there is none.
func (w *World) leader() *node {
	newest := w.newestTerm()
	for _, n := range w.nodes {
		if n.alive && n.term != 0 && n.term == newest {
			return n
		}
	}
	return nil
}

// isIdle tells whether several pilots wait, and none works.
func (w *World) isIdle() bool {
	n := w.leader()
	return n != nil && len(n.parked) > 1 && n.machine.Totals().Tasks[protocol.TaskProcessing] == 0
}

// isDone tells what is left to do, nil where nothing is.
func (w *World) isDone() error {
	leader := w.leader()
	if leader == nil {
		return errors.New("I-27: nobody leads")
	}
	for d := range leader.machine.Datasets(0) {
		for t := range d.Tasks {
			c := d.Tasks[t].Counts
			for _, s := range []protocol.TaskState{protocol.TaskQueued, protocol.TaskProcessing, protocol.TaskCopied, protocol.TaskSuspended} {
				if c[s] > 0 {
					return fmt.Errorf("I-5: task %d of dataset %d is %v in %d jobs, %v after everything healed", t, d.ID, s, c[s], w.now)
				}
			}
		}
		if n := d.JobCounts[protocol.JobOK] + d.JobCounts[protocol.JobError]; n != uint64(d.Jobs) {
			return fmt.Errorf("I-5: dataset %d has %d of %d jobs in their end", d.ID, n, d.Jobs)
		}
	}
	if p := w.marooned; p != nil && p.alive && len(p.running()) > 0 {
		return fmt.Errorf("I-10: %s runs on, %v after everything healed", p.name, w.now)
	}
	if err := w.launchesLeft(leader.machine); err != nil {
		return err
	}
	for _, h := range w.hosts() {
		if len(h.spool) > 0 {
			return fmt.Errorf("I-4: %d reports are left in the spool of %s", len(h.spool), h.name)
		}
	}
	return nil
}

// isEven tells whether all nodes have applied the same.
func (w *World) isEven() bool {
	for _, n := range w.nodes {
		if n.machine.Index() != w.nodes[0].machine.Index() {
			return false
		}
	}
	return true
}

func (w *World) hosts() (all []*host) {
	for _, s := range w.sites {
		all = append(all, s.hosts...)
	}
	return all
}

// final checks what must be so at the end.
func (w *World) final(o Options) error {
	first := w.nodes[0]
	want, err := snapshotOf(first.machine)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(want)
	w.remember(binary.LittleEndian.Uint64(digest[:]))
	for _, n := range w.nodes {
		got, err := snapshotOf(n.machine)
		switch {
		case err != nil:
			return err
		case n.machine.Index() != first.machine.Index():
			return fmt.Errorf("I-16: %s is at index %d, %s at %d", n.name, n.machine.Index(), first.name, first.machine.Index())
		case !bytes.Equal(got, want):
			return fmt.Errorf("I-20: the records of %s and %s differ", n.name, first.name)
		}
		if err := Audit(n.machine); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	if err := w.books.account.Compare(first.machine); err != nil {
		return err
	}
	submissions := map[string]protocol.DatasetID{}
	for d := range first.machine.Datasets(0) {
		if other, twice := submissions[d.Facts.Alias]; twice {
			return fmt.Errorf("I-4: datasets %d and %d come of one submission", d.ID, other)
		}
		submissions[d.Facts.Alias] = d.ID
	}
	for _, d := range w.operator.datasets {
		x, known := first.machine.Dataset(d.id)
		if !known || x.Jobs < d.jobs || x.Jobs > d.jobs && w.operator.open == 0 || x.Facts.Alias != d.key {
			return fmt.Errorf("I-16: dataset %d of submission %s was acknowledged with %d jobs; there is %q with %d", d.id, d.key, d.jobs, x.Facts.Alias, x.Jobs)
		}
	}
	b := &w.books
	for _, p := range w.pilots { // one may be frozen to the end, and not hear what came of its reports
		p.noteUnanswered()
	}
	for i := range b.events {
		b.history.Observe(int64(b.proposed[i]), int64(b.applied[i]), b.events[i])
	}
	if w.undecided, err = b.history.Check(10 * time.Second); err != nil {
		return err
	}
	if o.Replay {
		r, err := Replay(func(yield func(Committed) bool) {
			for _, c := range b.log {
				if !yield(c) {
					return
				}
			}
		}, nil)
		switch {
		case err != nil:
			return fmt.Errorf("replay: %w", err)
		case r.Snapshot != digest:
			return errors.New("I-20: the log replayed gives another record")
		}
	}
	return nil
}
