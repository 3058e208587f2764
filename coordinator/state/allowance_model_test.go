package state

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"floe/protocol"
)

// launchWalk is a random history of pilot jobs of two sites with two shapes each, and
// what ought to be known of them.
type launchWalk struct {
	*rapid.T
	r      *rig
	jobs   []*modelLaunch // that have not ended
	born   int
	shapes map[string]*modelShape
}

type modelLaunch struct {
	id      protocol.LaunchID
	site    protocol.SiteID
	shape   string
	granted RecordTime
	pilot   protocol.PilotID
	proven  bool
}

type modelShape struct {
	allowance      int
	probes         int
	cut, next      RecordTime
	proven, failed int
}

func (w *launchWalk) shape(site protocol.SiteID, name string) *modelShape {
	key := string(site) + "/" + name
	if w.shapes[key] == nil {
		w.shapes[key] = &modelShape{allowance: 10}
	}
	return w.shapes[key]
}

func (w *launchWalk) unproven(site protocol.SiteID, name string) (n int) {
	for _, j := range w.jobs {
		if j.site == site && j.shape == name && !j.proven {
			n++
		}
	}
	return n
}

func (w *launchWalk) send(c Command) Answer {
	answers, _ := w.r.apply(Second, c)
	return answers[0]
}

func (w *launchWalk) draw(name string, n int) int { return rapid.IntRange(0, n-1).Draw(w.T, name) }

func (w *launchWalk) grant(t *rapid.T) {
	w.T = t
	site, name := sites[w.draw("site", 2)], []string{"big", "small"}[w.draw("shape", 2)]
	c := &GrantLaunches{Site: site}
	for range 1 + w.draw("count", 8) {
		w.born++
		id := protocol.LaunchID(fmt.Sprintf("l%d", w.born))
		c.Launches = append(c.Launches, NewLaunch{ID: id, Shape: name, Offer: protocol.Resources{Cores: 1}, TicketHash: digestOf(string(id)), Expires: w.r.m.Time() + 2*Day})
	}
	m, now := w.shape(site, name), w.r.m.Time()+Second
	allowed := now >= m.next && len(c.Launches)+w.unproven(site, name) <= m.allowance
	if a := w.send(c); allowed != (a.Code == protocol.CodeOK) {
		w.Fatalf("%d more of %s at %s are answered %v: %s; with %+v and %d unproven that should be %v", len(c.Launches), name, site, a.Code, a.Reason, m, w.unproven(site, name), allowed)
	}
	if allowed {
		for i := range c.Launches {
			w.jobs = append(w.jobs, &modelLaunch{id: c.Launches[i].ID, site: site, shape: name, granted: now})
		}
	}
}

// ended takes a job from the model.
func (w *launchWalk) ended(j *modelLaunch, held bool) {
	for i, o := range w.jobs {
		if o == j {
			w.jobs = append(w.jobs[:i:i], w.jobs[i+1:]...)
			break
		}
	}
	if j.proven || !held {
		return
	}
	m, now := w.shape(j.site, j.shape), w.r.m.Time()
	m.failed++
	probe := m.allowance == 1
	if m.allowance /= 2; m.allowance == 0 {
		m.allowance = 1
	}
	if j.granted < m.cut {
		return
	}
	if m.cut = now; probe {
		wait := 5 * Minute
		for range m.probes {
			wait *= 2
		}
		m.next = now + min(wait, Hour)
		m.probes++
	}
}

func (w *launchWalk) job(t *rapid.T, want func(*modelLaunch) bool) *modelLaunch {
	w.T = t
	var some []*modelLaunch
	for _, j := range w.jobs {
		if want(j) {
			some = append(some, j)
		}
	}
	if len(some) == 0 {
		t.Skip("there is none")
	}
	return some[w.draw("job", len(some))]
}

func (w *launchWalk) end(t *rapid.T) {
	j := w.job(t, func(*modelLaunch) bool { return true })
	cause := EndCause(w.draw("cause", int(EndVain)))
	w.send(&EndLaunches{Site: j.site, Launches: []protocol.LaunchID{j.id, "never"}, Cause: cause, Reason: "why"})
	w.ended(j, cause != EndQuietly)
}

func (w *launchWalk) enrol(t *rapid.T) {
	j := w.job(t, func(j *modelLaunch) bool { return j.pilot == "" })
	j.pilot = protocol.PilotID("p-" + j.id)
	a := w.send(&EnrolPilot{
		Pilot: j.pilot, Site: j.site, Launch: j.id, TicketHash: digestOf(string(j.id)), PublicKey: make([]byte, publicKeySize),
		Resources: protocol.Resources{Cores: 1 + w.draw("promised", 2)},
	})
	if a.Code != protocol.CodeOK {
		w.Fatalf("enrol: %v %s", a.Code, a.Reason)
	}
}

func (w *launchWalk) acquire(t *rapid.T) {
	j := w.job(t, func(j *modelLaunch) bool { return j.pilot != "" })
	p, _ := w.r.m.Pilot(j.pilot)
	a := w.send(&Acquire{Pilot: j.pilot, Free: p.Resources, Want: 1, Sequence: p.Sequence + 1})
	if len(a.Grants) > 0 && !j.proven {
		j.proven = true
		m := w.shape(j.site, j.shape)
		m.proven++
		m.allowance, m.probes, m.next = m.allowance+1, 0, 0
	}
}

func (w *launchWalk) leave(t *rapid.T) {
	j := w.job(t, func(j *modelLaunch) bool { return j.pilot != "" })
	w.send(&LeavePilot{Pilot: j.pilot, Verdict: protocol.VerdictPreempted, Reason: "idle"})
	w.ended(j, w.waits())
}

// waits tells whether a task waits, which all jobs are promised to fit.
func (w *launchWalk) waits() bool { return w.r.m.Queued() > 0 }

func (w *launchWalk) pass(d RecordTime) {
	w.r.apply(d, &Tick{})
	kept := w.jobs[:0:0]
	for _, j := range w.jobs { // those that nobody enrolled with have expired, quietly
		if j.pilot != "" || j.granted-Second+2*Day > w.r.m.Time() {
			kept = append(kept, j)
		}
	}
	w.jobs = kept
}

func (w *launchWalk) compare(t *rapid.T) {
	w.T = t
	for _, site := range sites {
		x, _ := w.r.m.Site(site)
		for _, name := range []string{"big", "small"} {
			m, s := w.shape(site, name), x.Shape(name)
			if int(s.Allowance) != m.allowance || int(s.Unproven) != w.unproven(site, name) || int(s.Proven) != m.proven || int(s.Died+s.Refused+s.Vain) != m.failed {
				w.Fatalf("%s at %s is %+v, want %+v with %d unproven", name, site, s, m, w.unproven(site, name))
			}
		}
	}
}

// TestAllowanceAgainstModel drives pilot jobs of two sites at random, and then shows
// that no launch lease is lost for ever and that one probe is enough to begin anew.
func TestAllowanceAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &launchWalk{T: t, r: newRig(t), shapes: map[string]*modelShape{}}
		w.send(&SetFormat{Format: 2})
		for _, s := range sites {
			w.send(&PutSite{Site: s})
		}
		w.send(submission(1, 12, []TaskSpec{{Name: "a", Classes: []Class{{Requirements: protocol.Requirements{Cores: 1}}}}}))
		t.Repeat(map[string]func(*rapid.T){
			"grant": w.grant, "grant2": w.grant, "end": w.end, "end2": w.end, "enrol": w.enrol, "acquire": w.acquire, "leave": w.leave,
			"wait": func(t *rapid.T) { w.T = t; w.pass(RecordTime(1+w.draw("minutes", 40)) * Minute) },
			"days": func(t *rapid.T) { w.T = t; w.pass(3 * Day) },
			"":     w.compare,
		})
		for _, j := range w.jobs {
			if j.pilot != "" {
				w.send(&LeavePilot{Pilot: j.pilot, Verdict: protocol.VerdictLost, Reason: "silent"})
			}
		}
		w.r.apply(3*Day, &Tick{})
		for _, site := range sites {
			x, _ := w.r.m.Site(site)
			if x.Launches != 0 {
				t.Fatalf("%s still has %d launch leases", site, x.Launches)
			}
			for i := range x.Shapes {
				s := &x.Shapes[i]
				if s.Unproven != 0 || s.Left(w.r.m.Time()) < 1 {
					t.Fatalf("%s at %s with no pilot job left: %+v; want none unproven, and that one may be tried", s.Name, site, s)
				}
			}
		}
	})
}
