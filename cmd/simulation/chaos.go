package simulation

import (
	"maps"
	"time"
)

// weather makes the network of a run good or bad for a while.
func (w *World) weather() {
	if !w.chaotic {
		return
	}
	n := &w.net
	switch w.rng.IntN(4) {
	case 0, 1:
		n.loss, n.twice, n.slowest = 0, 0, 5*time.Millisecond
	case 2:
		n.loss, n.twice, n.slowest = 20, 20, 300*time.Millisecond
	case 3:
		n.loss, n.twice, n.slowest = 150, 100, 2*time.Second
	}
	w.after(w.between(20*time.Second, 3*time.Minute), w.weather)
}

// strike does something bad, again and again.
func (w *World) strike() {
	if !w.chaotic {
		return
	}
	w.after(w.between(5*time.Second, 3*time.Minute), w.strike)
	n := w.anyNode()
	if w.chance(2) { // the leader is worth more
		if l := w.leader(); l != nil {
			n = l
		}
	}
	switch w.rng.IntN(13) {
	case 0, 1:
		w.crash(n, w.between(time.Second, 2*time.Minute))
	case 2:
		if w.chance(3) { // the power fails
			for _, o := range w.nodes {
				w.crash(o, w.between(time.Second, time.Minute))
			}
		}
	case 3:
		w.freeze(&n.process, w.between(100*time.Millisecond, 20*time.Second))
	case 4:
		w.freeze(&n.process, w.between(time.Minute, 8*time.Minute))
	case 5, 6:
		w.isolate(n)
	case 7:
		n.wall += w.between(-400*24*time.Hour, 400*24*time.Hour)
		w.note("the wall clock of %s is %v wrong", n.name, n.wall)
	case 8:
		if n.alive && n.raft.role == leader {
			w.note("%s gives up leadership", n.name)
			n.raft.stepDown(n.raft.mem.term)
		}
	case 9, 10:
		if len(w.pilots) > 0 {
			w.pilots[w.rng.IntN(len(w.pilots))].crash()
		}
	case 11:
		if len(w.pilots) > 0 {
			p := w.pilots[w.rng.IntN(len(w.pilots))]
			p.stopped = w.now
			w.freeze(&p.process, w.between(10*time.Second, 50*time.Minute))
			p.stopped = p.frozen
		}
	case 12:
		if len(w.pilots) > 0 {
			p := w.pilots[w.rng.IntN(len(w.pilots))]
			w.cutOff(&p.process, w.between(time.Minute, 50*time.Minute))
			if w.chance(3) && p.talk != nil { // and its slot ends
				p.after(w.between(time.Second, time.Minute), func() {
					p.do(p.talk.Drain())
					p.after(35*time.Second, func() {
						p.do(p.talk.End())
						p.nudge()
					})
					p.nudge()
				})
			}
		}
	}
}

// outlive has a leader stall over what it is about to propose while it loses its
// leadership and wins it again: what it decided in one term is proposed in another.
func (w *World) outlive(n *node) {
	n.stall = w.between(4*time.Second, 20*time.Second)
	n.after(w.between(0, time.Second), func() {
		if n.raft.role == leader {
			w.note("%s gives up leadership, and wants it back", n.name)
			n.raft.stepDown(n.raft.mem.term)
			n.raft.patience = 0
		}
	})
}

// vanish kills the pilot of an exchange that was woken before that goes on, and its
// node sees so.
func (w *World) vanish(s *session) {
	for _, p := range w.pilots {
		if p.id == s.pilot {
			p.crash()
			s.n.after(time.Millisecond, s.gone)
			return
		}
	}
}

// maroon cuts off a pilot whose payload runs, until beyond the fence, and beyond the
// end of all other faults. Its tasks will be others' by then.
func (w *World) maroon() {
	for _, p := range w.pilots {
		if p.isFrozen() || len(p.running()) == 0 {
			continue
		}
		d := timing.Fence + w.between(5*time.Minute, 15*time.Minute)
		for _, a := range p.running() {
			a.least = w.now + d
		}
		w.note("%s is marooned for %v", p.name, d)
		var pairs [][2]string
		for _, n := range w.nodes {
			pairs = append(pairs, [2]string{n.name, p.name}, [2]string{p.name, n.name})
		}
		w.marooned = p
		w.cut(pairs, d)
		return
	}
	if w.chaotic {
		w.after(10*time.Second, w.maroon)
	}
}

func (w *World) crash(n *node, down time.Duration) {
	if !n.alive {
		return
	}
	n.crash()
	w.after(down, func() {
		if !n.alive {
			n.start()
		}
	})
}

func (w *World) freeze(p *process, d time.Duration) {
	if p.alive && !p.isFrozen() {
		w.note("%s is frozen for %v", p.name, d)
		p.frozen = w.now + d
	}
}

// isolate cuts a node off from the others, from everybody, or in one direction.
func (w *World) isolate(n *node) {
	kind := w.rng.IntN(4)
	w.note("%s is cut off (%d)", n.name, kind)
	var cut [][2]string
	for _, o := range n.peers() {
		if kind != 1 {
			cut = append(cut, [2]string{n.name, o.name})
		}
		if kind != 2 {
			cut = append(cut, [2]string{o.name, n.name})
		}
	}
	if kind == 3 {
		for _, p := range w.pilots {
			cut = append(cut, [2]string{n.name, p.name}, [2]string{p.name, n.name})
		}
	}
	w.cut(cut, w.between(2*time.Second, 8*time.Minute))
}

// cutOff cuts a process off from every node.
func (w *World) cutOff(p *process, d time.Duration) {
	w.note("%s is cut off for %v", p.name, d)
	var cut [][2]string
	way := w.rng.IntN(3)
	for _, n := range w.nodes {
		if way != 1 {
			cut = append(cut, [2]string{n.name, p.name})
		}
		if way != 2 {
			cut = append(cut, [2]string{p.name, n.name})
		}
	}
	w.cut(cut, d)
}

func (w *World) cut(pairs [][2]string, d time.Duration) {
	for _, p := range pairs {
		w.net.cut[p] = max(w.net.cut[p], w.now+d)
	}
}

// heal ends every fault; what is frozen thaws in its time, and who is marooned is
// found in his.
func (w *World) heal() {
	w.note("everything heals")
	w.chaotic = false
	w.net.loss, w.net.twice, w.net.slowest = 0, 0, 5*time.Millisecond
	maps.DeleteFunc(w.net.cut, func(p [2]string, _ time.Duration) bool {
		return w.marooned == nil || p[0] != w.marooned.name && p[1] != w.marooned.name
	})
	for _, n := range w.nodes {
		if !n.alive {
			n.start()
		}
	}
	for _, s := range w.sites {
		for _, h := range s.hosts {
			h.broken = false
		}
	}
	w.after(10*time.Second, w.operator.settle)
}
