package state

import (
	"cmp"
	"fmt"
	"strings"

	"floe/protocol"
)

// eventLine writes an event for a person.
func eventLine(body EventBody) string {
	var b strings.Builder
	word := func(format string, args ...any) { fmt.Fprintf(&b, " "+format, args...) }
	say := func(what string) { b.WriteString(what) }
	switch e := body.(type) {
	case *DatasetSubmitted:
		say("dataset submitted")
		word("%d: %d jobs of %s", e.Dataset, e.Jobs, strings.Join(e.Tasks, " "))
	case *JobsAdded:
		say("jobs added")
		word("%d: %d to %d", e.Dataset, e.From, e.Jobs)
	case *DatasetChanged:
		say("dataset changed")
		word("%d: %v, priority %d, sites %s", e.Dataset, e.State, e.Priority, rule(&e.Sites))
		if e.Retired {
			word("retired")
		}
	case *TasksMoved:
		say("tasks moved")
		word("%d.*.%d by %v: %s", e.Dataset, e.Task, e.By, ranges(e.Jobs))
	case *LeaseGranted:
		say("lease granted")
		word("%v: task %v attempt %d to %s at %s", e.Lease, e.Task, e.Attempt, e.Pilot, e.Site)
	case *LeaseLapsed:
		say("lease lapsed")
		word("%v: task %v of %s", e.Lease, e.Task, e.Pilot)
	case *LeaseRevived:
		say("lease revived")
		word("%v: task %v of %s", e.Lease, e.Task, e.Pilot)
	case *AttemptEnded:
		say("attempt ended")
		word("%v: task %v attempt %d %v, next %v", e.Lease, e.Task, e.Attempt, e.Verdict, e.Next)
		if e.Accepted {
			word("(accepted)")
		}
		if e.Evidence != "" {
			word("(%s)", e.Evidence)
		}
		for _, f := range e.Remove {
			word("(%s goes)", f.URL)
		}
	case *AttemptCleaned:
		say("attempt cleaned")
		word("%v: task %v", e.Lease, e.Task)
		if e.Uncleaned {
			word("(not by its pilot)")
		}
	case *AttemptsWithdrawn:
		say("attempts withdrawn")
		word("%d.*.%d: %s", e.Dataset, e.Task, ranges(e.Jobs))
	case *UsageWasted:
		say("usage wasted")
		word("%v: task %v, %d ms", e.Lease, e.Task, e.Usage.WallMillis)
	case *TasksReleased:
		say("tasks released")
		word("%d.*.%d: %d, sites %s", e.Dataset, e.Task, e.Count, rule(&e.Sites))
	case *JobFinished:
		say("job finished")
		word("%d.%d: %v", e.Dataset, e.Job, e.State)
		for _, f := range e.Remove {
			word("remove %s", f.URL)
		}
	case *DatasetFinished:
		say("dataset finished")
		word("%d: %v", e.Dataset, e.State)
	case *NodeChanged:
		say("node changed")
		word("%s %v", nodeName(e.Site, e.Host), e.Part)
		if e.State == 0 {
			word("in good standing")
		} else {
			word("%v", e.State)
		}
		if e.Until > 0 {
			word("until %d s", e.Until/Second)
		}
		if e.Reason != "" {
			word("(%s)", e.Reason)
		}
	case *ActionTaken:
		say("action")
		word("%s %s: %v %s", e.Verb, e.Object, e.Code, e.Answer)
		if e.Moved != (Moved{}) {
			word("%+v", e.Moved)
		}
	default:
		say(strings.TrimPrefix(fmt.Sprintf("%T", body), "*state."))
		word("%+v", body)
	}
	return strings.TrimRight(b.String(), " ")
}

func rule(s *SiteRule) string {
	if len(s.Allowed)+len(s.Excluded) == 0 {
		return "any"
	}
	return fmt.Sprintf("%v but %v", s.Allowed, s.Excluded)
}

func ranges(jobs []protocol.JobRange) string {
	var parts []string
	for _, r := range jobs {
		if r.First == r.Last {
			parts = append(parts, fmt.Sprint(r.First))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return strings.Join(parts, ",")
}

// answerLines writes an answer for a person.
func answerLines(a *Answer) string {
	var b strings.Builder
	b.WriteString(a.Code.String())
	if a.Reason != "" {
		fmt.Fprintf(&b, ": %s", a.Reason)
	}
	if a.Dataset != 0 {
		fmt.Fprintf(&b, " [dataset %d]", a.Dataset)
	}
	if a.Moved != (Moved{}) {
		fmt.Fprintf(&b, " %+v", a.Moved)
	}
	if a.Name != "" {
		fmt.Fprintf(&b, " [%s]", a.Name)
	}
	b.WriteByte('\n')
	for i := range a.Grants {
		g := &a.Grants[i]
		fmt.Fprintf(&b, "  grant %v: task %v %s attempt %d", g.Lease.ID, g.Lease.Task, g.Task.Name, g.Lease.Attempt)
		r := &g.Granted
		fmt.Fprintf(&b, ", cores %d, memory %v, disk %v, walltime %d", r.Cores, r.Memory, r.Disk, r.Walltime)
		if r.GPUs > 0 {
			fmt.Fprintf(&b, ", gpus %d", r.GPUs)
		}
		if len(g.Lease.Parents) > 0 {
			fmt.Fprintf(&b, ", reads %v", g.Lease.Parents)
		}
		if g.Earlier != nil {
			fmt.Fprintf(&b, ", goes on from %s", g.Earlier.URL)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// table draws where every task of every dataset stands: a row per job, a letter
// per task; capitals where a lease is lapsed.
func table(m *Machine) string {
	var b strings.Builder
	m.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
		fmt.Fprintf(&b, "dataset %d: %v, priority %d, %d jobs", d.id, d.state(), d.priority, d.jobs)
		for t := range d.tasks {
			fmt.Fprintf(&b, " %s", d.tasks[t].spec.Name)
		}
		b.WriteByte('\n')
		for j := range d.jobs {
			fmt.Fprintf(&b, "  job %d:", j)
			for t := range d.tasks {
				fmt.Fprintf(&b, " %v", d.tasks[t].taskState(j))
				if l, current := d.current(j, protocol.TaskIndex(t)); current && l.State == Lapsed {
					b.WriteString("/lapsed")
				}
			}
			fmt.Fprintf(&b, " = %v", d.jobState(j))
			if d.stuck.has(j) {
				b.WriteString(" (final)")
			}
			b.WriteByte('\n')
		}
		return true
	})
	m.pilots.Scan(func(id protocol.PilotID, p *Pilot) bool {
		fmt.Fprintf(&b, "pilot %s at %s: %d leases", id, p.Site, len(p.Leases))
		if p.Left > 0 {
			b.WriteString(", left")
		}
		if p.Draining {
			b.WriteString(", draining")
		}
		if p.Revoked {
			b.WriteString(", revoked")
		}
		b.WriteByte('\n')
		return true
	})
	b.WriteString(standings(m))
	return b.String()
}

// dash is a word, or a dash where there is none.
func dash(word string) string { return cmp.Or(word, "-") }

// catalog lists the published software and the keys that it may be signed with.
func catalog(m *Machine) string {
	var b strings.Builder
	for s := range m.Software(protocol.SoftwareID{}) {
		fmt.Fprintf(&b, "%v: %.12s… by %s, name of %s", s.Item.Build.ID(), s.Item.Build.Digest.Hex(), s.Item.Build.Publisher, s.Owner)
		if s.Group != "" {
			fmt.Fprintf(&b, " and group %s", s.Group)
		}
		if s.Retired != 0 {
			b.WriteString(", retired")
		}
		if c := s.Item.Build.Cluster; c != "ice" {
			b.WriteString(", signed for " + c)
		}
		b.WriteByte('\n')
	}
	if r := m.PilotRelease(); r != nil {
		fmt.Fprintf(&b, "pilots: %s, before %s, tried %s by %v and %d %%;", dash(r.Stable), dash(r.Before), dash(r.Tried), r.Sites, r.Percent)
		for _, site := range []protocol.SiteID{"dale", "mill", "pond"} {
			fmt.Fprintf(&b, " %s (%d) has %s", site, site.Share(), dash(r.Version(site)))
		}
		b.WriteByte('\n')
	}
	for p := range m.Publishers() {
		fmt.Fprintf(&b, "key %.20v… of %s", p.Key, p.User)
		if p.Revoked != 0 {
			b.WriteString(", revoked")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// standings lists the nodes of which something is kept.
func standings(m *Machine) string {
	var b strings.Builder
	for n := range m.Nodes() {
		fmt.Fprintf(&b, "%v %s: %v", n.Part, nodeName(n.Site, n.Host), n.State)
		if n.Until > 0 {
			fmt.Fprintf(&b, " until %d s", n.Until/Second)
		}
		if n.Streak > 0 {
			fmt.Fprintf(&b, ", %d failures of %d tasks", n.Streak, len(n.Failures))
		}
		if n.Next > 0 {
			fmt.Fprintf(&b, ", next quarantine %d s", n.Next/Second)
		}
		if !n.Canary.IsZero() {
			fmt.Fprintf(&b, ", canary %v", n.Canary)
		}
		if n.Reason != "" {
			fmt.Fprintf(&b, " (%s)", n.Reason)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
