package simulation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// World is one run: what happens and when, drawn from one seed.
type World struct {
	rng   *rand.Rand
	now   time.Duration // since the run began
	queue queue
	made  uint64    // events so far
	mix   uint64    // a digest of everything that happened
	trace io.Writer // nil writes nothing
	err   error     // the first broken invariant

	net   network
	nodes []*node
	books books

	sites     []*site
	pilots    []*pilot // those that run
	launched  int
	operator  operator
	chaotic   bool   // faults happen
	marooned  *pilot // cut off beyond its fence, nil where none is
	undecided int
	launches  bool // pilots come by launch leases alone
	owners    bool // of sites have a will of their own
	tickets   int  // of launch leases that were drawn
}

// epoch is the beginning of virtual time: any time would do.
var epoch = time.Unix(1_800_000_000, 0).UTC()

// event is something that will happen: to a process, if it still lives that life.
type event struct {
	at    time.Duration
	order uint64
	do    func()
	of    *process // nil is the world itself
	life  int
}

// queue is a heap of events, the earliest first, in the order they were made.
type queue []event

func (q queue) less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}

func (q *queue) push(e event) {
	*q = append(*q, e)
	h := *q
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(i, up) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (q *queue) pop() event {
	h := *q
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h[last] = event{}
	h = h[:last]
	*q = h
	for i := 0; ; {
		least := i
		for _, down := range []int{2*i + 1, 2*i + 2} {
			if down < len(h) && h.less(down, least) {
				least = down
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

func (w *World) enqueue(e event, d time.Duration) {
	w.made++
	e.at, e.order = w.now+max(d, 0), w.made
	w.queue.push(e)
}

// after has something happen in a while.
func (w *World) after(d time.Duration, do func()) { w.enqueue(event{do: do}, d) }

// between draws a time.
func (w *World) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.Int64N(int64(most-least)+1))
}

// chance is true one time in n.
func (w *World) chance(n int) bool { return w.rng.IntN(n) == 0 }

// run lets things happen until a time, or until something is broken.
func (w *World) run(until time.Duration) {
	defer func() {
		if p := recover(); p != nil { // the record's way to say that an invariant is broken
			w.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	for len(w.queue) > 0 && w.err == nil && w.queue[0].at <= until {
		e := w.queue.pop()
		w.now = e.at
		switch p := e.of; {
		case p == nil:
		case p.life != e.life || !p.alive:
			continue
		case w.now < p.frozen:
			w.enqueue(e, p.frozen-w.now)
			continue
		}
		w.remember(uint64(e.at), e.order)
		e.do()
	}
	if w.err == nil {
		w.now = max(w.now, until)
	}
}

// remember mixes what happened into the digest of the run.
func (w *World) remember(what ...uint64) {
	for _, x := range what {
		w.mix = (w.mix ^ x) * 0x9e3779b97f4a7c15
		w.mix ^= w.mix >> 29
	}
}

// note writes a line of the trace.
func (w *World) note(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%12.3f  %s\n", w.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

// broken ends the run.
func (w *World) broken(invariant, format string, args ...any) {
	w.fail(fmt.Errorf("%s: %s", invariant, fmt.Sprintf(format, args...)))
}

func (w *World) fail(err error) {
	if err != nil && w.err == nil {
		w.err = err
		w.note("BROKEN %v", err)
	}
}

// process is what can be frozen and killed.
type process struct {
	w      *World
	name   string
	life   int // how often it was begun
	alive  bool
	frozen time.Duration // until then
}

// after has a living process do something in a while. What a frozen one should do it
// does when it thaws, in order; what a dead one should do is not done.
func (p *process) after(d time.Duration, do func()) {
	p.w.enqueue(event{do: do, of: p, life: p.life}, d)
}

func (p *process) begin() { p.life, p.alive, p.frozen = p.life+1, true, 0 }

func (p *process) kill() { p.alive = false }

func (p *process) isFrozen() bool { return p.alive && p.w.now < p.frozen }

// network carries messages: late, out of order, twice, or not at all.
type network struct {
	w       *World
	loss    int // in 1000
	twice   int // in 1000
	slowest time.Duration
	// cut is until when nothing passes between directed pairs of names.
	cut map[[2]string]time.Duration
}

// send carries a message between two processes.
func (n *network) send(from, to *process, deliver func()) {
	way := [2]string{from.name, to.name}
	if n.w.rng.IntN(1000) < n.loss || n.w.now < n.cut[way] {
		return
	}
	times := 1
	if n.w.rng.IntN(1000) < n.twice {
		times = 2
	}
	for range times {
		late := n.w.between(100*time.Microsecond, n.slowest)
		to.after(late, func() {
			if n.w.now >= n.cut[way] {
				deliver()
			}
		})
	}
}

// books are what the world knows of the committed log, whoever applied it first.
type books struct {
	log      []Committed
	at       map[uint64]int      // where an index is in log
	digests  [][sha256.Size]byte // of the events of each entry
	events   [][]state.Event
	stamped  map[[sha256.Size]byte]time.Duration // when an entry was stamped, by its content
	proposed []time.Duration
	applied  []time.Duration
	account  *Account
	history  *History
	leaders  map[uint64]time.Duration // since when the leader of a term led
	thawed   map[uint64]time.Duration // when the leader of a term was last frozen
	granted  map[protocol.LeaseID]uint64
	renewed  map[protocol.LeaseID]time.Duration        // when the last exchange came that renewed it
	sent     map[protocol.LeaseID][]protocol.Statistic // what pilots reported
	saved    map[string]bool                           // checkpoints that pilots told of
	resumed  int                                       // attempts that went on from one
	ahead    int                                       // leases granted beyond what was free
}

func newBooks() books {
	return books{
		at: map[uint64]int{}, account: NewAccount(), history: NewHistory(), stamped: map[[sha256.Size]byte]time.Duration{},
		leaders: map[uint64]time.Duration{}, thawed: map[uint64]time.Duration{},
		granted: map[protocol.LeaseID]uint64{}, renewed: map[protocol.LeaseID]time.Duration{}, sent: map[protocol.LeaseID][]protocol.Statistic{},
		saved: map[string]bool{},
	}
}

// applied takes that a node has applied an entry. The first node's word is what the
// others are held to (I-16, I-20).
func (w *World) applied(n *node, index, term uint64, entry []byte, answers []state.Answer, events []state.Event) {
	b := &w.books
	digest := digestOf(events)
	if i, known := b.at[index]; known {
		switch first := &b.log[i]; {
		case first.Index != index || first.Term != term || string(first.Entry) != string(entry):
			w.broken("I-16", "%s applied another entry at index %d than was applied before", n.name, index)
		case b.digests[i] != digest:
			w.broken("I-20", "%s made other events of the entry at index %d", n.name, index)
		}
		return
	}
	if len(b.log) > 0 && index < b.log[len(b.log)-1].Index {
		w.broken("I-16", "%s applied an entry at index %d that nobody had", n.name, index)
		return
	}
	b.at[index] = len(b.log)
	b.log = append(b.log, Committed{Index: index, Term: term, Entry: entry})
	b.digests = append(b.digests, digest)
	b.events = append(b.events, events)
	b.proposed = append(b.proposed, b.stamped[sha256.Sum256(entry)])
	b.applied = append(b.applied, w.now)
	w.remember(binary.LittleEndian.Uint64(digest[:]))
	if w.trace != nil {
		for j := range events {
			w.note("%s applied %d.%d %T %+v", n.name, index, j, events[j].Body, events[j].Body)
		}
		for j := range answers {
			if answers[j].Code != protocol.CodeOK {
				w.note("%s applied %d: command %d is answered %v: %s", n.name, index, j, answers[j].Code, answers[j].Reason)
			}
		}
	}
	w.fail(b.account.Observe(n.machine, events))
	for j := range events {
		w.judge(term, &events[j])
	}
	w.judgeExpiries(term, entry, answers)
	w.judgeLaunches(n.machine, events)
	if len(b.log)%7 == 0 {
		w.fail(Audit(n.machine))
	}
}

// judgeExpiries checks that no expiry has an effect in another term than it was
// decided in (I-8).
func (w *World) judgeExpiries(term uint64, entry []byte, answers []state.Answer) {
	e, err := state.DecodeEntry(entry)
	if err != nil {
		w.fail(err)
		return
	}
	for i, b := range e.Commands {
		c, err := state.DecodeCommand(b)
		if err != nil {
			w.fail(err)
			return
		}
		x, is := c.(*state.Expire)
		if is && x.Term != term && answers[i].Code == protocol.CodeOK {
			w.broken("I-8", "lease %v expires in term %d, which was decided in term %d", x.Lease, term, x.Term)
		}
	}
}

// judge holds an event against what the world knows of times.
func (w *World) judge(term uint64, e *state.Event) {
	b := &w.books
	switch body := e.Body.(type) {
	case *state.LeaseGranted:
		b.granted[body.Lease] = term
	case *state.AttemptEnded:
		if body.Evidence == forged {
			w.broken("I-1", "a forged report of lease %v counts", body.Lease)
		}
		if body.Accepted && !slices.Equal(body.Statistics, b.sent[body.Lease]) {
			w.broken("I-11", "lease %v counts with %v, its pilot reported %v", body.Lease, body.Statistics, b.sent[body.Lease])
		}
	case *state.LeaseLapsed:
		since := w.now - b.leaders[term]
		if b.granted[body.Lease] < term && since < timing.Lease {
			w.broken("I-9", "lease %v lapsed %v after its leader began", body.Lease, since)
		}
		if b.granted[body.Lease] == term && since < timing.Offer {
			w.broken("I-6", "lease %v lapsed %v after its leader began", body.Lease, since)
		}
		if at, known := b.thawed[term]; known && w.now-at < timing.Offer {
			w.broken("I-9", "lease %v lapsed %v after its leader was stalled", body.Lease, w.now-at)
		}
		// A second of tolerance for what was under way.
		if at, known := b.renewed[body.Lease]; known && w.now-at < timing.Lease-time.Second {
			w.broken("I-7", "lease %v lapsed %v after it was renewed", body.Lease, w.now-at)
		}
	}
}
