package state

import (
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"floe/protocol"
)

// The rules of invariant I-14. A node on which tasks fail fast, one after another,
// would eat a dataset in no time: it is quarantined, then tried with one task at a
// time. But tasks that fail fast everywhere must not get the nodes barred where
// they happen to run, so nobody is blamed on one sample: a failure speaks against
// its node only if the same task of other jobs is known to run elsewhere, and what
// is held against the node is not held against the task. On probation the same task
// may fail again: that is a second sample, and the task's, or one that always fails
// would bar the node on which it is tried for good.
//
// Source: research/reliability-security.md B, I-14.
const (
	// QuickFailure is how soon after its lease an attempt has failed fast.
	QuickFailure = 2 * Minute
	// MaxStreak quick failures in a row, of at least MinFailing tasks that speak against
	// the node, end in quarantine.
	MaxStreak  = 5
	MinFailing = 3
	// MinQuarantine is how long the first quarantine lasts. Each lasts twice as long as
	// the one before, at most MaxQuarantine; each success halves that again.
	MinQuarantine = 30 * Minute
	MaxQuarantine = 24 * Hour

	maxNodeFailures = 8   // remembered per node
	maxWitnesses    = 256 // leases looked at for one that has run for longer
)

// clearance is what the standing of a pilot's node lets it be given.
type clearance struct {
	barred string // why it is nothing; empty where it is something
	// node and gpus, where not nil, are on probation: one task at a time.
	node, gpus *Node
}

// isGood tells whether nothing is held against the node.
func (c clearance) isGood() bool { return c.barred == "" && c.node == nil }

// cleared tells what a pilot may be given by the standing of its node, and cuts what
// it says is free to that. Acquire and AnyFits both go by it.
func (r *Record) cleared(p *Pilot, free *protocol.Resources) (c clearance) {
	if r.nodes.Len() == 0 || p.Host == "" {
		return c
	}
	if n, known := r.nodes.Get(nodeKey(p.Site, p.Host, WholeNode)); known {
		if c.barred = n.bars(); c.barred == "" && n.State == NodeCanary {
			c.node = n
		}
	}
	if len(free.GPUs) == 0 {
		return c
	}
	if n, known := r.nodes.Get(nodeKey(p.Site, p.Host, NodeGPUs)); known {
		if n.bars() != "" {
			free.GPUs = nil
		} else if n.State == NodeCanary {
			c.gpus = n
		}
	}
	return c
}

// bars says why nothing is given to a node, or to its GPUs; empty where something is.
func (n *Node) bars() string {
	switch {
	case n.State == NodeQuarantined || n.State == NodeExcluded:
		return fmt.Sprintf("node %s is %v: %s", nodeName(n.Site, n.Host), n.State, n.Reason)
	case n.State == NodeCanary && !n.Canary.IsZero():
		return fmt.Sprintf("node %s is on probation and has its one task", nodeName(n.Site, n.Host))
	}
	return ""
}

// tried notes that a lease was granted to a node with this clearance, and cuts it.
func (m *Machine) tried(c *clearance, l *Lease, granted *protocol.Requirements, free *protocol.Resources) {
	mark := func(n *Node) {
		next := *n
		next.Canary = l.ID
		m.putNode(&next)
	}
	if c.node != nil {
		mark(c.node)
		c.barred = "the node is on probation"
	}
	if c.gpus != nil && granted.GPUs > 0 {
		mark(c.gpus)
		c.gpus, free.GPUs = nil, nil
	}
}

// canaryEnded lets a node on probation have its next task.
func (m *Machine) canaryEnded(l *Lease, host string) {
	for _, p := range [...]NodePart{WholeNode, NodeGPUs} {
		if n, known := m.nodes.Get(nodeKey(l.Site, host, p)); known && n.Canary == l.ID {
			next := *n
			next.Canary = protocol.LeaseID{}
			m.putNode(&next)
		}
	}
}

// partOf is what of a node an attempt used.
func (v *vertex) partOf(j uint32, shape uint8) NodePart {
	if shapeOf(&v.classes[v.classOf(j)].requirements, shape).GPUs > 0 {
		return NodeGPUs
	}
	return WholeNode
}

// nodeSucceeded notes that an attempt succeeded, which speaks for its node.
func (m *Machine) nodeSucceeded(d *dataset, l *Lease, host string) {
	m.redeem(nodeKey(l.Site, host, WholeNode), l.ID)
	if d.tasks[l.Task.Task].partOf(uint32(l.Task.Job), l.Shape) == NodeGPUs {
		m.redeem(nodeKey(l.Site, host, NodeGPUs), l.ID)
	}
}

func (m *Machine) redeem(key string, canary protocol.LeaseID) {
	n, known := m.nodes.Get(key)
	if !known || n.State == NodeExcluded {
		return
	}
	next := *n
	next.Streak, next.Failures, next.Tried = 0, nil, nil
	if next.Next /= 2; next.Next <= MinQuarantine {
		next.Next = 0
	}
	released := n.State == NodeCanary && n.Canary == canary
	if released {
		m.enter(&next, NodeWatched)
		next.Reason = ""
		m.emitNode(n, true)
	}
	if next.State == NodeWatched && next.Next == 0 {
		m.dropNode(n)
		return
	}
	m.putNode(&next)
}

// nodeFailed notes that an attempt failed, and tells whether the node is to blame
// for it: then the task is not charged. charged says whether it would be.
func (m *Machine) nodeFailed(d *dataset, l *Lease, verdict protocol.Verdict, host string, charged bool) (blamed bool) {
	if m.format < formatStanding || host == "" || verdict == protocol.VerdictPreempted {
		return false
	}
	t, j := l.Task.Task, uint32(l.Task.Job)
	v := &d.tasks[t]
	n, known := m.nodes.Get(nodeKey(l.Site, host, v.partOf(j, l.Shape)))
	if m.time-l.Granted >= QuickFailure && verdict != protocol.VerdictNode {
		if known && n.Streak > 0 {
			next := *n
			next.Streak, next.Failures = 0, nil // no longer in a row
			m.putNode(&next)
		}
		return false
	}
	v.failedOn(nodeName(l.Site, host))
	next := &Node{Site: l.Site, Host: host, Part: v.partOf(j, l.Shape), State: NodeWatched, Since: m.time, Wall: m.wall}
	if known {
		*next = *n
	}
	failure := NodeFailure{Task: l.Task, Attempt: l.Attempt, Verdict: verdict, Charged: charged}
	next.Streak++
	next.note(failure)
	switch {
	case next.State == NodeQuarantined || next.State == NodeExcluded: // leased before
		blamed = m.speaks(&failure, next)
	case next.State == NodeCanary && next.Canary == l.ID:
		blamed = !slices.Contains(next.Tried, l.Task) && m.speaks(&failure, next)
	case next.Streak >= MaxStreak && len(next.Failures) >= MinFailing:
		against := 0
		for i := range next.Failures {
			if m.speaks(&next.Failures[i], next) {
				against++
			}
		}
		blamed = against >= MinFailing
	}
	if blamed && (next.State == NodeWatched || next.State == NodeCanary) {
		m.quarantine(next, l, verdict)
	} else {
		m.putNode(next)
	}
	return blamed
}

// note adds a failure, one per task.
func (n *Node) note(f NodeFailure) {
	others := make([]NodeFailure, 0, len(n.Failures)+1)
	for _, o := range n.Failures {
		if o.Task != f.Task {
			others = append(others, o)
		}
	}
	others = append(others, f)
	n.Failures = others[max(0, len(others)-maxNodeFailures):]
}

// failedOn notes that a task of the vertex failed fast on a node. Two nodes are as
// good as many.
func (v *vertex) failedOn(node string) {
	if !slices.Contains(v.failing, node) {
		v.failing = append(slices.Clone(v.failing), node)
		v.failing = v.failing[max(0, len(v.failing)-2):]
	}
}

// speaks tells whether a failure speaks against its node. It does if the same task
// of another job has been running for a while on another node. Else it does not
// where such tasks fail fast on other nodes, too, and have succeeded nowhere since;
// nor where none ever succeeded, unless tasks of several datasets fail on the node.
func (m *Machine) speaks(f *NodeFailure, n *Node) bool {
	d, known := m.datasets.Get(f.Task.Dataset)
	if !known {
		return false
	}
	if m.runsElsewhere(d, f.Task.Task, n) {
		return true
	}
	v := &d.tasks[f.Task.Task]
	here := nodeName(n.Site, n.Host)
	if slices.ContainsFunc(v.failing, func(node string) bool { return node != here }) {
		return false
	}
	return v.in[protocol.TaskOK].n+v.in[protocol.TaskCopied].n > 0 || n.failingDatasets() >= MinFailing
}

// runsElsewhere looks for a witness: a live lease of a task, in whatever job, on
// another node, that has outlived a quick failure.
func (m *Machine) runsElsewhere(d *dataset, t protocol.TaskIndex, n *Node) (found bool) {
	looked := 0
	d.live.Scan(func(_ uint64, l *Lease) bool {
		looked++
		if l.Task.Task == t && l.State == Live && m.time-l.Granted >= QuickFailure {
			p, _ := m.pilots.Get(l.Pilot)
			found = l.Site != n.Site || p.Host != n.Host
		}
		return !found && looked < maxWitnesses
	})
	return found
}

// failingDatasets counts the datasets whose tasks failed in a row.
func (n *Node) failingDatasets() int {
	ids := make([]protocol.DatasetID, len(n.Failures))
	for i := range n.Failures {
		ids[i] = n.Failures[i].Task.Dataset
	}
	slices.Sort(ids)
	return len(slices.Compact(ids))
}

// quarantine bars a node and takes its failures back from the tasks: they were the
// node's. The lease whose failure was the last is not charged by the caller.
func (m *Machine) quarantine(n *Node, l *Lease, last protocol.Verdict) {
	for i := range n.Failures {
		if f := &n.Failures[i]; f.Task != l.Task && m.speaks(f, n) {
			m.refund(f)
		}
	}
	n.Reason = fmt.Sprintf("%d quick failures in a row, of %d tasks; the last was %v of task %v", n.Streak, len(n.Failures), last, l.Task)
	if n.State == NodeCanary {
		n.Reason = fmt.Sprintf("failed on probation: %v of task %v", last, l.Task)
		n.Tried = append(slices.Clone(n.Tried), l.Task)
		n.Tried = n.Tried[max(0, len(n.Tried)-maxNodeFailures):]
	}
	lasts := max(n.Next, MinQuarantine)
	m.enter(n, NodeQuarantined)
	n.Until = m.time + lasts
	n.Next = min(2*lasts, MaxQuarantine)
	m.putNode(n)
	m.emitNode(n, false)
}

// refund takes a failure back from its task, unless the task has failed since, or
// was reset. One that was held for it may be pulled again.
func (m *Machine) refund(f *NodeFailure) {
	d := m.dataset(f.Task.Dataset)
	t, j := f.Task.Task, uint32(f.Task.Job)
	v := &d.tasks[t]
	r := ruleOf(f.Verdict)
	if !f.Charged || v.attempt(j) != f.Attempt+1 {
		return
	}
	if r.count != countKinds && !r.raises() {
		v.counts[r.count].less(m.gen, j)
	}
	if r.poison {
		v.counts[countFailed].less(m.gen, j)
	}
	if v.in[protocol.TaskError].has(j) && !r.raises() && !m.spent(d, t, j) {
		m.move(d, t, oneJob(j), protocol.TaskError, protocol.TaskQueued, ByNode)
		m.emitMoved(d, t, ByNode, roaring.BitmapOf(j))
		m.settle(d, j)
	}
}

// spent tells whether a budget of a task is used up, as far as counts tell: those
// of requests count raises.
func (m *Machine) spent(d *dataset, t protocol.TaskIndex, j uint32) bool {
	v := &d.tasks[t]
	for i := range verdictRules {
		r := &verdictRules[i]
		if r.count != countKinds && !r.raises() && v.counts[r.count].get(j) >= r.budget {
			return true
		}
	}
	return v.counts[countFailed].get(j) >= m.maxFailed() || d.crashes(t, j)
}

// endQuarantine puts a node on probation.
func (m *Machine) endQuarantine(key string) {
	n, known := m.nodes.Get(key)
	if !known || n.State != NodeQuarantined {
		return
	}
	next := *n
	m.enter(&next, NodeCanary)
	m.putNode(&next)
	m.emitNode(&next, false)
}
