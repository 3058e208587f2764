package federation

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"floe/protocol"
)

// step is one thing that the schedule does at its time.
type step struct {
	at   time.Duration // after the schedule begins
	what string
	do   func()
}

// kinds are the faults that a seed draws from: each adds its steps, the last of
// which ends it.
var kinds = []struct {
	name string
	add  func(f *federation, s *schedule)
}{
	{"leader killed", func(f *federation, s *schedule) { s.kill(f.leaderOrAny, s.span(time.Second, 12*time.Minute)) }},
	{"coordinator killed", func(f *federation, s *schedule) { s.kill(f.anyNode(), s.span(time.Second, 12*time.Minute)) }},
	{"a disk lost", (*federation).loseDisk},
	{"leader stopped", func(f *federation, s *schedule) { s.stop(f.leaderOrAny, s.span(time.Second, 5*time.Minute)) }},
	{"coordinator stopped", func(f *federation, s *schedule) { s.stop(f.anyNode(), s.span(time.Second, 12*time.Minute)) }},
	{"leader isolated", func(f *federation, s *schedule) {
		s.isolate(f.leaderOrAny, s.span(time.Second, 8*time.Minute), true, true)
	}},
	{"leader cannot be heard", func(f *federation, s *schedule) {
		s.isolate(f.leaderOrAny, s.span(time.Second, 5*time.Minute), true, false)
	}},
	{"leader cannot hear", func(f *federation, s *schedule) {
		s.isolate(f.leaderOrAny, s.span(time.Second, 5*time.Minute), false, true)
	}},
	{"coordinator isolated", func(f *federation, s *schedule) {
		s.isolate(f.anyNode(), s.span(time.Second, 8*time.Minute), true, true)
	}},
	{"all coordinators apart", (*federation).scatter},
	{"leader frozen", func(f *federation, s *schedule) { s.freeze(f.leaderOrAny, s.span(time.Second, 3*time.Minute)) }},
	{"coordinator frozen", func(f *federation, s *schedule) { s.freeze(f.anyNode(), s.span(time.Second, 3*time.Minute)) }},
	{"packets lost and late", (*federation).lossy},
	{"sites cut off", (*federation).cutSite},
	{"pilots killed", (*federation).killPilots},
	{"pilots frozen", (*federation).freezePilots},
	{"a wall clock jumps", (*federation).jump},
	{"a person resets a job", (*federation).reset},
}

// schedule is what a seed does to a federation.
type schedule struct {
	f     *federation
	from  time.Duration // of the fault that is being drawn
	steps []step
}

// draw lets the seed draw faults over a time.
func (f *federation) draw(faults int, over time.Duration) *schedule {
	s := &schedule{f: f}
	for range faults {
		s.from = time.Duration(f.rand.Int64N(int64(over)))
		kinds[f.rand.IntN(len(kinds))].add(f, s)
	}
	return s
}

func (s *schedule) sort() {
	slices.SortStableFunc(s.steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
}

// run does the steps at their times.
func (s *schedule) run() {
	begin := s.f.now()
	for _, step := range s.steps {
		for left := begin + step.at - s.f.now(); left > 0; left = begin + step.at - s.f.now() {
			s.f.pause(min(left, lookEvery))
		}
		s.f.trace.Info("step", "at", s.f.now(), "what", step.what)
		step.do()
	}
}

func (s *schedule) add(after time.Duration, what string, do func()) {
	s.steps = append(s.steps, step{s.from + after, what, do})
}

// span draws a time: short ones are as likely as long ones.
func (s *schedule) span(least, most time.Duration) time.Duration {
	d := least
	for d < most && s.f.rand.IntN(6) != 0 {
		d = d*5/3 + time.Duration(s.f.rand.Int64N(int64(d)))
	}
	return min(d, most)
}

// anyNode draws a coordinator now, whoever it is then.
func (f *federation) anyNode() func() *node {
	i := f.rand.IntN(3)
	return func() *node { return f.nodes[i] }
}

// leaderOrAny is the leader at the time of the fault, or the first that runs.
func (f *federation) leaderOrAny() *node {
	if n := f.leader(); n != nil {
		return n
	}
	for _, n := range f.nodes {
		if n.running() {
			return n
		}
	}
	return f.nodes[0]
}

func (s *schedule) kill(which func() *node, down time.Duration) {
	power := s.f.rand.IntN(2) == 0
	var n *node
	s.add(0, fmt.Sprintf("kill a coordinator for %v, power %v", down, power), func() {
		if n = which(); n.running() {
			s.f.trace.Info("killed", "coordinator", n.name)
			s.f.archive.gather()
			s.f.settle()
			n.kill(power)
		} else {
			n = nil
		}
	})
	s.add(down, "start the killed coordinator", func() {
		if n != nil && !n.running() && !n.lost {
			n.start()
		}
	})
}

// loseDisk takes a coordinator away for good; the operator replaces it by one with
// another name. It happens once.
func (f *federation) loseDisk(s *schedule) {
	which := f.anyNode()
	s.add(0, "lose a coordinator with its disk", func() {
		n := which()
		if !n.running() || f.losses > 0 {
			return
		}
		f.losses++
		f.trace.Info("lost", "coordinator", n.name)
		f.archive.gather()
		f.archive.takeSnapshots(n, n.record())
		f.settle()
		n.kill(true)
		n.lost = true
		next := f.newNode(3, "c4")
		f.ask(func() error {
			request := &protocol.RemoveMemberRequest{Reason: "its disk is lost", Force: true}
			if err := f.call("POST", fmt.Sprintf("/v1/cluster/members/%s/remove", n.name), request, new(protocol.RemoveMemberReply)); err != nil {
				return err
			}
			if err := next.join(); err != nil {
				return err
			}
			f.arrivals <- next
			return nil
		})
	})
}

func (s *schedule) stop(which func() *node, down time.Duration) {
	var n *node
	s.add(0, fmt.Sprintf("stop a coordinator for %v", down), func() {
		if n = which(); n.running() {
			s.f.trace.Info("stopped", "coordinator", n.name)
			s.f.archive.gather()
			n.stop()
		} else {
			n = nil
		}
	})
	s.add(down, "start the stopped coordinator", func() {
		if n != nil && !n.running() && !n.lost {
			n.start()
		}
	})
}

// others are the addresses of the other coordinators.
func (f *federation) others(n *node) (all []netip.Addr) {
	for _, o := range f.nodes {
		if o != n {
			all = append(all, o.addr)
		}
	}
	return all
}

func (s *schedule) isolate(which func() *node, d time.Duration, out, in bool) {
	var n *node
	set := func(x fault) {
		if out {
			s.f.network.set(x, []netip.Addr{n.addr}, s.f.others(n))
		}
		if in {
			s.f.network.set(x, s.f.others(n), []netip.Addr{n.addr})
		}
	}
	s.add(0, fmt.Sprintf("cut a coordinator off from the others for %v, out %v, in %v", d, out, in), func() {
		n = which()
		s.f.trace.Info("cut off", "coordinator", n.name)
		set(fault{cut: true})
	})
	s.add(d, "end of the cut", func() { set(fault{}) })
}

func (f *federation) scatter(s *schedule) {
	all := []netip.Addr{coordinatorAddr(0), coordinatorAddr(1), coordinatorAddr(2), coordinatorAddr(3)}
	d := s.span(time.Second, 8*time.Minute)
	s.add(0, fmt.Sprintf("cut all coordinators off from each other for %v", d), func() { f.network.set(fault{cut: true}, all, all) })
	s.add(d, "end of the cut of all", func() { f.network.set(fault{}, all, all) })
}

func (s *schedule) freeze(which func() *node, d time.Duration) {
	var n *nic
	s.add(0, fmt.Sprintf("freeze a coordinator for %v", d), func() {
		if o := which(); o.running() {
			s.f.trace.Info("frozen", "coordinator", o.name)
			n = o.nic
			n.freeze(true)
		}
	})
	s.add(d, "thaw the coordinator", func() {
		if n != nil {
			n.freeze(false)
		}
	})
}

// everybody are the addresses of coordinators and of all the site's hosts.
func (f *federation) everybody() (coordinators, hosts []netip.Addr) {
	for _, n := range f.nodes {
		coordinators = append(coordinators, n.addr)
	}
	for _, s := range f.sites {
		hosts = append(hosts, s.hosts()...)
	}
	return coordinators, hosts
}

func (f *federation) lossy(s *schedule) {
	x := fault{loss: 0.02 + 0.2*f.rand.Float64(), delay: time.Duration(f.rand.Int64N(int64(200 * time.Millisecond)))}
	d := s.span(10*time.Second, 15*time.Minute)
	set := func(x fault) {
		c, h := f.everybody()
		f.network.set(x, c, c)
		f.network.set(x, c, h)
		f.network.set(x, h, c)
	}
	s.add(0, fmt.Sprintf("lose %.0f %% of packets and delay the rest by %v, for %v", 100*x.loss, x.delay, d), func() { set(x) })
	s.add(d, "end of the losses", func() { set(fault{}) })
}

func (f *federation) cutSite(s *schedule) {
	site := f.sites[f.rand.IntN(len(f.sites))]
	d := s.span(10*time.Second, 15*time.Minute)
	set := func(x fault) {
		c, _ := f.everybody()
		f.network.set(x, c, site.hosts())
		f.network.set(x, site.hosts(), c)
	}
	s.add(0, fmt.Sprintf("cut %s off for %v", site.name, d), func() { set(fault{cut: true}) })
	s.add(d, "end of the cut of the site", func() { set(fault{}) })
}

// some draws pilot jobs of a site now.
func (f *federation) some(site *site) (all []*pilotJob) {
	for _, p := range site.jobs() {
		if f.rand.IntN(3) == 0 {
			all = append(all, p)
		}
	}
	return all
}

func (f *federation) killPilots(s *schedule) {
	site := f.sites[f.rand.IntN(len(f.sites))]
	s.add(0, fmt.Sprintf("kill pilots of %s", site.name), func() {
		for _, p := range f.some(site) {
			f.trace.Info("killed", "pilot", p.number, "site", site.name)
			p.kill()
		}
	})
}

func (f *federation) freezePilots(s *schedule) {
	site := f.sites[f.rand.IntN(len(f.sites))]
	d := s.span(10*time.Second, 15*time.Minute)
	var frozen []*pilotJob
	s.add(0, fmt.Sprintf("freeze pilots of %s for %v", site.name, d), func() {
		for _, p := range f.some(site) {
			f.trace.Info("frozen", "pilot", p.number, "site", site.name)
			p.nic.freeze(true)
			frozen = append(frozen, p)
		}
	})
	s.add(d, "thaw the pilots", func() {
		for _, p := range frozen {
			p.nic.freeze(false)
		}
	})
}

func (f *federation) jump(s *schedule) {
	which := f.anyNode()
	by := []time.Duration{-365 * 24 * time.Hour, -time.Hour, -7 * time.Minute, 7 * time.Minute, time.Hour, 365 * 24 * time.Hour}[f.rand.IntN(6)]
	s.add(0, fmt.Sprintf("a wall clock jumps by %v", by), func() {
		f.trace.Info("jumped", "coordinator", which().name)
		which().skew.Add(int64(by))
	})
}

func (f *federation) reset(s *schedule) {
	draw := f.rand.Uint64()
	s.add(0, "reset a job", func() {
		all := f.known()
		if len(all) == 0 {
			return
		}
		d := all[draw%uint64(len(all))]
		request := &protocol.ActionRequest{
			Action: "reset", Jobs: fmt.Sprint(draw >> 32 % uint64(d.jobs)), Reason: "the schedule says so",
			States: []protocol.TaskState{protocol.TaskProcessing, protocol.TaskOK, protocol.TaskError},
		}
		f.ask(func() error {
			var reply protocol.ActionReply
			err := f.call("POST", fmt.Sprintf("/v1/datasets/%d/actions", d.id), request, &reply)
			f.trace.Info("reset", "at", f.now(), "dataset", d.id, "jobs", request.Jobs, "tasks", reply.Tasks, "leases", reply.Leases, "err", err)
			return err
		})
	})
}
