package simulation

import (
	"slices"
	"time"
)

// This is a model of a replicated log: what a node may rely on of Raft, with its
// timing made up. It knows terms, votes, an unsynced end of the log that a crash
// loses, commitment by majorities, and snapshots. Entries are one group commit each.

// logEntry is one entry of the model log; an empty one only begins a term.
type logEntry struct {
	term uint64
	data []byte
}

// image is what a node has on disk.
type image struct {
	term  uint64
	vote  string
	base  uint64 // the log begins behind this index
	began uint64 // the term of the entry at base
	log   []logEntry
	// snapshot is the record at index base, nil where base is zero.
	snapshot []byte
}

type role uint8

const (
	follower role = iota
	candidate
	leader
)

// raft is one node's part in the log.
type raft struct {
	n    *node
	mem  image // what it knows
	disk image // what a crash leaves

	role     role
	heard    time.Duration // from a leader, or when it voted
	patience time.Duration
	leader   *node
	votes    map[string]bool
	commit   uint64
	applied  uint64
	synced   uint64 // last index on disk
	syncing  int    // writes begun
	cuts     int    // how often the end of the log was replaced

	// Of a leader.
	next, match map[string]uint64
	answered    map[string]time.Duration
	round       uint64 // counts questions whether it leads still
	proofs      []*proof
	noop        uint64 // its first entry: applied, it leads
}

// Times of the model. They are short next to those of leases, as Raft's are.
const (
	tickEvery    = 400 * time.Millisecond
	beatEvery    = time.Second
	leaseOfLead  = 2500 * time.Millisecond
	electAfter   = 3 * time.Second
	electWithin  = 6 * time.Second
	slowestSync  = 8 * time.Millisecond
	compactAfter = 40 // entries
)

func (r *raft) last() uint64 { return r.mem.base + uint64(len(r.mem.log)) }

func (r *raft) termAt(i uint64) uint64 {
	switch {
	case i == r.mem.base:
		return r.mem.began
	case i < r.mem.base || i > r.last():
		return 0
	}
	return r.mem.log[i-r.mem.base-1].term
}

func (r *raft) entry(i uint64) *logEntry { return &r.mem.log[i-r.mem.base-1] }

// start goes on with what is on disk.
func (r *raft) start() {
	r.mem = r.disk.clone()
	r.role, r.leader, r.votes, r.proofs = follower, nil, nil, nil
	r.commit, r.applied, r.synced = r.mem.base, r.mem.base, r.last()
	r.heard = r.n.w.now
	r.patience = r.n.w.between(electAfter, electWithin)
	r.n.after(tickEvery, r.tick)
}

func (i *image) clone() image {
	c := *i
	c.log = slices.Clone(i.log)
	return c
}

// sync brings what is known now to disk, and then goes on.
func (r *raft) sync(then func()) {
	written, last := r.mem.clone(), r.last()
	r.syncing++
	number, cuts := r.syncing, r.cuts
	r.n.after(r.n.w.between(200*time.Microsecond, slowestSync), func() {
		if number >= r.n.flushed {
			r.n.flushed = number
			r.disk = written
			if cuts == r.cuts {
				r.synced = max(r.synced, last)
			}
		}
		then()
	})
}

func (r *raft) tick() {
	r.n.after(tickEvery, r.tick)
	now := r.n.w.now
	switch {
	case r.role == leader:
		fresh := 1
		for _, p := range r.n.peers() {
			if now-r.answered[p.name] < leaseOfLead {
				fresh++
			}
		}
		if fresh <= len(r.n.w.nodes)/2 {
			r.stepDown(r.mem.term)
		}
	case now-r.heard > r.patience:
		r.elect()
	}
}

func (r *raft) elect() {
	w := r.n.w
	r.role, r.leader = candidate, nil
	r.mem.term++
	r.mem.vote = r.n.name
	r.votes = map[string]bool{r.n.name: true}
	r.heard, r.patience = w.now, w.between(electAfter, electWithin)
	term, last, lastTerm := r.mem.term, r.last(), r.termAt(r.last())
	r.sync(func() {
		if r.role != candidate || r.mem.term != term {
			return
		}
		r.won()
		for _, p := range r.n.peers() {
			w.net.send(&r.n.process, &p.process, func() { p.raft.voteFor(r, term, last, lastTerm) })
		}
	})
}

func (r *raft) voteFor(c *raft, term, last, lastTerm uint64) {
	if term > r.mem.term {
		r.stepDown(term)
	}
	mine := r.termAt(r.last())
	upToDate := lastTerm > mine || lastTerm == mine && last >= r.last()
	if term < r.mem.term || !upToDate || r.mem.vote != "" && r.mem.vote != c.n.name {
		return
	}
	r.mem.vote, r.heard = c.n.name, r.n.w.now
	r.sync(func() {
		r.n.w.net.send(&r.n.process, &c.n.process, func() {
			if c.role == candidate && c.mem.term == term {
				c.votes[r.n.name] = true
				c.won()
			}
		})
	})
}

func (r *raft) won() {
	if len(r.votes) <= len(r.n.w.nodes)/2 {
		return
	}
	r.n.w.note("%s wins term %d", r.n.name, r.mem.term)
	r.role, r.leader = leader, r.n
	r.next, r.match, r.answered = map[string]uint64{}, map[string]uint64{}, map[string]time.Duration{}
	for _, p := range r.n.peers() {
		r.next[p.name], r.answered[p.name] = r.last()+1, r.n.w.now
	}
	r.noop = r.append(nil)
	term := r.mem.term
	var beat func()
	beat = func() {
		if r.role == leader && r.mem.term == term {
			r.broadcast()
			r.n.after(beatEvery, beat)
		}
	}
	beat()
}

// append adds an entry of the leader and sends it.
func (r *raft) append(data []byte) uint64 {
	r.mem.log = append(r.mem.log, logEntry{r.mem.term, data})
	term := r.mem.term
	r.sync(func() {
		if r.role == leader && r.mem.term == term {
			r.advance()
		}
	})
	r.broadcast()
	return r.last()
}

func (r *raft) broadcast() {
	for _, p := range r.n.peers() {
		r.feed(p)
	}
}

// feed sends a peer what it lacks.
func (r *raft) feed(p *node) {
	next := r.next[p.name]
	term, commit, round := r.mem.term, r.commit, r.round
	if next <= r.mem.base {
		base, began, snapshot := r.mem.base, r.mem.began, r.mem.snapshot
		r.n.w.net.send(&r.n.process, &p.process, func() { p.raft.install(r, term, round, base, began, snapshot) })
		return
	}
	before := next - 1
	beforeTerm := r.termAt(before)
	entries := slices.Clone(r.mem.log[before-r.mem.base:])
	r.n.w.net.send(&r.n.process, &p.process, func() { p.raft.take(r, term, round, before, beforeTerm, entries, commit) })
}

// follow takes a word of a leader; false where it is none any more.
func (r *raft) follow(l *raft, term uint64) bool {
	if term < r.mem.term {
		current := r.mem.term
		r.n.w.net.send(&r.n.process, &l.n.process, func() {
			if current > l.mem.term {
				l.stepDown(current)
			}
		})
		return false
	}
	if term > r.mem.term || r.role != follower {
		r.stepDown(term)
	}
	r.leader, r.heard = l.n, r.n.w.now
	return true
}

func (r *raft) take(l *raft, term, round, before, beforeTerm uint64, entries []logEntry, commit uint64) {
	if !r.follow(l, term) {
		return
	}
	if before < r.mem.base { // the snapshot has it
		skip := r.mem.base - before
		if uint64(len(entries)) <= skip {
			return
		}
		before, beforeTerm, entries = r.mem.base, r.mem.began, entries[skip:]
	}
	if r.termAt(before) != beforeTerm || before > r.last() {
		hint := min(before, r.last()+1)
		r.reply(l, term, round, false, hint)
		return
	}
	for i, e := range entries {
		at := before + uint64(i) + 1
		if at <= r.last() && r.termAt(at) == e.term {
			continue
		}
		if at <= r.last() {
			r.cuts++
			r.synced = min(r.synced, at-1)
		}
		r.mem.log = append(r.mem.log[:at-r.mem.base-1:at-r.mem.base-1], entries[i:]...)
		break
	}
	matched := before + uint64(len(entries))
	r.sync(func() {
		if r.mem.term == term {
			r.reply(l, term, round, true, matched)
		}
	})
	if commit = min(commit, matched); commit > r.commit {
		r.commit = commit
		r.n.apply()
	}
}

func (r *raft) reply(l *raft, term, round uint64, ok bool, index uint64) {
	name := r.n.name
	r.n.w.net.send(&r.n.process, &l.n.process, func() {
		if l.role != leader || l.mem.term != term {
			return
		}
		l.answered[name] = l.n.w.now
		l.prove(name, round)
		if !ok {
			l.next[name] = max(1, min(index, l.next[name]-1))
			l.feed(r.n)
			return
		}
		if index > l.match[name] {
			l.match[name] = index
			l.advance()
		}
		l.next[name] = max(l.next[name], index+1)
	})
}

// proof is the question whether a node led all the time until it was asked (ReadIndex).
type proof struct {
	round uint64
	by    map[string]bool
	done  func(bool)
}

// confirm asks a majority whether this node leads still.
func (r *raft) confirm(done func(bool)) {
	if r.role != leader {
		done(false)
		return
	}
	r.round++
	r.proofs = append(r.proofs, &proof{r.round, map[string]bool{}, done})
	r.prove(r.n.name, r.round)
	if r.role == leader {
		r.broadcast()
	}
}

// prove takes a node's word for all questions up to a round.
func (r *raft) prove(name string, round uint64) {
	var open []*proof
	var done []func(bool)
	for _, p := range r.proofs {
		if p.round <= round {
			p.by[name] = true
		}
		if len(p.by) > len(r.n.w.nodes)/2 {
			done = append(done, p.done)
		} else {
			open = append(open, p)
		}
	}
	r.proofs = open
	for _, d := range done {
		d(true)
	}
}

// disprove answers all questions: it leads no more.
func (r *raft) disprove() {
	open := r.proofs
	r.proofs = nil
	for _, p := range open {
		p.done(false)
	}
}

// advance commits what a majority has on disk, of its own term.
func (r *raft) advance() {
	have := []uint64{r.synced}
	for _, p := range r.n.peers() {
		have = append(have, r.match[p.name])
	}
	slices.Sort(have)
	index := have[(len(have)-1)/2]
	if index > r.commit && r.termAt(index) == r.mem.term {
		r.commit = index
		r.n.apply()
	}
}

func (r *raft) install(l *raft, term, round, base, began uint64, snapshot []byte) {
	if !r.follow(l, term) {
		return
	}
	if base <= r.applied { // it is slow to hear of that
		r.sync(func() { r.reply(l, term, round, true, base) })
		return
	}
	r.cuts++
	r.synced = base
	r.mem.base, r.mem.began, r.mem.log, r.mem.snapshot = base, began, nil, snapshot
	r.commit = base
	r.n.w.note("%s takes a snapshot at %d", r.n.name, base)
	r.n.restore()
	r.applied = base
	r.sync(func() { r.reply(l, term, round, true, base) })
}

// compact replaces the older part of the log by a snapshot.
func (r *raft) compact(snapshot []byte, index uint64) {
	if index <= r.mem.base || index > r.applied {
		return
	}
	began := r.termAt(index)
	r.mem.log = slices.Clone(r.mem.log[index-r.mem.base:])
	r.mem.base, r.mem.began, r.mem.snapshot = index, began, snapshot
	r.sync(func() {})
}

func (r *raft) stepDown(term uint64) {
	was := r.role
	if term > r.mem.term {
		r.mem.term, r.mem.vote = term, ""
	}
	r.role, r.leader = follower, nil
	r.heard, r.patience = r.n.w.now, r.n.w.between(electAfter, electWithin)
	if was == leader {
		r.n.w.note("%s steps down in term %d", r.n.name, r.mem.term)
		r.disprove()
		r.n.deposed()
	}
}
