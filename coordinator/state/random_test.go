package state

import (
	"bytes"
	"flag"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"floe/protocol"
)

func init() {
	// Defaults for everyday runs; the command line has the last word.
	for name, value := range map[string]string{"rapid.checks": "40", "rapid.nofailfile": "true", "rapid.shrinktime": "10s"} {
		_ = flag.Set(name, value)
	}
}

// walk is one random history: a rig, the model, and all leases ever granted.
type walk struct {
	*rapid.T
	r        *rig
	m        *model
	leases   []Lease
	pilots   []protocol.PilotID
	enrolled int
	last     []Command // of the entry before
	what     string    // the last step, for failures
}

// TestAgainstModel drives the machine and the model with the same random
// commands and compares them after each. A failure prints the seed and how to
// repeat it; -rapid.checks and -rapid.steps make it longer.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &walk{T: t, r: newRig(t), m: newModel()}
		w.m.format = uint32(1 + w.draw("format", 2))
		w.send("format", &SetFormat{Format: w.m.format})
		for _, s := range sites {
			w.send("site", &PutSite{Site: s})
			w.m.sites[s] = &modelSite{}
		}
		w.submit(t)
		w.enrol(t)
		t.Repeat(map[string]func(*rapid.T){
			"submit":   w.submit,
			"add jobs": w.addJobs,
			"set":      w.set,
			"enrol":    w.enrol,
			"acquire":  w.acquire,
			"acquire2": w.acquire,
			"acquire3": w.acquire,
			"report":   w.report,
			"report2":  w.report,
			"report3":  w.report,
			"success":  w.success,
			"success2": w.success,
			"success3": w.success,
			"expire":   w.expire,
			"revive":   w.revive,
			"leave":    w.leave,
			"revoke":   w.revoke,
			"site":     w.site,
			"drain":    w.drain,
			"reset":    w.reset,
			"suspend":  w.suspend,
			"resume":   w.resume,
			"ghost":    w.ghost,
			"week":     w.week,
			"while":    w.while,
			"exclude":  w.exclude,
			"":         w.compare,
		})
	})
}

var sites = []protocol.SiteID{"mill", "pond"}

// send applies one command and returns its answer.
func (w *walk) send(what string, c Command) Answer {
	w.what = what
	w.last = []Command{c}
	answers, _ := w.r.apply(Second, c)
	w.m.pass(w.r.m.Time())
	return answers[0]
}

// want applies one command that must be answered with a code.
func (w *walk) want(code protocol.Code, what string, c Command) Answer {
	a := w.send(what, c)
	if a.Code != code {
		w.Fatalf("%s: %T answered %v: %s, want %v", what, c, a.Code, a.Reason, code)
	}
	return a
}

func (w *walk) draw(name string, n int) int { return rapid.IntRange(0, n-1).Draw(w.T, name) }
func (w *walk) coin(name string) bool       { return rapid.Bool().Draw(w.T, name) }

func (w *walk) submit(t *rapid.T) {
	if len(w.m.datasets) == 4 {
		t.Skip("enough datasets")
	}
	w.T = t
	d := &modelDataset{failing: map[protocol.TaskIndex][]string{}, id: protocol.DatasetID(len(w.m.datasets) + 1), priority: w.draw("priority", 3) - 1, suspended: w.draw("suspended", 5) == 0}
	jobs := uint32(w.draw("jobs", 5))
	for i := range 1 + w.draw("tasks", 4) {
		s := TaskSpec{Name: fmt.Sprintf("t%d", i)}
		for p := range i {
			if w.coin("parent") {
				s.Parents = append(s.Parents, protocol.TaskIndex(p))
			}
		}
		asks := func() protocol.Requirements {
			return protocol.Requirements{Cores: 1, Memory: protocol.ByteSize(1+w.draw("memory", 3)) * protocol.GB, Walltime: protocol.Seconds(w.draw("walltime", 2) * 3600)}
		}
		s.Classes = []Class{{Requirements: asks()}}
		if jobs > 1 && w.coin("classes") {
			s.Classes[0].Jobs = []protocol.JobRange{{First: 0, Last: 0}}
			other := asks()
			other.Tags = []string{"far"} // never the same as the first
			s.Classes = append(s.Classes, Class{other, []protocol.JobRange{{First: 1, Last: protocol.JobIndex(jobs - 1)}}})
		}
		d.specs = append(d.specs, s)
	}
	d.sites = w.sites()
	c := submission(d.id, jobs, d.specs)
	c.Priority, c.Sites, c.Suspended = d.priority, d.sites, d.suspended
	w.want(protocol.CodeOK, "submit", c)
	d.addJobs(jobs)
	w.m.datasets = append(w.m.datasets, d)
}

func (w *walk) sites() SiteRule {
	switch w.draw("site rule", 6) {
	case 0:
		return SiteRule{Allowed: sites[:1]}
	case 1:
		return SiteRule{Excluded: sites[:1]}
	}
	return SiteRule{}
}

func (w *walk) dataset() *modelDataset { return w.m.datasets[w.draw("dataset", len(w.m.datasets))] }

func (w *walk) addJobs(t *rapid.T) {
	w.T = t
	d := w.dataset()
	if len(d.jobs) > 8 || slices.ContainsFunc(d.specs, func(s TaskSpec) bool { return len(s.Classes[0].Jobs) > 0 }) {
		t.Skip("no more jobs")
	}
	c := &AddJobs{Dataset: d.id, From: uint32(len(d.jobs)), Jobs: 2}
	if d.retired {
		w.want(protocol.CodeConflict, "add jobs", c)
		return
	}
	w.want(protocol.CodeOK, "add jobs", c)
	d.addJobs(2)
}

func (w *walk) set(t *rapid.T) {
	w.T = t
	d := w.dataset()
	c := &SetDataset{Dataset: d.id}
	switch w.draw("what", 9) {
	case 0, 1:
		c.Verb = DatasetSuspend
	case 2, 3, 4:
		c.Verb = DatasetResume
	case 5, 6:
		p := w.draw("priority", 3) - 1
		c.Priority = &p
	case 7:
		s := w.sites()
		c.Sites = &s
	case 8:
		if w.draw("really", 5) > 0 {
			t.Skip("not retired")
		}
		c.Verb = DatasetRetire
	}
	preview := w.r.m.Preview(c)
	if d.retired && c.Verb != DatasetRetire {
		w.want(protocol.CodeConflict, "set", c)
		return
	}
	a := w.want(protocol.CodeOK, "set", c)
	if a.Moved != preview {
		w.Fatalf("preview of SetDataset %+v, moved %+v", preview, a.Moved)
	}
	switch c.Verb {
	case DatasetSuspend:
		d.suspended = true
	case DatasetResume:
		d.suspended = false
	case DatasetRetire:
		if !d.retired {
			w.m.suspend(d, d.everyTask)
		}
		d.retired = true
	}
	if c.Priority != nil {
		d.priority = *c.Priority
	}
	if c.Sites != nil {
		d.sites = *c.Sites
	}
}

func (d *modelDataset) everyTask(visit func(*modelJob, int)) {
	for _, j := range d.jobs {
		for i := range j.tasks {
			visit(j, i)
		}
	}
}

func (w *walk) enrol(t *rapid.T) {
	w.T = t
	if len(w.pilots) > 6 {
		t.Skip("enough pilots")
	}
	site := sites[w.draw("site", len(sites))]
	if s := w.m.sites[site]; s.suspended || s.revoked {
		t.Skip("site suspended")
	}
	w.enrolled++
	id := protocol.PilotID(fmt.Sprintf("p%d", w.enrolled))
	has := protocol.Resources{Cores: 1 + w.draw("cores", 4), Memory: protocol.ByteSize(2+w.draw("memory", 9)) * protocol.GB, Disk: 10 * protocol.GB, Tags: []string{"far"}}
	host := fmt.Sprintf("n%d", w.draw("host", 3))
	w.r.enrolOn(id, site, host, has)
	w.last = nil
	w.pilots = append(w.pilots, id)
	w.m.pilots[id] = &modelPilot{site: site, has: has, host: host, taken: map[protocol.LeaseID]bool{}}
}

func (w *walk) pilot() (protocol.PilotID, *modelPilot) {
	if len(w.pilots) == 0 {
		w.Skip("no pilots")
	}
	id := w.pilots[w.draw("pilot", len(w.pilots))]
	return id, w.m.pilots[id]
}

func (w *walk) acquire(t *rapid.T) {
	w.T = t
	id, p := w.pilot()
	c := &Acquire{Pilot: id, Free: p.has, Want: uint16(1 + w.draw("want", 3))}
	if len(w.m.datasets) > 0 && w.coin("ahead") {
		c.Ahead = &protocol.Ahead{Dataset: protocol.DatasetID(1 + w.draw("of", len(w.m.datasets))), Task: protocol.TaskIndex(w.draw("task ahead", 3)), Count: uint16(1 + w.draw("more", 3))}
	}
	any, more := w.r.m.AnyFits(id, &c.Free), w.r.m.AnyAhead(id, c.Ahead)
	w.what, w.last = "acquire", []Command{c}
	answers, _ := w.r.apply(0, c) // what AnyFits said holds now
	a := answers[0]
	s := w.m.sites[p.site]
	node := w.m.nodes[p.node()]
	served := !p.left && !p.revoked && !p.draining && !s.suspended && !s.revoked && !node.barred()
	if node != nil && node.state == NodeCanary {
		c.Want = 1 // that much it gets
		if len(a.Grants) > 1 {
			w.Fatalf("a node on probation was granted %d tasks", len(a.Grants))
		}
	}
	if any && len(a.Grants) == 0 || !any && more != (len(a.Grants) > 0) {
		w.Fatalf("AnyFits = %v, AnyAhead = %v, but %d grants", any, more, len(a.Grants))
	}
	free := p.has
	aheadOf := func(lane []candidate) bool {
		return c.Ahead != nil && (node == nil || node.state != NodeCanary && !node.barred()) && len(lane) > 0 && lane[0].id.Dataset == c.Ahead.Dataset && lane[0].id.Task == c.Ahead.Task
	}
	asked := 0 // ahead
	for i := range a.Grants {
		g := &a.Grants[i]
		lane := w.m.best(p.site, &free)
		if i >= int(c.Want) || len(lane) == 0 {
			free = p.has // each is for itself
			if lane = w.m.best(p.site, &free); !aheadOf(lane) {
				w.Fatalf("granted %v ahead, want none of %v", g.Lease.Task, lane)
			}
			asked++
		}
		at := slices.IndexFunc(lane, func(c candidate) bool { return c.id == g.Lease.Task })
		if at < 0 || !served {
			w.Fatalf("granted %v, want one of %v", g.Lease.Task, lane)
		}
		avoids := func(c candidate) bool {
			_, _, task := w.m.task(c.id)
			return slices.Contains(task.hosts, p.host)
		}
		if want := max(0, slices.IndexFunc(lane[:min(len(lane), maxPassedOver)], func(c candidate) bool { return !avoids(c) })); at != want && len(lane) <= maxPassedOver {
			w.Fatalf("granted %v, want %v", g.Lease.Task, lane[want].id)
		}
		if got, want := g.Granted.Memory, lane[at].asks.Memory; got != want || g.Granted.Cores != lane[at].asks.Cores {
			w.Fatalf("granted %v of memory, want %v", got, want)
		}
		free.Cores -= g.Granted.Cores
		free.Memory -= g.Granted.Memory
		free.Disk -= g.Granted.Disk
		d, j, task := w.m.task(g.Lease.Task)
		earlier := ""
		if slices.Equal(task.savedOf, d.parents(j, g.Lease.Task.Task)) {
			earlier = task.saved
		}
		if (g.Earlier != nil) != (earlier != "") || g.Earlier != nil && g.Earlier.URL != earlier {
			w.Fatalf("granted %v to go on from %v, want %q", g.Lease.Task, g.Earlier, earlier)
		}
		w.m.end(task, true)
		task.state, task.lease = protocol.TaskProcessing, &modelLease{g.Lease.ID, id, Live, w.m.now}
		if node != nil && node.state == NodeCanary {
			node.canary = g.Lease.ID
			node.changed(w.m)
		}
		w.leases = append(w.leases, g.Lease)
	}
	if all := p.has; served && c.Ahead != nil && asked != int(c.Ahead.Count) {
		if lane := w.m.best(p.site, &all); asked > int(c.Ahead.Count) || aheadOf(lane) {
			w.Fatalf("%d granted ahead of %d, and next is %v", asked, c.Ahead.Count, lane)
		}
	}
	if served && asked == 0 && len(a.Grants) < int(c.Want) {
		if lane := w.m.best(p.site, &free); len(lane) > 0 {
			w.Fatalf("%d grants, but %v fits", len(a.Grants), lane[0].id)
		}
	}
}

func (w *walk) lease(t *rapid.T) Lease {
	w.T = t
	if len(w.leases) == 0 {
		t.Skip("no leases")
	}
	// The newest are the most interesting.
	back := min(w.draw("lease", 12), len(w.leases)-1)
	return w.leases[len(w.leases)-1-back]
}

func (w *walk) success(t *rapid.T) {
	l := w.lease(t)
	c := success(&l)
	c.Cleaned = w.coin("cleaned")
	w.reported(c)
}

func (w *walk) report(t *rapid.T) {
	l := w.lease(t)
	verdicts := []protocol.Verdict{
		protocol.VerdictPayload, protocol.VerdictMemory, protocol.VerdictWalltime, protocol.VerdictDisk, protocol.VerdictNode,
		protocol.VerdictSite, protocol.VerdictData, protocol.VerdictSoftware, protocol.VerdictPreempted, protocol.VerdictFramework,
	}
	c := failure(&l, verdicts[w.draw("verdict", len(verdicts))])
	d, _, _ := w.m.task(l.Task)
	if parents := d.specs[l.Task.Task].Parents; len(parents) > 0 && w.coin("bad input") {
		bad := l.Task
		bad.Task = parents[w.draw("parent", len(parents))]
		c.Verdict, c.BadInput = protocol.VerdictData, "out."+bad.String()
	}
	if w.coin("saved") {
		c.Outputs = []protocol.FileRecord{*checkpointFile(l.ID.String())}
	}
	w.reported(c)
	if w.coin("repeat") {
		before := headless(w, persisted(w, w.r.m.Snapshot()))
		w.reported(c)
		if !bytes.Equal(before, headless(w, persisted(w, w.r.m.Snapshot()))) {
			w.Fatalf("a repeated report changed the record")
		}
	}
}

func (w *walk) reported(c *Report) {
	w.m.pass(w.r.m.Time() + Second)
	w.want(w.m.report(c), "report "+c.Verdict.String(), c)
}

func (w *walk) expire(t *rapid.T) {
	l := w.lease(t)
	_, j, task := w.m.task(l.Task)
	if task.lease == nil || task.lease.id != l.ID {
		w.want(protocol.CodeStale, "expire", &Expire{Lease: l.ID, Task: l.Task, Term: w.r.term})
		return
	}
	if w.draw("old term", 8) == 0 {
		w.want(protocol.CodeStale, "expire in another term", &Expire{Lease: l.ID, Task: l.Task, Term: w.r.term - 1})
		return
	}
	var saved *protocol.FileRecord
	if w.coin("saved") {
		saved = checkpointFile(l.ID.String() + "-live")
	}
	w.want(protocol.CodeOK, "expire", &Expire{Lease: l.ID, Task: l.Task, Term: w.r.term, Saved: saved})
	w.m.save(l.Task, saved)
	w.m.lapse(j, task)
}

func (w *walk) revive(t *rapid.T) {
	l := w.lease(t)
	_, _, task := w.m.task(l.Task)
	c := &Revive{Lease: l.ID, Task: l.Task}
	if task.lease == nil || task.lease.id != l.ID || task.lease.state == Lapsed && w.m.pilots[l.Pilot].left {
		w.want(protocol.CodeStale, "revive", c)
		return
	}
	w.want(protocol.CodeOK, "revive", c)
	if task.lease.state == Lapsed {
		task.lease.state, task.state = Live, protocol.TaskProcessing
		task.unlose()
	}
}

func (w *walk) leave(t *rapid.T) {
	w.T = t
	id, p := w.pilot()
	if w.draw("really", 3) > 0 {
		t.Skip("stays")
	}
	v := protocol.VerdictPreempted
	if w.coin("lost") {
		v = protocol.VerdictLost
	}
	w.want(protocol.CodeOK, "leave", &LeavePilot{Pilot: id, Verdict: v})
	if !p.left {
		w.m.endPilot(id, v)
	}
}

func (w *walk) revoke(t *rapid.T) {
	w.T = t
	id, p := w.pilot()
	if w.draw("really", 4) > 0 {
		t.Skip("stays")
	}
	w.want(protocol.CodeOK, "revoke pilot", &RevokePilot{Pilot: id})
	w.revoked(id, p)
}

func (w *walk) revoked(id protocol.PilotID, p *modelPilot) {
	if !p.left {
		w.m.endPilot(id, protocol.VerdictWithdrawn)
		return
	}
	if !p.revoked {
		w.m.endPilot(id, protocol.VerdictWithdrawn)
	}
}

func (w *walk) site(t *rapid.T) {
	w.T = t
	id := sites[w.draw("site", len(sites))]
	s := w.m.sites[id]
	if w.draw("revoke", 12) == 0 {
		w.want(protocol.CodeOK, "revoke site", &RevokeSite{Site: id})
		if !s.revoked {
			for pid, p := range w.m.pilots {
				if p.site == id {
					w.revoked(pid, p)
				}
			}
		}
		s.revoked = true
		return
	}
	s.suspended = !s.suspended
	w.want(protocol.CodeOK, "put site", &PutSite{Site: id, Suspended: s.suspended})
}

// while lets attempts outlive a quick failure, or quarantines end.
func (w *walk) while(t *rapid.T) {
	w.T = t
	w.what, w.last = "while", nil
	w.passes([]RecordTime{3 * Minute, 31 * Minute, 25 * Hour}[w.draw("how long", 3)])
}

// passes lets time pass, and with it the memory of pilots that left.
func (w *walk) passes(elapsed RecordTime) {
	w.r.apply(elapsed, &Tick{})
	w.m.pass(w.r.m.Time())
	w.pilots = slices.DeleteFunc(w.pilots, func(id protocol.PilotID) bool { return w.m.pilots[id] == nil })
}

// exclude excludes a node, or releases it.
func (w *walk) exclude(t *rapid.T) {
	w.T = t
	_, p := w.pilot()
	code := protocol.CodeOK
	if w.m.format == 1 {
		code = protocol.CodeConflict
	}
	if w.draw("really", 3) > 0 {
		w.want(code, "release node", &ReleaseNode{Site: p.site, Host: p.host})
		delete(w.m.nodes, p.node())
		return
	}
	w.want(code, "exclude node", &ExcludeNode{Site: p.site, Host: p.host})
	if w.m.format == 1 {
		return
	}
	n := w.m.nodes[p.node()]
	if n == nil {
		n = new(modelNode)
		w.m.nodes[p.node()] = n
	}
	if n.state != NodeExcluded {
		*n = modelNode{state: NodeExcluded, next: n.next}
		n.changed(w.m)
	}
}

// week lets pilots that left be forgotten, with what they still held.
func (w *walk) week(t *rapid.T) {
	w.T = t
	if w.draw("really", 6) > 0 {
		t.Skip("time flies")
	}
	w.what, w.last = "week", nil
	w.passes(PilotMemory + Hour)
}

func (w *walk) drain(t *rapid.T) {
	w.T = t
	id, p := w.pilot()
	undo := w.coin("undo")
	if p.left {
		w.want(protocol.CodeNotFound, "drain", &DrainPilot{Pilot: id, Undo: undo})
		return
	}
	w.want(protocol.CodeOK, "drain", &DrainPilot{Pilot: id, Undo: undo})
	p.draining = !undo
}
