package state

import (
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"floe/protocol"
)

// modelNode is what the model keeps of a node; one that it does not have is in
// good standing.
type modelNode struct {
	state       NodeState
	until, next RecordTime
	streak      int
	failures    []NodeFailure // one per task, oldest first
	canary      protocol.LeaseID
	tried       []protocol.TaskID
}

func (n *modelNode) barred() bool {
	return n != nil && (n.state == NodeQuarantined || n.state == NodeExcluded || n.state == NodeCanary && !n.canary.IsZero())
}

// pass moves the model's time.
func (m *model) pass(now RecordTime) {
	m.now = now
	for id, p := range m.pilots {
		if p.left && p.leftAt+PilotMemory <= now { // forgotten, with what it still held
			m.leases(func(_ protocol.TaskID, j *modelJob, t *modelTask) {
				if t.lease.pilot == id {
					m.leave(j, t)
				}
			})
			delete(m.pilots, id)
		}
	}
	for name, n := range m.nodes {
		if n.state == NodeQuarantined && n.until <= now {
			n.state, n.streak, n.failures = NodeCanary, 0, nil
			n.changed(m)
		}
		if n.state != NodeExcluded && m.changedAt[name]+7*Day <= now {
			delete(m.nodes, name)
		}
	}
}

// changed notes when a node was last changed, which is when its memory begins.
func (n *modelNode) changed(m *model) {
	for name, o := range m.nodes {
		if o == n {
			m.changedAt[name] = max(m.now, n.until)
		}
	}
}

// freeCanary is told of every lease that ends.
func (m *model) freeCanary(t *modelTask) {
	for _, n := range m.nodes {
		if n.canary == t.lease.id {
			n.canary = protocol.LeaseID{}
			n.changed(m)
		}
	}
}

// nodeSucceeded is told of every accepted attempt before its lease ends.
func (m *model) nodeSucceeded(d *modelDataset, l *modelLease, task protocol.TaskID) {
	d.failing[task.Task] = nil
	name := m.pilots[l.pilot].node()
	n := m.nodes[name]
	if n == nil || n.state == NodeExcluded {
		return
	}
	n.streak, n.failures, n.tried = 0, nil, nil
	if n.next /= 2; n.next <= 30*Minute {
		n.next = 0
	}
	if n.state == NodeCanary && n.canary == l.id {
		n.state, n.canary = NodeWatched, protocol.LeaseID{}
	}
	n.changed(m)
	if n.state == NodeWatched && n.next == 0 {
		delete(m.nodes, name)
	}
}

// nodeFailed is told of every failure before its lease ends, and tells whether it
// is the node's.
func (m *model) nodeFailed(d *modelDataset, t *modelTask, r *Report, charged bool) bool {
	name := m.pilots[r.Pilot].node()
	if m.format < 2 || r.Verdict == protocol.VerdictPreempted {
		return false
	}
	n := m.nodes[name]
	if m.now-t.lease.granted >= 2*Minute && r.Verdict != protocol.VerdictNode {
		if n != nil && n.streak > 0 {
			n.streak, n.failures = 0, nil
			n.changed(m)
		}
		return false
	}
	if at := d.failing[r.Task.Task]; !slices.Contains(at, name) {
		at = append(at, name)
		d.failing[r.Task.Task] = at[max(0, len(at)-2):]
	}
	if n == nil {
		n = &modelNode{state: NodeWatched}
		m.nodes[name] = n
	}
	n.streak++
	n.failures = slices.DeleteFunc(n.failures, func(f NodeFailure) bool { return f.Task == r.Task })
	n.failures = append(n.failures, NodeFailure{r.Task, t.ended + 1, r.Verdict, charged})
	n.failures = n.failures[max(0, len(n.failures)-8):]
	defer n.changed(m)

	last := n.failures[len(n.failures)-1]
	against := 0
	for _, f := range n.failures {
		if m.speaks(f, n, name) {
			against++
		}
	}
	switch {
	case n.state == NodeQuarantined, n.state == NodeExcluded:
		return m.speaks(last, n, name)
	case n.state == NodeCanary && n.canary == r.Lease:
		if slices.Contains(n.tried, r.Task) || !m.speaks(last, n, name) {
			return false
		}
		n.tried = append(n.tried, r.Task)
		n.tried = n.tried[max(0, len(n.tried)-8):]
	case n.streak >= 5 && against >= 3:
	default:
		return false
	}
	for _, f := range n.failures[:len(n.failures)-1] {
		if m.speaks(f, n, name) {
			m.refund(f)
		}
	}
	lasts := max(n.next, 30*Minute)
	*n = modelNode{state: NodeQuarantined, until: m.now + lasts, next: min(2*lasts, 24*Hour), tried: n.tried}
	return true
}

func (m *model) speaks(f NodeFailure, n *modelNode, name string) bool {
	d, _, _ := m.task(f.Task)
	ran, succeeded := false, false
	datasets := map[protocol.DatasetID]bool{}
	for _, o := range n.failures {
		datasets[o.Task.Dataset] = true
	}
	for _, j := range d.jobs {
		t := j.tasks[f.Task.Task]
		succeeded = succeeded || t.finished()
		if t.lease != nil && t.lease.state == Live && m.now-t.lease.granted >= 2*Minute && m.pilots[t.lease.pilot].node() != name {
			ran = true
		}
	}
	elsewhere := slices.ContainsFunc(d.failing[f.Task.Task], func(at string) bool { return at != name })
	return ran || !elsewhere && (succeeded || len(datasets) >= 3)
}

// refund takes back a failure that was the node's.
func (m *model) refund(f NodeFailure) {
	_, j, t := m.task(f.Task)
	if !f.Charged || t.ended != f.Attempt {
		return
	}
	less := func(n *uint32) {
		if *n > 0 {
			*n--
		}
	}
	less(&t.failed)
	raised := false
	switch f.Verdict {
	case protocol.VerdictPayload:
		less(&t.payload)
	case protocol.VerdictData:
		less(&t.data)
	case protocol.VerdictMemory, protocol.VerdictWalltime, protocol.VerdictDisk:
		raised = true
	}
	crashed := len(t.lostAt) >= 3 && slices.ContainsFunc(t.lostAt[len(t.lostAt)-3:], func(at string) bool { return at != t.lostAt[len(t.lostAt)-1] })
	if t.state == protocol.TaskError && !raised && t.payload < 3 && t.data < 3 && t.failed < 10 && t.lost < 10 && !crashed {
		t.state = protocol.TaskQueued
		j.settle()
	}
}

func (w *walk) compareNodes(t *rapid.T) {
	left := maps.Clone(w.m.nodes)
	for got := range w.r.m.Nodes() {
		name := string(got.Site) + " " + got.Host
		want := left[name]
		delete(left, name)
		if want == nil {
			t.Fatalf("%s: node %s is %+v, want none", w.what, name, got)
		}
		if got.State != want.state || got.Until != want.until || got.Next != want.next || int(got.Streak) != want.streak ||
			!slices.Equal(got.Failures, want.failures) || got.Canary != want.canary || !slices.Equal(got.Tried, want.tried) {
			t.Fatalf("%s: node %s is %+v, want %+v", w.what, name, got, want)
		}
	}
	for name, want := range left {
		t.Fatalf("%s: nothing is kept of node %s, want %+v", w.what, name, want)
	}
	for _, d := range w.m.datasets {
		got, _ := w.r.m.datasets.Get(d.id)
		for i := range got.tasks {
			var names []string
			for _, n := range got.tasks[i].failing {
				names = append(names, strings.Replace(n, "/", " ", 1))
			}
			if want := d.failing[protocol.TaskIndex(i)]; !slices.Equal(names, want) {
				t.Fatalf("%s: task %d.*.%d fails on %v, want %v", w.what, d.id, i, names, want)
			}
		}
	}
}
