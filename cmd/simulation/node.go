package simulation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"floe/coordinator/server"
	"floe/coordinator/state"
	"floe/protocol"
)

// timing of the coordinators: the defaults.
var timing = server.Timing{
	Lease: 5 * time.Minute, Offer: 2 * time.Minute, Fence: 40 * time.Minute, Exchange: time.Minute,
	Pilot: 15 * time.Minute, Launch: 72 * time.Hour, Stall: 5 * time.Second,
}

// node is one model coordinator: the real record and the real steps of a leader.
type node struct {
	process
	raft    raft
	machine *state.Machine
	core    *server.Core
	flushed int           // the newest write that is on disk
	wall    time.Duration // by how much its wall clock is wrong

	term    uint64        // it leads; zero where it does not
	changed chan struct{} // closed when that changes
	begun   *server.Term  // the leader's work

	gathering []*proposal
	stall     time.Duration // how long the committer will take next
	waiting   map[uint64]*batch
	stampTerm uint64
	stamped   time.Duration

	parked   []*session
	sessions []*session // all that are not answered
}

// proposal is a command on its way.
type proposal struct {
	command []byte
	done    func(server.Fate)
}

// batch is one entry of proposals.
type batch struct {
	term      uint64
	proposals []*proposal
}

func newNode(w *World, name string) *node {
	n := &node{process: process{w: w, name: name}}
	n.raft.n = n
	return n
}

// start begins with what is on disk.
func (n *node) start() {
	n.begin()
	n.w.note("%s starts", n.name)
	n.machine, n.core = nil, server.NewCore(n, passkeys{}, timing)
	n.term, n.begun, n.stampTerm = 0, nil, 0
	n.changed = make(chan struct{})
	n.gathering, n.waiting, n.parked, n.sessions, n.stall = nil, map[uint64]*batch{}, nil, nil, 0
	n.raft.start()
	n.restore()
}

// crash ends it: what was not on disk is gone, and who waits for it may hear of it.
func (n *node) crash() {
	n.w.note("%s crashes", n.name)
	n.kill()
	for _, s := range n.sessions {
		s.over = true
		if n.w.chance(2) {
			n.w.after(n.w.between(time.Millisecond, 100*time.Millisecond), func() {
				s.reply(nil, protocol.Errorf(protocol.CodeInternal, "connection reset"))
			})
		}
	}
	n.sessions = nil
}

func (n *node) peers() (all []*node) {
	for _, p := range n.w.nodes {
		if p != n {
			all = append(all, p)
		}
	}
	return all
}

// time is the monotonic clock.
func (n *node) time() time.Time { return epoch.Add(n.w.now) }

// Read implements server.View.
func (n *node) Read(f func(*state.Machine)) { f(n.machine) }

// Leading implements server.View.
func (n *node) Leading() (uint64, <-chan struct{}) { return n.term, n.changed }

// passkeys are derived in a simple way: that nobody can guess them is not tested here.
type passkeys struct{}

func (passkeys) Passkey(task protocol.TaskID, lease protocol.LeaseID, key protocol.Digest, nonce [16]byte) protocol.Passkey {
	h := sha256.New()
	h.Write([]byte(task.String() + " " + lease.String()))
	h.Write(key[:])
	h.Write(nonce[:])
	return protocol.Passkey(hex.EncodeToString(h.Sum(nil)[:8]))
}

// restore takes the snapshot at the beginning of the log.
func (n *node) restore() {
	n.machine = state.New()
	if n.raft.mem.snapshot == nil {
		return
	}
	if err := n.machine.Restore(bytes.NewReader(n.raft.mem.snapshot)); err != nil {
		n.w.broken("I-22", "%s cannot restore: %v", n.name, err)
	}
}

// apply applies what is committed.
func (n *node) apply() {
	r := &n.raft
	for r.applied < r.commit && n.w.err == nil {
		r.applied++
		e := r.entry(r.applied)
		if e.data == nil {
			if r.role == leader && r.applied == r.noop {
				n.lead()
			}
			continue
		}
		answers, events, err := n.machine.Apply(r.applied, e.term, e.data)
		if err != nil {
			n.w.broken("I-21", "%s: %v", n.name, err)
			return
		}
		n.w.applied(n, r.applied, e.term, e.data, answers, events)
		n.core.Observe(n.time(), events)
		if b := n.waiting[r.applied]; b != nil {
			delete(n.waiting, r.applied)
			for i, p := range b.proposals {
				if b.term != e.term {
					p.done(server.Fate{Err: errUnknown})
				} else {
					p.done(server.Fate{Answer: answers[i]})
				}
			}
		}
	}
	n.poll()
	if r.applied >= r.mem.base+compactAfter {
		n.compact()
	}
}

var errUnknown = protocol.Errorf(protocol.CodeUnknown, "nobody knows whether the entry is committed")

// compact persists a view of the record while the machine goes on.
func (n *node) compact() {
	index, frozen := n.raft.applied, n.machine.Snapshot()
	n.after(n.w.between(0, 200*time.Millisecond), func() {
		var b bytes.Buffer
		if err := frozen.Persist(&b); err != nil {
			n.w.fail(err)
			return
		}
		n.raft.compact(b.Bytes(), index)
	})
}

// propose has a command applied; done hears of its fate, never at once.
func (n *node) propose(c state.Command, done func(server.Fate)) {
	refuse := func(err error) { n.after(0, func() { done(server.Fate{Err: err}) }) }
	if err := c.Validate(); err != nil {
		refuse(err)
		return
	}
	b, err := state.EncodeCommand(c)
	if err != nil {
		refuse(err)
		return
	}
	if n.raft.role != leader {
		refuse(errNotLeader)
		return
	}
	n.gathering = append(n.gathering, &proposal{bytes.Clone(b), done})
	if len(n.gathering) == 1 {
		wait := n.w.between(0, 3*time.Millisecond)
		if n.w.chaotic && n.w.chance(100) { // the committer is stalled
			wait = n.w.between(0, 20*time.Second)
		}
		n.after(max(wait, n.stall), n.stamp)
		n.stall = 0
	}
}

var errNotLeader = protocol.Errorf(protocol.CodeNotLeader, "this coordinator does not lead")

// proposeAll proposes commands and hears of all fates at once.
func (n *node) proposeAll(commands []state.Command, done func([]server.Fate)) {
	fates, left := make([]server.Fate, len(commands)), len(commands)
	for i, c := range commands {
		n.propose(c, func(f server.Fate) {
			fates[i] = f
			if left--; left == 0 {
				done(fates)
			}
		})
	}
}

// stamp makes an entry of what was gathered. Between that and the log it may be
// stalled, and lead another term when it goes on: the entry is a ghost then.
func (n *node) stamp() {
	b := &batch{proposals: n.gathering}
	n.gathering = nil
	turnAway := func() {
		for _, p := range b.proposals {
			p.done(server.Fate{Err: errNotLeader})
		}
		n.poll()
	}
	if n.term == 0 {
		turnAway()
		return
	}
	e := state.Entry{Term: n.term, First: n.stampTerm != n.term, Wall: state.UnixMillis(n.time().Add(n.wall).UnixMilli())}
	if !e.First {
		e.Elapsed = state.RecordTime(n.w.now - n.stamped)
	}
	n.stampTerm, n.stamped = n.term, n.w.now
	for i := range e.Nonce {
		e.Nonce[i] = byte(n.w.rng.Uint32())
	}
	for _, p := range b.proposals {
		e.Commands = append(e.Commands, p.command)
	}
	data := state.EncodeEntry(&e)
	n.w.books.stamped[sha256.Sum256(data)] = n.w.now
	enter := func() {
		if n.raft.role != leader {
			turnAway()
			return
		}
		b.term = n.raft.mem.term
		n.waiting[n.raft.append(data)] = b
	}
	if n.w.chaotic && n.w.chance(80) {
		n.after(n.w.between(0, 20*time.Second), enter)
		return
	}
	enter()
}

// lead begins a term: the barrier is behind it.
func (n *node) lead() {
	n.term = n.raft.mem.term
	n.w.books.leaders[n.term] = n.w.now
	n.w.note("%s leads term %d", n.name, n.term)
	close(n.changed)
	n.changed = make(chan struct{})
	term := n.term
	n.after(n.w.between(0, 20*time.Millisecond), func() {
		if n.term != term {
			return
		}
		begun, _, _ := n.core.BeginTerm(n.time(), term)
		n.begun = begun
		n.after(server.LookEvery, func() { n.look(begun, term) })
	})
}

// look is what a leader does every second.
func (n *node) look(t *server.Term, term uint64) {
	if n.begun != t {
		return
	}
	proposals, stalled := t.Look(n.time())
	if stalled > 0 {
		n.w.note("%s was stalled for %v", n.name, stalled)
		n.w.books.thawed[term] = n.w.now
	}
	again := func() { n.after(server.LookEvery, func() { n.look(t, term) }) }
	n.poll()
	if len(proposals) == 0 {
		again()
		return
	}
	if slices.ContainsFunc(proposals, isExpiry) && n.w.chaotic && n.w.chance(4) {
		n.w.outlive(n)
	}
	n.proposeAll(proposals, func(fates []server.Fate) {
		for i := range fates {
			err := fates[i].Err
			if err == nil {
				err = fates[i].Answer.Err()
			}
			if err != nil {
				t.Settle(proposals[i], err)
			}
		}
		again()
	})
}

func isExpiry(c state.Command) bool {
	_, is := c.(*state.Expire)
	return is
}

// deposed is told that it leads no more.
func (n *node) deposed() {
	for _, index := range sortedKeys(n.waiting) {
		b := n.waiting[index]
		delete(n.waiting, index)
		for _, p := range b.proposals {
			p.done(server.Fate{Err: errUnknown})
		}
	}
	if n.term != 0 {
		n.term = 0
		close(n.changed)
		n.changed = make(chan struct{})
		n.begun = nil
		n.after(n.w.between(0, 20*time.Millisecond), func() {
			n.core.EndTerm()
			n.poll()
		})
	}
	n.poll()
}

// session is an exchange under way at a node.
type session struct {
	n     *node
	x     *server.Exchange
	pilot protocol.PilotID
	free  protocol.Resources
	// sequence is the exchange's.
	sequence uint64
	reply    func(any, error)
	over     bool
	lost     bool // its client is gone
	woken    bool // and will go on
	turn     int  // counts proposals and waits
	// fits is since when something fits though it waits.
	fits time.Duration
	owed []protocol.HeldLease // granted before, and not listed
}

// poll finds the parked exchanges that were woken, and lets them go on soon.
func (n *node) poll() {
	kept := n.parked[:0]
	for _, s := range n.parked {
		if isClosed(s.x.Woken()) || isClosed(s.x.Deposed()) {
			s.turn++
			s.woken = true
			n.w.note("%s wakes exchange %d of %s", n.name, s.sequence, s.pilot)
			late := n.w.between(0, 2*time.Millisecond)
			if n.w.chaotic && len(n.parked) > 1 && n.w.chance(2) {
				late += 2 * time.Millisecond
				n.w.vanish(s)
			}
			n.after(late, s.step)
		} else {
			kept = append(kept, s)
		}
	}
	clear(n.parked[len(kept):])
	n.parked = kept
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (s *session) unpark() bool {
	for i, p := range s.n.parked {
		if p == s {
			s.n.parked = append(s.n.parked[:i:i], s.n.parked[i+1:]...)
			return true
		}
	}
	return false
}

func (s *session) end(reply any, err error) {
	s.over = true
	for i, o := range s.n.sessions {
		if o == s {
			s.n.sessions = append(s.n.sessions[:i:i], s.n.sessions[i+1:]...)
			break
		}
	}
	s.reply(reply, err)
}

// step goes on with an exchange, as Server.Exchange does.
func (s *session) step() {
	n := s.n
	defer n.poll()
	for !s.over {
		s.woken = false
		switch s.x.Next(n.time()) {
		case server.TurnReply:
			reply, err := s.x.Reply()
			s.end(reply, err)
		case server.TurnPropose:
			if s.lost {
				s.refuse(errGone)
				continue
			}
			s.turn++
			turn := s.turn
			n.proposeAll(s.x.Proposals(), func(fates []server.Fate) {
				if s.turn == turn && !s.over {
					s.turn++
					s.x.Settle(n.time(), fates)
					s.step()
				}
			})
			return
		case server.TurnWait:
			s.turn++
			turn := s.turn
			s.fits = 0
			n.w.note("%s parks exchange %d of %s", n.name, s.sequence, s.pilot)
			n.parked = append(n.parked, s)
			n.after(s.x.Until().Sub(n.time()), func() {
				if s.turn == turn && s.unpark() {
					s.turn++
					s.step()
				}
			})
			return
		}
	}
}

// refuse settles what the exchange proposes with an error.
func (s *session) refuse(err error) {
	s.turn++
	fates := make([]server.Fate, len(s.x.Proposals()))
	for i := range fates {
		fates[i] = server.Fate{Err: err}
	}
	s.x.Settle(s.n.time(), fates)
}

// gone takes that the client went away.
func (s *session) gone() {
	defer s.n.poll()
	if s.over || s.lost {
		return
	}
	s.n.w.note("%s loses the client of exchange %d of %s", s.n.name, s.sequence, s.pilot)
	switch {
	case s.unpark(), s.woken && s.n.w.chance(2):
		s.x.Abandon()
		s.end(nil, errGone)
	case s.woken:
		s.lost = true // it sees that it was woken first
	default:
		// What it proposed may come about all the same.
		s.lost = true
		s.refuse(errUnknown)
		s.step()
	}
}

var errGone = protocol.Errorf(protocol.CodeUnknown, "the client has gone")
