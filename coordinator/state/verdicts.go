package state

import (
	"slices"

	"floe/protocol"
)

// PolicyVersion numbers the rules below. A change of any of them is a new version,
// gated by the state's format: version 1 is that of format 1, where neither losses
// on several nodes nor the standing of nodes were looked at.
const PolicyVersion = 2

// MaxRaises is how often a request is raised, each time to one and a half of what
// it was. Source: design §2.
const MaxRaises = 8

// MaxFailed is how many attempts of a task may fail, by whatever fault, before it
// is held: the poison rule. Source: invariant I-13.
const MaxFailed = 10

// MaxCrashes is how many losses in a row, on at least two nodes, hold a task: it
// may be what brings its pilots down. Source: invariant I-13.
const MaxCrashes = 3

// verdictRule says what a failed attempt costs its task.
type verdictRule struct {
	verdict protocol.Verdict
	// count is what is counted towards budget; countKinds where nothing is.
	count  countKind
	budget uint32 // attempts that may end so; the last of them leads to error
	// poison says that the attempt counts towards MaxFailed, too.
	poison bool
	// avoid says that the host is avoided for this task while others are to be had.
	avoid bool
	what  string // for docs/state-machine.md
}

// raises tells whether what is counted is how often a request was raised.
func (r *verdictRule) raises() bool {
	return r.count == countMemory || r.count == countWalltime || r.count == countDisk
}

// verdictRules says what each verdict costs, in both versions.
var verdictRules = []verdictRule{
	{protocol.VerdictPayload, countPayload, 3, true, true, "queued again, on another host if there is one"},
	{protocol.VerdictMemory, countMemory, MaxRaises + 1, true, false, "memory request × 1.5, queued again"},
	{protocol.VerdictWalltime, countWalltime, MaxRaises + 1, true, false, "walltime request × 1.5, queued again"},
	{protocol.VerdictDisk, countDisk, MaxRaises + 1, true, false, "disk request × 1.5, queued again"},
	{protocol.VerdictNode, countKinds, 0, true, true, "queued again, on another host if there is one"},
	{protocol.VerdictSite, countKinds, 0, true, false, "queued again"},
	{protocol.VerdictData, countData, 3, true, false, "the producer of the bad input is reset, descendants with it; without a known producer queued again"},
	{protocol.VerdictSoftware, countKinds, 0, true, true, "queued again, on another host if there is one"},
	{protocol.VerdictPreempted, countKinds, 0, false, false, "queued again; costs nothing"},
	{protocol.VerdictLost, countLost, 10, false, false, "queued again; only losses in a row are counted"},
	{protocol.VerdictFramework, countKinds, 0, true, false, "queued again"},
}

func ruleOf(v protocol.Verdict) *verdictRule {
	for i := range verdictRules {
		if verdictRules[i].verdict == v {
			return &verdictRules[i]
		}
	}
	panic("state: no rule for verdict " + v.String())
}

// charge counts a failed attempt against its task and tells whether a budget is
// spent by it.
func (m *Machine) charge(d *dataset, t protocol.TaskIndex, j uint32, verdict protocol.Verdict, host string) (spent bool) {
	v := &d.tasks[t]
	r := ruleOf(verdict)
	if r.count != countLost {
		v.counts[countLost].clear(m.gen, oneJob(j)) // in a row
		forget(d.lostAt, t, oneJob(j))
	}
	if r.count != countKinds {
		c := &v.counts[r.count]
		spent = c.get(j)+1 >= r.budget
		// A count is a raise, too, for memory, walltime and disk: it stops at the last.
		// Format 1 stopped every count there.
		if !spent || m.format >= formatStanding && !r.raises() {
			c.add(m.gen, j)
		}
	}
	if r.poison && v.counts[countFailed].add(m.gen, j) >= m.maxFailed() {
		spent = true
	}
	if r.avoid && host != "" {
		m.avoid(d, t, j, host)
	}
	return spent
}

// excuse notes a failure that was its node's doing: it costs the task nothing.
func (m *Machine) excuse(d *dataset, t protocol.TaskIndex, j uint32, host string) {
	d.tasks[t].counts[countLost].clear(m.gen, oneJob(j))
	forget(d.lostAt, t, oneJob(j))
	m.avoid(d, t, j, host)
}

// maxFailed is the failure that leads to error. Format 1 allowed one more than
// MaxFailed.
func (r *Record) maxFailed() uint32 {
	if r.format < formatStanding {
		return MaxFailed + 1
	}
	return MaxFailed
}

// chargeLoss counts a silent lease against its task. Losses in a row on different
// nodes speak against the task: those on one may be the node's doing.
func (m *Machine) chargeLoss(d *dataset, l *Lease) (spent bool) {
	t, j := l.Task.Task, uint32(l.Task.Job)
	spent = m.charge(d, t, j, protocol.VerdictLost, "")
	if m.format < formatStanding {
		return spent
	}
	p, _ := m.pilots.Get(l.Pilot)
	key := taskKey(j, t)
	nodes, _ := d.lostAt.Get(key)
	grown := append(slices.Clone(nodes), nodeName(l.Site, p.Host))
	d.lostAt.Set(key, grown[max(0, len(grown)-MaxCrashes):])
	return spent || d.crashes(t, j)
}

// unchargeLoss takes back the last loss: the pilot is there after all.
func (m *Machine) unchargeLoss(d *dataset, l *Lease) {
	t, j := l.Task.Task, uint32(l.Task.Job)
	d.tasks[t].counts[countLost].less(m.gen, j)
	key := taskKey(j, t)
	switch nodes, known := d.lostAt.Get(key); {
	case known && len(nodes) > 1:
		d.lostAt.Set(key, slices.Clone(nodes[:len(nodes)-1]))
	case known:
		d.lostAt.Delete(key)
	}
}

// crashes tells whether a task was lost so often, and on different nodes, that it
// is suspected of bringing its pilots down.
func (d *dataset) crashes(t protocol.TaskIndex, j uint32) bool {
	nodes, _ := d.lostAt.Get(taskKey(j, t))
	return d.tasks[t].counts[countLost].get(j) >= MaxCrashes &&
		slices.ContainsFunc(nodes, func(n string) bool { return n != nodes[0] })
}

// maxAvoided is how many hosts are remembered per task.
const maxAvoided = 3

func (m *Machine) avoid(d *dataset, t protocol.TaskIndex, j uint32, host string) {
	key := taskKey(j, t)
	hosts, _ := d.failedAt.Get(key)
	for _, h := range hosts {
		if h == host {
			return
		}
	}
	grown := append(append(make([]string, 0, len(hosts)+1), hosts...), host)
	d.failedAt.Set(key, grown[max(0, len(grown)-maxAvoided):])
}

// What a request that says nothing is taken for when it must be raised.
const (
	silentMemory   = protocol.GB
	silentDisk     = protocol.GB
	silentWalltime = protocol.Seconds(3600)
)

// raise returns requirements raised by the steps for memory, walltime and disk.
func raise(r *protocol.Requirements, steps [3]uint8) protocol.Requirements {
	if steps == [3]uint8{} {
		return *r
	}
	up := *r
	up.Memory = raised(up.Memory, silentMemory, protocol.MaxByteSize, steps[0])
	up.Walltime = raised(up.Walltime, silentWalltime, protocol.MaxWalltime, steps[1])
	up.Disk = raised(up.Disk, silentDisk, protocol.MaxByteSize, steps[2])
	if len(r.Alternatives) > 0 {
		up.Alternatives = make([]protocol.Requirements, len(r.Alternatives))
		for i := range r.Alternatives {
			up.Alternatives[i] = raise(&r.Alternatives[i], steps)
		}
	}
	return up
}

// raised applies steps of one and a half, rounded down, to a request.
func raised[N protocol.ByteSize | protocol.Seconds](n, silent, limit N, steps uint8) N {
	if steps > 0 && n == 0 {
		n = silent
	}
	for range steps {
		n = min(n+n/2, limit)
	}
	return n
}
