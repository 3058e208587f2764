package state

import "floe/protocol"

// PolicyVersion numbers the rules below. A change of any of them is a new version,
// gated by the state's format.
const PolicyVersion = 1

// MaxRaises is how often a request is raised, each time to one and a half of what
// it was. Source: design §2.
const MaxRaises = 8

// MaxFailed is how many attempts of a task may fail, by whatever fault, before it
// is held: the poison rule. Source: invariant I-13.
const MaxFailed = 10

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

// verdictRules is version 1 of the rules.
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
	}
	if r.count != countKinds {
		c := &v.counts[r.count]
		// A count is a raise, too, for memory, walltime and disk: it stops at the last.
		if c.get(j)+1 >= r.budget {
			spent = true
		} else {
			c.add(m.gen, j)
		}
	}
	if r.poison && v.counts[countFailed].add(m.gen, j) > MaxFailed {
		spent = true
	}
	if r.avoid && host != "" {
		m.avoid(d, t, j, host)
	}
	return spent
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
