package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// Launching is the answer to one pass, step by step: each looks at the record as the
// commands of the one before have left it. It makes the coordinators' view agree with
// what the pass saw in the batch system, and then says how many more are wanted.
type Launching struct {
	Site    protocol.SiteID
	Request *protocol.LaunchRequest
	seen    *passSeen
	failed  map[failure]int // launch leases that came to nothing

	pressures []state.Pressure
	removed   []uint64                   // surplus, by shape
	late      map[protocol.LaunchID]bool // ran for long, and no pilot enrolled
}

// failure is why launch leases came to nothing.
type failure struct {
	cause  state.EndCause
	reason string
}

// EnrolPatience is how long a pilot job may run before its pilot has enrolled.
const EnrolPatience = 30 * time.Minute

// Ends are the launch leases that end by what the pass tells: those it says have
// ended, those whose job runs for long and has not enrolled, and those that it does
// not list at all: their answer was lost, or they were not used. A site has one pass
// at a time, and its ledger holds a lease before its job is submitted, so what is
// not listed has no job.
func (p *Launching) Ends(m *state.Machine) []state.Command {
	if p.seen == nil {
		p.seen = seenOf(p.Request)
	}
	var ends endings
	p.late, p.failed = map[protocol.LaunchID]bool{}, map[failure]int{}
	told := make(map[protocol.LaunchID]bool, len(p.Request.Known)+len(p.Request.Ended))
	for i := range p.Request.Ended {
		e := &p.Request.Ended[i]
		told[e.Launch] = true
		if l, known := m.Launch(e.Launch); known && l.Site == p.Site {
			cause, reason := causeOf(e)
			ends.add(e.Launch, cause, reason)
			if cause != state.EndQuietly && m.Unproven(e.Launch) {
				p.failed[failure{cause, reason}]++
			}
		}
	}
	for i := range p.Request.Known {
		k := &p.Request.Known[i]
		told[k.Launch] = true
		if l, known := m.Launch(k.Launch); known && l.Site == p.Site && l.Pilot == "" && k.Running && k.For.Duration() > EnrolPatience {
			p.late[k.Launch] = true
			reason := fmt.Sprintf("it ran for more than %v and no pilot enrolled", EnrolPatience)
			ends.add(k.Launch, state.EndDied, reason)
			p.failed[failure{state.EndDied, reason}]++
		}
	}
	for l := range m.Launches() {
		if l.Site == p.Site && l.Pilot == "" && !told[l.ID] {
			ends.add(l.ID, state.EndQuietly, "the site has no pilot job for it")
		}
	}
	return ends.commands(p.Site, false)
}

// causeOf is how an end that a pass tells of is held against the shape.
func causeOf(e *protocol.EndedLaunch) (state.EndCause, string) {
	reason := cut(e.Reason, protocol.MaxEvidence)
	switch e.How {
	case protocol.LaunchGone:
		if reason == "" {
			reason = "its pilot job is gone"
		}
		return state.EndDied, reason
	case protocol.LaunchRefused:
		return state.EndRefused, reason
	}
	return state.EndQuietly, reason
}

// endings gathers launch leases that end for the same reason.
type endings struct {
	all []*state.EndLaunches
}

// maxReasons is how many reasons are told apart in one pass.
const maxReasons = 16

func (e *endings) add(l protocol.LaunchID, cause state.EndCause, reason string) {
	for _, c := range e.all {
		same := c.Cause == cause && (c.Reason == reason || len(e.all) >= maxReasons)
		if same && len(c.Launches) < state.MaxLaunches {
			c.Launches = append(c.Launches, l)
			return
		}
	}
	e.all = append(e.all, &state.EndLaunches{Launches: []protocol.LaunchID{l}, Cause: cause, Reason: reason})
}

func (e *endings) commands(site protocol.SiteID, unused bool) (all []state.Command) {
	for _, c := range e.all {
		c.Site, c.Unused = site, unused
		all = append(all, c)
	}
	return all
}

// Surplus are the launch leases that no task waits for any more, of jobs that wait in
// the batch system and have done so for a while: the newest, which have come least
// far.
func (p *Launching) Surplus(m *state.Machine) []state.Command {
	p.pressures = m.Pressure(p.Site, p.seen.kinds(), 0)
	p.removed = make([]uint64, len(p.pressures))
	waits := make(map[protocol.LaunchID]bool, len(p.Request.Known))
	for i := range p.Request.Known {
		k := &p.Request.Known[i]
		waits[k.Launch] = !k.Running && !k.Unseen
	}
	var ends endings
	for i := range p.pressures {
		if p.pressures[i].Surplus == 0 {
			continue
		}
		var old []state.Launch
		for l := range m.Launches() {
			if l.Site == p.Site && l.Shape == p.seen.shapes[i].Name && l.Pilot == "" && waits[l.ID] && m.Time()-l.Granted >= state.Reservation {
				old = append(old, l)
			}
		}
		slices.SortStableFunc(old, func(a, b state.Launch) int { return int(b.Granted - a.Granted) })
		for _, l := range old[:min(uint64(len(old)), p.pressures[i].Surplus)] {
			p.removed[i]++
			ends.add(l.ID, state.EndQuietly, "no task waits for it any more")
		}
	}
	return ends.commands(p.Site, true)
}

// Remove lists the pilot jobs of which no launch lease is known: nobody would let
// their pilots in. One that runs is told of: its pilot has left and it is about to
// end by itself, or it is of another cluster. Those of other sites, which share the
// account at the batch system, are theirs.
func (p *Launching) Remove(m *state.Machine, reply *protocol.LaunchReply) {
	others := map[protocol.SiteID]int{}
	for i := range p.Request.Known {
		k := &p.Request.Known[i]
		l, known := m.Launch(k.Launch)
		switch {
		case known && l.Site != p.Site:
			others[l.Site]++
		case known || k.Unseen:
		case !k.Running || p.late[k.Launch]:
			reply.Remove = append(reply.Remove, k.Launch)
		default:
			reply.Strays = append(reply.Strays, k.Launch)
		}
	}
	for _, site := range slices.Sorted(maps.Keys(others)) {
		reply.Reasons = append(reply.Reasons, fmt.Sprintf("%d pilot jobs here are of site %s, which has the same account", others[site], site))
	}
}

// Grants reserves demand for as many pilot jobs as there is work for that nothing
// else will take; nil where that is none.
func (p *Launching) Grants(m *state.Machine, life time.Duration, ticket func() protocol.Token) (*state.GrantLaunches, []protocol.LaunchGrant) {
	kinds := p.seen.kinds()
	p.pressures = m.Pressure(p.Site, kinds, p.seen.room)
	command := &state.GrantLaunches{Site: p.Site}
	var grants []protocol.LaunchGrant
	for i := range p.pressures {
		for range p.pressures[i].Grant {
			t := ticket()
			command.Launches = append(command.Launches, state.NewLaunch{
				ID: protocol.LaunchID(t.ID), Shape: kinds[i].Name, Offer: kinds[i].Offer,
				TicketHash: t.Secret.Digest(), Expires: m.Time().After(protocol.SecondsOf(life)),
			})
			grants = append(grants, protocol.LaunchGrant{Launch: protocol.LaunchID(t.ID), Shape: kinds[i].Name, Ticket: t.Text()})
		}
	}
	if len(grants) == 0 {
		return nil, nil
	}
	return command, grants
}

// reasons say, per shape, why that many.
func (p *Launching) reasons(m *state.Machine) (all []string) {
	if why := m.Shut(p.Site); why != "" {
		all = append(all, "nothing launched: "+why)
	}
	if p.seen.bound != "" {
		all = append(all, fmt.Sprintf("room for %d in all, by %s", p.seen.room, p.seen.bound))
	}
	var failed []string
	for f, n := range p.failed {
		what := "ended before a pilot was given a task"
		if f.cause == state.EndRefused {
			what = "refused by the batch system"
		}
		failed = append(failed, fmt.Sprintf("%d pilot jobs %s: %s", n, what, f.reason))
	}
	slices.Sort(failed)
	all = append(all, failed[:min(len(failed), maxReasons)]...)
	for i := range p.pressures {
		line := sayPressure(&p.seen.shapes[i], &p.pressures[i], m.Time())
		if p.removed[i] > 0 {
			line += fmt.Sprintf("; %d that wait are removed", p.removed[i])
		}
		all = append(all, line)
	}
	return all
}

// sayPressure says in a line what is wanted of a shape, and why no more is launched.
func sayPressure(shape *protocol.LaunchShape, x *state.Pressure, now state.RecordTime) string {
	var b strings.Builder
	fmt.Fprintf(&b, "shape %s: ", shape.Name)
	if x.Fit == 0 {
		fmt.Fprintf(&b, "no queued task fits%s", sayLacks(x))
	} else {
		fmt.Fprintf(&b, "%d queued tasks fit", x.Fit)
	}
	if x.Coming+x.Waiting > 0 {
		fmt.Fprintf(&b, "; %d pilot jobs come, %d pilots had no task yet", x.Coming, x.Waiting)
	}
	if x.Fit > 0 {
		fmt.Fprintf(&b, "; %d tasks are left, %d more pilots wanted for them", x.Left, x.Wanted)
	}
	switch {
	case x.Shut != "":
		fmt.Fprintf(&b, "; nothing launched: %s", x.Shut)
		return b.String()
	case shape.BatchError != "":
		fmt.Fprintf(&b, "; nothing launched, the batch system does not answer")
		return b.String()
	case x.Wanted == 0:
		return b.String()
	}
	fmt.Fprintf(&b, "; room for %d", shape.Room)
	if shape.Bound != "" {
		fmt.Fprintf(&b, " by %s", shape.Bound)
	}
	if why := sayAllowance(&x.Shape, now); why != "" {
		b.WriteString("; " + why)
	}
	fmt.Fprintf(&b, "; granted %d", x.Grant)
	return b.String()
}

// sayAllowance says what bounds pilot jobs that have not proven themselves.
func sayAllowance(s *state.Shape, now state.RecordTime) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of at most %d have yet to get their first task", s.Unproven, s.Allowance)
	if lost := s.Died + s.Refused + s.Vain; lost > 0 {
		fmt.Fprintf(&b, " (%d came to nothing, the last one: %s)", lost, s.Reason)
	}
	if now < s.Next {
		fmt.Fprintf(&b, "; the next is tried in %v", time.Duration(int64((s.Next-now)/state.Second))*time.Second)
	}
	return b.String()
}

// sayLacks says what the shape lacks for the tasks that do not fit.
func sayLacks(x *state.Pressure) string {
	var words []string
	for lack, n := range x.Lacks {
		if n > 0 && state.Lack(lack) != state.LackNothing {
			words = append(words, fmt.Sprintf("%d lack %v", n, state.Lack(lack)))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return ": for " + strings.Join(words, ", ")
}
