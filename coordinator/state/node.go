package state

import (
	"fmt"
	"iter"
	"slices"

	"floe/protocol"
)

// Node is the standing of one node, or of its GPUs alone: a host of a site that
// failed of late, that was excluded, or whose next quarantine would be longer than
// the first. Of nodes in good standing nothing is kept. A value in the record is
// never changed, only replaced.
type Node struct {
	Site  protocol.SiteID `cbor:"1,keyasint"`
	Host  string          `cbor:"2,keyasint"`
	Part  NodePart        `cbor:"3,keyasint,omitempty"`
	State NodeState       `cbor:"4,keyasint"`
	// Since is when it came to this state, Wall for people.
	Since RecordTime `cbor:"5,keyasint"`
	Wall  UnixMillis `cbor:"6,keyasint"`
	// Until is when a quarantine ends.
	Until RecordTime `cbor:"7,keyasint,omitempty"`
	// Reason is why it was quarantined or excluded, By who excluded it.
	Reason string          `cbor:"8,keyasint,omitempty"`
	By     protocol.UserID `cbor:"9,keyasint,omitempty"`
	// Next is how long the next quarantine lasts; zero is MinQuarantine.
	Next RecordTime `cbor:"10,keyasint,omitempty"`
	// Streak counts quick failures in a row, Failures are the newest of each of at most
	// maxNodeFailures tasks among them, oldest first.
	Streak   uint32        `cbor:"11,keyasint,omitempty"`
	Failures []NodeFailure `cbor:"12,keyasint,omitempty"`
	// Canary is the lease of the one task that a node on probation was given.
	Canary protocol.LeaseID `cbor:"13,keyasint,omitempty"`
	// Changed is when any of this last changed. It is forgotten after NodeMemory.
	Changed RecordTime `cbor:"14,keyasint"`
	// Tried are tasks whose failure on probation was held against the node, since the
	// last success on it; oldest first, at most maxNodeFailures.
	Tried []protocol.TaskID `cbor:"15,keyasint,omitempty"`
}

// NodePart is what of a node a standing is about.
type NodePart uint8

// The parts. The numbers are part of the log.
const (
	WholeNode NodePart = iota
	NodeGPUs           // its GPUs: tasks without any are given to it all the same
)

func (p NodePart) String() string {
	if p == NodeGPUs {
		return "gpus"
	}
	return "node"
}

// NodeState is where a node stands.
type NodeState uint8

// The states. The numbers are part of the record.
const (
	NodeWatched     NodeState = iota + 1 // it is served as others are
	NodeQuarantined                      // it gets nothing until the quarantine ends
	NodeCanary                           // it gets one task at a time until one succeeds
	NodeExcluded                         // it gets nothing until a person releases it
)

var nodeStates = [...]string{"", "watched", "quarantined", "canary", "excluded"}

func (s NodeState) String() string {
	if s == 0 || int(s) >= len(nodeStates) {
		return fmt.Sprintf("invalid node state %d", s)
	}
	return nodeStates[s]
}

// NodeFailure is one quick failure of a task on a node.
type NodeFailure struct {
	Task    protocol.TaskID  `cbor:"1,keyasint"`
	Attempt uint32           `cbor:"2,keyasint"`
	Verdict protocol.Verdict `cbor:"3,keyasint"`
	// Charged says that it was counted against the task.
	Charged bool `cbor:"4,keyasint,omitempty"`
}

// MaxNodes is how many standings are kept at most, and NodeMemory for how long
// after the last change. Those of excluded nodes are kept until a person releases
// them. Source: design §11, 10,000 pilots.
const (
	MaxNodes   = 10_000
	NodeMemory = 7 * Day
)

// nodeName names a host of a site.
func nodeName(s protocol.SiteID, host string) string { return string(s) + "/" + host }

// nodeKey is what a standing is kept under: by site, part and host.
func nodeKey(s protocol.SiteID, host string, p NodePart) string {
	return string(s) + "/" + p.String() + "/" + host
}

// check refuses a standing that no machine makes.
func (n *Node) check(r *Record) error {
	if _, known := r.sites.Get(n.Site); !known || n.Host == "" || n.Part > NodeGPUs || n.State < NodeWatched || n.State > NodeExcluded {
		return fmt.Errorf("no such site, host, part %d or state %d", n.Part, n.State)
	}
	for i := range n.Failures {
		f := &n.Failures[i]
		if _, v := r.vertexOf(f.Task); v == nil || !slices.ContainsFunc(verdictRules, func(r verdictRule) bool { return r.verdict == f.Verdict }) {
			return fmt.Errorf("failure of unknown task %v, or by %v", f.Task, f.Verdict)
		}
	}
	return nil
}

func (n *Node) key() string { return nodeKey(n.Site, n.Host, n.Part) }

// forgotten is when a standing is forgotten; zero is never.
func (n *Node) forgotten() RecordTime {
	if n.State == NodeExcluded {
		return 0
	}
	return max(n.Changed, n.Until) + NodeMemory
}

// putNode replaces a standing.
func (m *Machine) putNode(n *Node) {
	key := n.key()
	if old, known := m.nodes.Get(key); known {
		m.undue(old)
	} else if m.nodes.Len() >= MaxNodes && !m.due.nodes.popFirst(m.forgetNode) {
		return // every one is excluded by a person
	}
	n.Changed = m.time
	m.nodes.Set(key, n)
	m.dueNode(n)
}

// dropNode forgets a standing: the node is as good as any.
func (m *Machine) dropNode(n *Node) {
	m.undue(n)
	m.nodes.Delete(n.key())
}

// forgetNode forgets a standing whose time has come.
func (m *Machine) forgetNode(key string) {
	if n, known := m.nodes.Get(key); known {
		m.dropNode(n)
		if n.State != NodeWatched {
			m.emitNode(n, true)
		}
	}
}

func (m *Machine) dueNode(n *Node) {
	if n.State == NodeQuarantined {
		m.due.quarantines.add(n.Until, n.key())
	}
	if t := n.forgotten(); t > 0 {
		m.due.nodes.add(t, n.key())
	}
}

func (m *Machine) undue(n *Node) {
	if n.State == NodeQuarantined {
		m.due.quarantines.remove(n.Until, n.key())
	}
	if t := n.forgotten(); t > 0 {
		m.due.nodes.remove(t, n.key())
	}
}

// enter takes a standing to a state.
func (m *Machine) enter(n *Node, s NodeState) {
	n.State, n.Since, n.Wall = s, m.time, m.wall
	n.Until, n.Streak, n.Failures, n.Canary = 0, 0, nil, protocol.LeaseID{}
}

// emitNode tells how a node stands now. good says that it is in good standing.
func (m *Machine) emitNode(n *Node, good bool) {
	e := &NodeChanged{Site: n.Site, Host: n.Host, Part: n.Part}
	if !good {
		e.State, e.Until, e.Reason = n.State, n.Until, n.Reason
	}
	m.emit(e)
}

// ExcludeNode bars a node, or its GPUs, until a person releases it. What runs
// there may finish.
type ExcludeNode struct {
	By   Action          `cbor:"1,keyasint"`
	Site protocol.SiteID `cbor:"2,keyasint"`
	Host string          `cbor:"3,keyasint"`
	Part NodePart        `cbor:"4,keyasint,omitempty"`
}

// ReleaseNode gives a node, and its GPUs, a good standing again.
type ReleaseNode struct {
	By   Action          `cbor:"1,keyasint"`
	Site protocol.SiteID `cbor:"2,keyasint"`
	Host string          `cbor:"3,keyasint"`
}

// Kind returns the command's number in the log.
func (*ExcludeNode) Kind() Kind { return KindExcludeNode }

// Kind returns the command's number in the log.
func (*ReleaseNode) Kind() Kind { return KindReleaseNode }

func (*ExcludeNode) needs() uint32 { return formatStanding }
func (*ReleaseNode) needs() uint32 { return formatStanding }

func validateNode(by *Action, s protocol.SiteID, host string) error {
	var c check
	c.action(by)
	c.name("site", string(s))
	c.text("host", host, MaxLine)
	c.that(host != "", "host: no name")
	return c.err
}

// Validate implements Command.
func (e *ExcludeNode) Validate() error {
	var c check
	c.that(e.Part <= NodeGPUs, "unknown part %d of a node", e.Part)
	c.wrap(validateNode(&e.By, e.Site, e.Host))
	return c.err
}

// Validate implements Command.
func (r *ReleaseNode) Validate() error { return validateNode(&r.By, r.Site, r.Host) }

func (e *ExcludeNode) action() (*Action, string, string) {
	return &e.By, "exclude " + e.Part.String(), nodeName(e.Site, e.Host)
}

func (r *ReleaseNode) action() (*Action, string, string) {
	return &r.By, "release node", nodeName(r.Site, r.Host)
}

func (e *ExcludeNode) apply(m *Machine) Answer {
	if _, known := m.sites.Get(e.Site); !known {
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no site %s", e.Site))
	}
	n := &Node{Site: e.Site, Host: e.Host, Part: e.Part}
	old, known := m.nodes.Get(n.key())
	switch {
	case known && old.State == NodeExcluded && old.Reason == e.By.Reason:
		return Answer{Reason: "excluded before"}
	case known:
		*n = *old
	case m.nodes.Len() >= MaxNodes && m.due.nodes.tree.Len() == 0:
		return refuse(protocol.CodeConflict, fmt.Sprintf("%d nodes are excluded; release some, or suspend sites", MaxNodes))
	}
	m.enter(n, NodeExcluded)
	n.Reason, n.By = e.By.Reason, e.By.Actor
	m.putNode(n)
	m.emitNode(n, false)
	return Answer{}
}

func (r *ReleaseNode) apply(m *Machine) Answer {
	found := false
	for _, p := range [...]NodePart{WholeNode, NodeGPUs} {
		if n, known := m.nodes.Get(nodeKey(r.Site, r.Host, p)); known {
			m.dropNode(n)
			m.emitNode(n, true)
			found = true
		}
	}
	if !found {
		return Answer{Reason: "in good standing"}
	}
	return Answer{}
}

// dropNodes forgets the nodes of a site.
func (m *Machine) dropNodes(s protocol.SiteID) {
	var gone []*Node
	m.nodes.Scan(func(_ string, n *Node) bool {
		if n.Site == s {
			gone = append(gone, n)
		}
		return true
	})
	for _, n := range gone {
		m.dropNode(n)
	}
}

// Nodes yields every standing that is kept, by site, part and host.
func (r *Record) Nodes() iter.Seq[Node] { return values(r.nodes.Scan) }

// Node returns the standing of a node or of its GPUs; false where nothing is
// kept of it: it is in good standing.
func (r *Record) Node(s protocol.SiteID, host string, p NodePart) (Node, bool) {
	return value(r.nodes.Get(nodeKey(s, host, p)))
}
