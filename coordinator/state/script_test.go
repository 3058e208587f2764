package state

import (
	"slices"
	"strconv"
	"strings"

	"floe/protocol"
)

// command reads the command of a line of a script; nil where there is none of
// that name.
func (s *scenario) command() Command {
	by := Action{Actor: protocol.UserID(s.word("by")), Reason: s.word("why"), Key: s.word("key")}
	site := protocol.SiteID(s.word("site"))
	uses := uint32(max(1, s.number("uses")))
	expires := s.m.Time() + RecordTime(max(3600, s.number("expires")))*Second
	switch s.line.Cmd {
	case "submit":
		return s.submit(by)
	case "add-jobs":
		return &AddJobs{By: by, Dataset: s.dataset(), From: uint32(s.number("from")), Jobs: uint32(s.number("jobs"))}
	case "set":
		return s.set(by)
	case "reset":
		return &ResetTasks{By: by, Select: s.selection()}
	case "suspend":
		return &SuspendTasks{By: by, Select: s.selection()}
	case "resume":
		return &ResumeTasks{By: by, Select: s.selection()}
	case "skip":
		return &SkipDatasets{By: by, Next: protocol.DatasetID(s.number("next"))}
	case "site":
		return &PutSite{By: by, Site: protocol.SiteID(s.first()), Suspended: s.line.HasArg("suspended")}
	case "policy":
		return s.policy(by)
	case "opening":
		return &SetOpening{Site: protocol.SiteID(s.first()), Opening: s.opening()}
	case "order":
		return s.order(by)
	case "remove-site":
		return &RemoveSite{By: by, Site: protocol.SiteID(s.first())}
	case "revoke-site":
		return &RevokeSite{By: by, Site: protocol.SiteID(s.first())}
	case "ticket":
		return &PutTicket{By: by, Site: site, Hash: digestOf(s.first()), Uses: uses, Expires: expires}
	case "launch":
		return s.launches(site, expires)
	case "end-launch":
		return s.endLaunches(site)
	case "enrol":
		return s.enrolment()
	case "drain":
		return &DrainPilot{By: by, Pilot: protocol.PilotID(s.first()), Undo: s.line.HasArg("undo")}
	case "leave":
		return &LeavePilot{Pilot: protocol.PilotID(s.first()), Verdict: s.verdict(protocol.VerdictPreempted), Reason: s.word("why")}
	case "revoke-pilot":
		return &RevokePilot{By: by, Pilot: protocol.PilotID(s.first())}
	case "acquire":
		return s.acquisition()
	case "report":
		return s.report()
	case "expire":
		term := s.term
		if w := s.number("term"); w > 0 {
			term = uint64(w)
		}
		c := &Expire{Lease: s.lease(), Task: s.task(), Term: term}
		if name := s.word("saved"); name != "" {
			c.Saved = checkpointFile(name)
		}
		return c
	case "revive":
		return &Revive{Lease: s.lease(), Task: s.task()}
	case "user":
		return &PutUser{By: by, User: protocol.UserID(s.first()), Role: s.word("role")}
	case "remove-user":
		return &RemoveUser{By: by, User: protocol.UserID(s.first())}
	case "token":
		c := &PutToken{By: by, Hash: digestOf(s.first()), User: protocol.UserID(s.word("user")), Role: s.word("role")}
		if s.line.HasArg("expires") {
			c.Expires = expires
		}
		return c
	case "revoke-token":
		return &RevokeToken{By: by, Hash: digestOf(s.first())}
	case "invite":
		return &PutJoinToken{By: by, Hash: digestOf(s.first()), For: s.joins(), Name: s.word("name"), Uses: uses, Expires: expires}
	case "join":
		return &UseJoinToken{Hash: digestOf(s.first()), For: s.joins(), Holder: digestOf(s.word("holder"))}
	case "member":
		return &PutMember{Node: protocol.NodeID(s.first()), Address: s.word("address"), Raft: s.word("raft")}
	case "remove-member":
		return &RemoveMember{By: by, Node: protocol.NodeID(s.first())}
	case "exclude-node":
		at, host, _ := strings.Cut(s.first(), "/")
		c := &ExcludeNode{By: by, Site: protocol.SiteID(at), Host: host}
		if s.line.HasArg("gpus") {
			c.Part = NodeGPUs
		}
		return c
	case "release-node":
		at, host, _ := strings.Cut(s.first(), "/")
		return &ReleaseNode{By: by, Site: protocol.SiteID(at), Host: host}
	case "publisher":
		return &PutPublisher{By: by, User: protocol.UserID(s.word("user")), Key: publisherKey(s.first()), Certificate: []byte("certificate")}
	case "revoke-publisher":
		return &RevokePublisher{By: by, Key: publisherKey(s.first()), Retire: s.line.HasArg("retire")}
	case "publish":
		name, version, _ := strings.Cut(s.first(), "/")
		item := sampleBuild(by.Actor, name, version, s.word("platform"), s.word("content"))
		if w := s.word("cluster"); w != "" {
			item.Build.Cluster = w
		}
		if w := s.word("with"); w != "" {
			item.Key = publisherKey(w)
		}
		return &PublishSoftware{By: by, Item: item, Owner: protocol.UserID(s.word("owner")), Group: protocol.GroupID(s.word("group"))}
	case "retire-software":
		name, version, _ := strings.Cut(s.first(), "/")
		return &RetireSoftware{By: by, Name: name, Version: version, Platform: s.word("platform"), Undo: s.line.HasArg("undo")}
	case "release":
		c := &SetRelease{By: by, Back: s.line.HasArg("back"), Percent: uint8(s.number("percent"))}
		if !c.Back {
			c.Version = s.first()
		}
		for site := range strings.SplitSeq(s.word("to"), ",") {
			if site != "" {
				c.Sites = append(c.Sites, protocol.SiteID(site))
			}
		}
		return c
	case "checkpoint":
		return &Checkpoint{}
	case "format":
		return &SetFormat{By: by, Format: uint32(s.number("to"))}
	}
	return nil
}

func (s *scenario) joins() JoinKind {
	if s.line.HasArg("coordinator") {
		return JoinCoordinator
	}
	return JoinSite
}

func (s *scenario) verdict(standard protocol.Verdict) protocol.Verdict {
	w := s.word("verdict")
	if w == "" {
		return standard
	}
	var v protocol.Verdict
	if err := v.UnmarshalText([]byte(w)); err != nil {
		s.t.Fatalf("%s: %v", s.line.Pos, err)
	}
	return v
}

func (s *scenario) siteRule() SiteRule {
	var r SiteRule
	for _, w := range s.words("allowed") {
		r.Allowed = append(r.Allowed, protocol.SiteID(w))
	}
	for _, w := range s.words("excluded") {
		r.Excluded = append(r.Excluded, protocol.SiteID(w))
	}
	return r
}

// submit reads a line per task: name, then key=value. A job range in classes of
// memory, such as memory=0-4:2,5-9:8, makes classes.
func (s *scenario) submit(by Action) Command {
	c := submission(max(1, s.m.NextDataset()), uint32(s.number("jobs")), nil)
	if n := s.number("dataset"); n > 0 {
		c.Dataset = protocol.DatasetID(n)
	}
	c.By, c.Priority, c.Sites, c.Suspended = by, int(s.number("priority")), s.siteRule(), s.line.HasArg("suspended")
	if owner := s.word("owner"); owner != "" {
		c.Facts.Owner = protocol.UserID(owner)
	}
	c.Facts.Group = protocol.GroupID(s.word("group"))
	for _, line := range strings.Split(strings.TrimSpace(s.line.Input), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		t := TaskSpec{Name: fields[0]}
		r := protocol.Requirements{Cores: 1}
		classes := ""
		for _, f := range fields[1:] {
			key, value, _ := strings.Cut(f, "=")
			n, _ := strconv.Atoi(value)
			switch key {
			case "after":
				for p := range strings.SplitSeq(value, ",") {
					i := slices.IndexFunc(c.Tasks, func(t TaskSpec) bool { return t.Name == p })
					if i < 0 {
						s.t.Fatalf("%s: no task %s", s.line.Pos, p)
					}
					t.Parents = append(t.Parents, protocol.TaskIndex(i))
				}
			case "cores":
				r.Cores = n
			case "memory":
				if strings.Contains(value, ":") {
					classes = value
				} else {
					r.Memory = protocol.ByteSize(n) * protocol.GB
				}
			case "disk":
				r.Disk = protocol.ByteSize(n) * protocol.GB
			case "walltime":
				r.Walltime = protocol.Seconds(n)
			case "gpus":
				r.GPUs = n
			case "gpu-memory":
				r.GPUMemory = protocol.ByteSize(n) * protocol.GB
			case "or-cores":
				r.Alternatives = []protocol.Requirements{{Cores: n}}
			case "os":
				r.OS = []string{value}
			case "tags":
				r.Tags = strings.Split(value, ",")
			default:
				s.t.Fatalf("%s: %q", s.line.Pos, f)
			}
		}
		t.Classes = []Class{{Requirements: r}}
		if classes != "" {
			t.Classes = nil
			for part := range strings.SplitSeq(classes, ",") {
				jobs, memory, _ := strings.Cut(part, ":")
				n, _ := strconv.Atoi(memory)
				r.Memory = protocol.ByteSize(n) * protocol.GB
				list, err := protocol.ParseJobs(jobs, c.Jobs)
				if err != nil {
					s.t.Fatalf("%s: %v", s.line.Pos, err)
				}
				t.Classes = append(t.Classes, Class{r, list})
			}
		}
		c.Tasks = append(c.Tasks, t)
	}
	return c
}

func (s *scenario) set(by Action) Command {
	c := &SetDataset{By: by, Dataset: s.dataset()}
	switch s.word("verb") {
	case "suspend":
		c.Verb = DatasetSuspend
	case "resume":
		c.Verb = DatasetResume
	case "retire":
		c.Verb = DatasetRetire
	}
	if s.line.HasArg("priority") {
		p := int(s.number("priority"))
		c.Priority = &p
	}
	if s.line.HasArg("allowed") || s.line.HasArg("excluded") || s.line.HasArg("anywhere") {
		r := s.siteRule()
		c.Sites = &r
	}
	return c
}

// resources reads what a pilot has: cores, memory, disk, remaining, os, tags and
// gpus, each of which is ID:GB, with a ! before it where its self-test failed.
func (s *scenario) resources() protocol.Resources {
	r := protocol.Resources{
		Cores: int(s.number("cores")), Memory: s.size("memory"), Disk: s.size("disk"),
		Remaining: protocol.Seconds(s.number("remaining")), OS: s.word("os"), Tags: s.words("tags"),
	}
	for _, w := range s.words("gpus") {
		id, memory, _ := strings.Cut(w, ":")
		n, _ := strconv.Atoi(memory)
		r.GPUs = append(r.GPUs, protocol.GPU{ID: strings.TrimPrefix(id, "!"), Memory: protocol.ByteSize(n) * protocol.GB, Tested: !strings.HasPrefix(id, "!")})
	}
	return r
}

// enrolment enrols a pilot with a ticket or launch; with neither, a ticket is made.
func (s *scenario) enrolment() Command {
	pilot, site := protocol.PilotID(s.first()), protocol.SiteID(s.word("site"))
	c := &EnrolPilot{
		Pilot: pilot, Site: site, PublicKey: []byte("key of a pilot, which is 32 long"),
		Host: s.word("host"), Resources: s.resources(),
	}
	switch {
	case s.line.HasArg("launch"):
		c.Launch = protocol.LaunchID(s.word("launch"))
		c.TicketHash = digestOf(s.word("launch"))
	case s.line.HasArg("ticket"):
		c.TicketHash = digestOf(s.word("ticket"))
	default:
		c.TicketHash = digestOf("ticket of " + string(pilot))
		if _, known := s.m.Site(site); !known {
			s.do(protocol.CodeOK, &PutSite{Site: site})
		}
		s.do(protocol.CodeOK, &PutTicket{Site: site, Hash: c.TicketHash, Uses: 1, Expires: s.m.Time() + Hour})
	}
	if s.line.HasArg("other-key") {
		c.PublicKey = []byte("another key of it: also 32 long.")
	}
	return c
}

// acquisition asks for want leases, by default 1, with all the pilot has or what
// the line says.
func (s *scenario) acquisition() Command {
	pilot := protocol.PilotID(s.first())
	p, _ := s.m.Pilot(pilot)
	free := p.Resources
	if s.line.HasArg("cores") || s.line.HasArg("gpus") || s.line.HasArg("remaining") || s.line.HasArg("memory") {
		free = s.resources()
	}
	c := &Acquire{Pilot: pilot, Free: free, Want: uint16(max(1, s.number("want"))), Sequence: uint64(s.number("seq"))}
	if s.line.HasArg("ahead") {
		c.Ahead = &protocol.Ahead{Dataset: s.dataset(), Task: protocol.TaskIndex(s.number("task")), Count: uint16(s.number("ahead"))}
	}
	return c
}

// report reports the task's current lease, or the last one that pilot= had of it.
func (s *scenario) report() Command {
	task := s.task()
	l := Lease{ID: s.lease(), Task: task, Pilot: protocol.PilotID(s.word("pilot"))}
	if l.Pilot == "" {
		current, _ := s.m.Lease(task)
		l.Pilot = current.Pilot
	}
	v := s.verdict(protocol.VerdictOK)
	if v != protocol.VerdictOK {
		c := failure(&l, v)
		c.BadInput = s.word("bad")
		if name := s.word("saved"); name != "" {
			c.Outputs = []protocol.FileRecord{*checkpointFile(name)}
		}
		return c
	}
	c := success(&l)
	c.Cleaned = !s.line.HasArg("copied")
	if s.line.HasArg("permanent") {
		c.Outputs[0].Type = protocol.FilePermanent
	}
	return c
}
