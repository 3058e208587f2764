package state

import (
	"slices"
	"strings"

	"floe/protocol"
)

// Limits of what commands may carry. Together with MaxCommandBytes they keep one
// command's effect on the record bounded.
const (
	MaxText      = 4 << 10 // a description, a reason
	MaxLine      = 256     // a title, a host name, a version
	MaxPriority  = 100
	MaxClasses   = 64 // of one task. Source: design §3
	MaxRanges    = 16 << 10
	MaxPairs     = 256
	MaxLaunches  = 1024
	MaxGPUCards  = 64
	MaxSiteNames = 1024
	MaxTags      = 64
	MaxUses      = 1 << 20

	publicKeySize = 32 // Ed25519
)

// check gathers the first mistake of a command.
type check struct{ err error }

func (c *check) that(ok bool, format string, args ...any) {
	if !ok && c.err == nil {
		c.err = protocol.Errorf(protocol.CodeBadRequest, format, args...)
	}
}

func (c *check) wrap(err error) {
	if err != nil && c.err == nil {
		c.err = protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
}

func (c *check) text(what, s string, limit int) {
	c.that(len(s) <= limit, "%s: %d bytes, limit %d", what, len(s), limit)
}

func (c *check) name(what, s string) { c.wrap(protocol.CheckName(what, s)) }

func (c *check) hash(what string, d protocol.Digest) { c.that(!d.IsZero(), "%s: no digest", what) }

func (c *check) action(a *Action) {
	c.text("actor", string(a.Actor), protocol.MaxName)
	c.text("reason", a.Reason, MaxText)
	c.text("address", a.From, MaxLine)
	c.text("key", a.Key, protocol.MaxName)
}

// ranges checks that a list of jobs is sorted and disjoint.
func (c *check) ranges(what string, rs []protocol.JobRange) {
	c.that(len(rs) <= MaxRanges, "%s: more than %d ranges of jobs", what, MaxRanges)
	next := uint64(0)
	for _, r := range rs {
		c.that(r.First <= r.Last && uint64(r.First) >= next && r.Last < protocol.MaxJobs,
			"%s: jobs %d-%d: ranges must be sorted, disjoint and below %d", what, r.First, r.Last, uint64(protocol.MaxJobs))
		next = uint64(r.Last) + 1
	}
}

func (c *check) sites(rule *SiteRule) {
	for _, list := range [][]protocol.SiteID{rule.Allowed, rule.Excluded} {
		c.that(len(list) <= MaxSiteNames, "more than %d sites", MaxSiteNames)
		c.that(slices.IsSorted(list), "sites: list is not sorted")
		for _, s := range list {
			c.name("site", string(s))
		}
	}
}

func (c *check) resources(r *protocol.Resources) {
	c.that(r.Cores >= 0 && r.Cores <= protocol.MaxCores, "cores %d: want 0 to %d", r.Cores, protocol.MaxCores)
	c.that(r.Memory >= 0 && r.Memory <= protocol.MaxByteSize, "memory %d: out of range", r.Memory)
	c.that(r.Disk >= 0 && r.Disk <= protocol.MaxByteSize, "disk %d: out of range", r.Disk)
	c.that(r.Remaining >= 0, "remaining walltime %d: negative", r.Remaining)
	c.that(len(r.GPUs) <= MaxGPUCards, "more than %d GPUs", MaxGPUCards)
	c.that(len(r.Tags) <= MaxTags, "more than %d tags", MaxTags)
	c.text("platform", r.OS, MaxLine)
	for _, t := range r.Tags {
		c.text("tag", t, protocol.MaxName)
	}
	for _, g := range r.GPUs {
		c.text("GPU", g.ID+g.Model, MaxLine)
	}
}

// classes checks the classes of one task against the jobs they must hold:
// every one of first to end-1 exactly once.
func (c *check) classes(task string, classes []Class, first, end uint32) {
	c.that(len(classes) > 0 && len(classes) <= MaxClasses, "task %q: %d requirement classes, want 1 to %d", task, len(classes), MaxClasses)
	var all []protocol.JobRange
	for i := range classes {
		c.wrap(classes[i].Requirements.Check())
		c.ranges(task, classes[i].Jobs)
		c.that(len(classes[i].Jobs) > 0 || len(classes) == 1 && first == 0, "task %q: a class without jobs beside others", task)
		all = append(all, classes[i].Jobs...)
	}
	if c.err != nil || len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b protocol.JobRange) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
	next := uint64(first)
	for _, r := range all {
		c.that(uint64(r.First) == next, "task %q: job %d is in no class or in two", task, next)
		next = uint64(r.Last) + 1
	}
	c.that(next == uint64(end), "task %q: classes end at job %d of %d", task, next, end)
}

func (c *check) selection(s *Selection) {
	c.that(s.Dataset != 0, "selection: no dataset")
	c.ranges("selection", s.Jobs)
	c.that(len(s.Tasks) <= protocol.MaxTasks, "selection: more than %d tasks", protocol.MaxTasks)
	for _, st := range s.States {
		c.that(slices.Contains(protocol.TaskStates, st), "selection: invalid task state %d", st)
	}
}

// Validate implements Command.
func (s *SubmitDataset) Validate() error {
	var c check
	c.action(&s.By)
	c.that(s.Dataset != 0, "dataset: no number")
	f := &s.Facts
	c.text("alias", f.Alias, protocol.MaxName)
	c.text("title", f.Title, MaxLine)
	c.text("description", f.Description, 16*MaxText)
	c.name("owner", string(f.Owner))
	if f.Group != "" {
		c.name("group", string(f.Group))
	}
	c.hash("steering document", f.Steering)
	c.text("temp area", f.TempArea, protocol.MaxURL)
	c.that(len(f.Categories) <= MaxPairs && len(f.Labels) <= MaxPairs && len(f.Options) <= MaxPairs, "more than %d categories, labels or options", MaxPairs)
	for _, p := range slices.Concat(f.Labels, f.Options) {
		c.text("label or option", p.Name, protocol.MaxName)
		c.text(p.Name, p.Value, MaxText)
	}
	c.that(slices.IsSortedFunc(f.Options, func(a, b Pair) int { return strings.Compare(a.Name, b.Name) }), "options: not sorted by name")
	c.that(s.Priority >= -MaxPriority && s.Priority <= MaxPriority, "priority %d: want -%d to %d", s.Priority, MaxPriority, MaxPriority)
	c.sites(&s.Sites)
	c.that(s.Jobs <= protocol.MaxJobs, "%d jobs, limit %d", s.Jobs, uint64(protocol.MaxJobs))
	c.that(len(s.Tasks) > 0 && len(s.Tasks) <= protocol.MaxTasks, "%d tasks, want 1 to %d", len(s.Tasks), protocol.MaxTasks)
	for i := range s.Tasks {
		t := &s.Tasks[i]
		c.that(t.Name != "" && len(t.Name) <= protocol.MaxName, "task %d: name must have 1 to %d bytes", i, protocol.MaxName)
		for n, p := range t.Parents {
			c.that(int(p) < i, "task %q: parent %d does not stand before it", t.Name, p)
			c.that(!slices.Contains(t.Parents[:n], p), "task %q: parent %d is named twice", t.Name, p)
		}
		c.classes(t.Name, t.Classes, 0, s.Jobs)
		if c.err != nil {
			break
		}
	}
	return c.err
}

// Validate implements Command.
func (a *AddJobs) Validate() error {
	var c check
	c.action(&a.By)
	c.that(a.Dataset != 0, "dataset: no number")
	c.that(a.Jobs > 0 && uint64(a.From)+uint64(a.Jobs) <= protocol.MaxJobs, "%d more jobs after %d: want at least 1 and at most %d in all", a.Jobs, a.From, uint64(protocol.MaxJobs))
	for i := range a.Classes {
		c.that(i == 0 || a.Classes[i-1].Task < a.Classes[i].Task, "added classes: tasks are not sorted")
		for k := range a.Classes[i].Classes {
			c.that(len(a.Classes[i].Classes[k].Jobs) > 0, "added classes: a class without jobs")
		}
		if c.err == nil {
			c.classes("", a.Classes[i].Classes, a.From, a.From+a.Jobs)
		}
	}
	return c.err
}

// Validate implements Command.
func (s *SetDataset) Validate() error {
	var c check
	c.action(&s.By)
	c.that(s.Dataset != 0, "dataset: no number")
	c.that(s.Verb <= DatasetRetire, "unknown verb %d", s.Verb)
	if s.Priority != nil {
		c.that(*s.Priority >= -MaxPriority && *s.Priority <= MaxPriority, "priority %d: want -%d to %d", *s.Priority, MaxPriority, MaxPriority)
	}
	if s.Sites != nil {
		c.sites(s.Sites)
	}
	c.that(s.Verb != DatasetUnchanged || s.Priority != nil || s.Sites != nil, "nothing to change")
	return c.err
}

func validateSelection(by *Action, s *Selection) error {
	var c check
	c.action(by)
	c.selection(s)
	return c.err
}

// Validate implements Command.
func (r *ResetTasks) Validate() error { return validateSelection(&r.By, &r.Select) }

// Validate implements Command.
func (s *SuspendTasks) Validate() error { return validateSelection(&s.By, &s.Select) }

// Validate implements Command.
func (r *ResumeTasks) Validate() error { return validateSelection(&r.By, &r.Select) }

// Validate implements Command.
func (s *SkipDatasets) Validate() error {
	var c check
	c.action(&s.By)
	c.that(s.Next != 0, "dataset: no number")
	return c.err
}

// Validate implements Command.
func (*Checkpoint) Validate() error { return nil }

// Validate implements Command.
func (*Tick) Validate() error { return nil }

// Validate implements Command.
func (s *SetFormat) Validate() error {
	var c check
	c.action(&s.By)
	c.that(s.Format >= 1 && s.Format <= Format, "format %d: this build knows 1 to %d", s.Format, Format)
	return c.err
}

func validateSite(by *Action, s protocol.SiteID) error {
	var c check
	c.action(by)
	c.name("site", string(s))
	return c.err
}

// Validate implements Command.
func (p *PutSite) Validate() error {
	var c check
	c.text("description", p.Description, MaxText)
	c.wrap(validateSite(&p.By, p.Site))
	return c.err
}

// Validate implements Command.
func (r *RemoveSite) Validate() error { return validateSite(&r.By, r.Site) }

// Validate implements Command.
func (r *RevokeSite) Validate() error { return validateSite(&r.By, r.Site) }

// Validate implements Command.
func (p *PutTicket) Validate() error {
	var c check
	c.wrap(validateSite(&p.By, p.Site))
	c.hash("ticket", p.Hash)
	c.that(p.Uses >= 1 && p.Uses <= MaxUses, "ticket: %d uses, want 1 to %d", p.Uses, MaxUses)
	return c.err
}

// Validate implements Command.
func (g *GrantLaunches) Validate() error {
	var c check
	c.name("site", string(g.Site))
	c.that(len(g.Launches) > 0 && len(g.Launches) <= MaxLaunches, "%d launches, want 1 to %d", len(g.Launches), MaxLaunches)
	for i := range g.Launches {
		l := &g.Launches[i]
		c.name("launch", string(l.ID))
		c.text("shape", l.Shape, protocol.MaxName)
		c.hash("ticket", l.TicketHash)
		c.resources(&l.Offer)
	}
	return c.err
}

// Validate implements Command.
func (e *EndLaunches) Validate() error {
	var c check
	c.name("site", string(e.Site))
	c.text("reason", e.Reason, MaxText)
	c.that(e.Cause < endCauses && e.Cause != EndVain, "cause %d is none that is told", e.Cause)
	c.that(len(e.Launches) <= MaxLaunches, "%d launches, limit %d", len(e.Launches), MaxLaunches)
	for _, l := range e.Launches {
		c.name("launch", string(l))
	}
	return c.err
}

// Validate implements Command.
func (e *EnrolPilot) Validate() error {
	var c check
	c.name("pilot", string(e.Pilot))
	c.name("site", string(e.Site))
	c.text("launch", string(e.Launch), protocol.MaxName)
	c.hash("ticket", e.TicketHash)
	c.that(len(e.PublicKey) == publicKeySize, "public key of %d bytes, want %d", len(e.PublicKey), publicKeySize)
	c.text("host", e.Host, MaxLine)
	c.text("batch id", e.BatchID, MaxLine)
	c.text("version", e.Version, MaxLine)
	c.resources(&e.Resources)
	return c.err
}

func validatePilot(by *Action, p protocol.PilotID) error {
	var c check
	c.action(by)
	c.name("pilot", string(p))
	return c.err
}

// Validate implements Command.
func (d *DrainPilot) Validate() error { return validatePilot(&d.By, d.Pilot) }

// Validate implements Command.
func (r *RevokePilot) Validate() error { return validatePilot(&r.By, r.Pilot) }

// Validate implements Command.
func (l *LeavePilot) Validate() error {
	var c check
	c.name("pilot", string(l.Pilot))
	c.text("reason", l.Reason, MaxText)
	c.that(l.Verdict == protocol.VerdictPreempted || l.Verdict == protocol.VerdictLost, "a pilot leaves as preempted or lost, not %v", l.Verdict)
	return c.err
}

// Validate implements Command.
func (a *Acquire) Validate() error {
	var c check
	c.name("pilot", string(a.Pilot))
	c.resources(&a.Free)
	c.that(a.Want <= protocol.MaxHeld, "%d tasks wanted, limit %d", a.Want, protocol.MaxHeld)
	c.that(a.Ahead == nil || a.Ahead.Count <= protocol.MaxHeld, "more than %d tasks wanted ahead", protocol.MaxHeld)
	return c.err
}

// Validate implements Command.
func (r *Report) Validate() error {
	var c check
	c.name("pilot", string(r.Pilot))
	c.that(r.Task.Dataset != 0, "report %v: no task", r.Lease)
	c.text("host", r.Host, MaxLine)
	c.text("bad input", r.BadInput, protocol.MaxURL)
	p := protocol.Report{Lease: r.Lease, Verdict: r.Verdict, Evidence: r.Evidence, Statistics: r.Statistics, Outputs: r.Outputs, Modules: r.Modules}
	c.wrap(p.Check())
	return c.err
}

func validateLease(l protocol.LeaseID, t protocol.TaskID) error {
	var c check
	c.that(!l.IsZero() && t.Dataset != 0, "no lease or no task")
	return c.err
}

// Validate implements Command.
func (e *Expire) Validate() error {
	if err := validateLease(e.Lease, e.Task); err != nil || e.Saved == nil {
		return err
	}
	var c check
	c.that(e.Saved.Type == protocol.FileCheckpoint, "lease %v: a %v file is no checkpoint", e.Lease, e.Saved.Type)
	c.wrap(e.Saved.Check())
	return c.err
}

// Validate implements Command.
func (r *Revive) Validate() error { return validateLease(r.Lease, r.Task) }

// Validate implements Command.
func (p *PutUser) Validate() error {
	var c check
	c.action(&p.By)
	c.name("user", string(p.User))
	c.name("role", p.Role)
	c.that(len(p.Groups) <= MaxPairs, "more than %d groups", MaxPairs)
	for _, g := range p.Groups {
		c.name("group", string(g))
	}
	if p.PasswordHash != nil {
		c.text("password hash", *p.PasswordHash, MaxLine)
	}
	return c.err
}

// Validate implements Command.
func (r *RemoveUser) Validate() error {
	var c check
	c.action(&r.By)
	c.name("user", string(r.User))
	return c.err
}

// Validate implements Command.
func (p *PutToken) Validate() error {
	var c check
	c.action(&p.By)
	c.hash("token", p.Hash)
	c.name("user", string(p.User))
	c.name("role", p.Role)
	c.text("description", p.Description, MaxLine)
	c.that(p.Expires >= 0, "token: negative expiry")
	return c.err
}

// Validate implements Command.
func (r *RevokeToken) Validate() error {
	var c check
	c.action(&r.By)
	c.hash("token", r.Hash)
	return c.err
}

// Validate implements Command.
func (p *PutJoinToken) Validate() error {
	var c check
	c.action(&p.By)
	c.hash("join token", p.Hash)
	c.that(p.For == JoinSite || p.For == JoinCoordinator, "join token: unknown kind %d", p.For)
	c.name(p.For.String(), p.Name)
	c.that(p.Uses >= 1 && p.Uses <= MaxClasses, "join token: %d uses, want 1 to %d", p.Uses, MaxClasses)
	return c.err
}

// Validate implements Command.
func (u *UseJoinToken) Validate() error {
	var c check
	c.hash("join token", u.Hash)
	c.hash("holder", u.Holder)
	c.text("address", u.From, MaxLine)
	return c.err
}
