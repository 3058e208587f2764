package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/steering"
)

// sitePath names a site.
type sitePath struct {
	Site protocol.SiteID `path:"site" maxLength:"128"`
}

// explainSite says what a site offers, what is launched there, and why no more. The
// numbers of the record are those of now, those of the batch system of its last pass.
func (s *Server) explainSite(_ context.Context, in *sitePath) (*body[protocol.SiteExplanation], error) {
	reply := protocol.SiteExplanation{Site: in.Site, State: "active", Shapes: []protocol.ShapeExplanation{}}
	say := func(format string, args ...any) { reply.Lines = append(reply.Lines, fmt.Sprintf(format, args...)) }
	seen := s.passes.of(in.Site)
	var known bool
	var nearest string
	s.Record.Read(func(m *state.Machine) {
		var site state.Site
		if site, known = m.Site(in.Site); !known {
			var names []string
			for x := range m.Sites() {
				names = append(names, string(x.ID))
			}
			if nearest = steering.Nearest(string(in.Site), names); nearest != "" {
				nearest = "; did you mean " + nearest + "?"
			}
			return
		}
		switch {
		case site.Revoked:
			reply.State = "revoked"
			say("an operator revoked this site: nothing is launched, and its pilots are turned away")
		case m.Shut(in.Site) != "":
			reply.State = standingOf(&site)
			say("nothing is launched: %s", m.Shut(in.Site))
		}
		if site.Policy != nil {
			say("it has a policy of its own: floe site orders %s -o json shows it", in.Site)
		}
		say("%d pilots registered, %d pilot jobs launched that have not registered, %d tasks leased", site.Pilots, site.Launches, site.Leases)
		if seen != nil {
			kinds := seen.kinds()
			pressures := m.Pressure(in.Site, kinds, seen.room)
			for i := range kinds {
				reply.Shapes = append(reply.Shapes, explainShape(&seen.shapes[i], &pressures[i], m.Time()))
			}
		}
		for i := range site.Shapes {
			if x := &site.Shapes[i]; !hasShape(reply.Shapes, x.Name) {
				e := protocol.ShapeExplanation{Name: x.Name, Lines: []string{"the last pass that this coordinator heard of did not offer it"}}
				countShape(&e, x, m.Time())
				reply.Shapes = append(reply.Shapes, e)
			}
		}
	})
	if !known {
		return nil, protocol.Errorf(protocol.CodeNotFound, "no site %s%s", in.Site, nearest)
	}
	if seen == nil {
		say("no pass was heard of since this coordinator leads: cron at the site runs floe glidein, which says what is offered")
	} else {
		reply.LastPass = seen.at.UnixMilli()
		ago := time.Since(seen.at).Round(time.Second)
		say("the last pass was %v ago, by floe %s", ago, seen.version)
		if ago > staleAfter {
			say("that is long: look at cron there, or run floe glidein by hand and read what it says")
		}
		if seen.bound != "" {
			say("it had room for %d more pilot jobs in all, by %s", seen.room, seen.bound)
		}
	}
	return &body[protocol.SiteExplanation]{reply}, nil
}

// staleAfter is how long ago a pass may be that is made every few minutes.
const staleAfter = 30 * time.Minute

func hasShape(all []protocol.ShapeExplanation, name string) bool {
	return slices.ContainsFunc(all, func(x protocol.ShapeExplanation) bool { return x.Name == name })
}

func explainShape(shape *protocol.LaunchShape, x *state.Pressure, now state.RecordTime) protocol.ShapeExplanation {
	offer := shape.Offer
	e := protocol.ShapeExplanation{
		Name: shape.Name, Offer: &offer, Running: shape.Running, Queued: shape.Queued, Held: shape.Held,
		Room: shape.Room, Bound: shape.Bound, BatchError: shape.BatchError,
		Fit: x.Fit, Left: x.Left, Coming: x.Coming, Waiting: x.Waiting, Wanted: x.Wanted,
	}
	countShape(&e, &x.Shape, now)
	say := func(format string, args ...any) { e.Lines = append(e.Lines, fmt.Sprintf(format, args...)) }
	switch {
	case x.Fit == 0:
		say("no queued task fits%s", sayLacks(x))
	case x.Left == 0:
		say("%d queued tasks fit; pilots that come or had no task yet will take them", x.Fit)
	case x.Wanted == 0:
		say("%d queued tasks fit; pilot jobs of other shapes suit them better", x.Fit)
	case x.Grant > 0:
		say("%d queued tasks fit; the next pass will be given %d of %d pilot jobs wanted for them", x.Fit, x.Grant, x.Wanted)
	default:
		say("%d queued tasks fit, %d more pilot jobs are wanted for them, none can be launched", x.Fit, x.Wanted)
	}
	if x.Wanted > x.Grant {
		switch {
		case shape.BatchError != "":
			say("the batch system does not answer: %s", shape.BatchError)
		case uint64(shape.Room) <= x.Grant:
			say("the caps of the site leave room for %d (%s)", shape.Room, shape.Bound)
		case uint64(x.Shape.Left(now)) <= x.Grant:
			say("pilot jobs must prove themselves first: %s", sayAllowance(&x.Shape, now))
		default:
			say("the caps over all shapes of the site leave no room for more")
		}
	}
	if lost := x.Shape.Died + x.Shape.Refused + x.Shape.Vain; lost > 0 {
		say("of %d pilot jobs %d got a task, %d died before, %d were refused, %d left in vain; the last one: %s",
			x.Shape.Launched, x.Shape.Proven, x.Shape.Died, x.Shape.Refused, x.Shape.Vain, x.Shape.Reason)
	}
	return e
}

// countShape adds what the record knows of a shape.
func countShape(e *protocol.ShapeExplanation, x *state.Shape, now state.RecordTime) {
	e.Allowance, e.Unproven = x.Allowance, x.Unproven
	e.Launched, e.Proven, e.Died, e.Refused, e.Vain = x.Launched, x.Proven, x.Died, x.Refused, x.Vain
	e.Reason, e.Failed = x.Reason, int64(x.Wall)
	if now < x.Next {
		e.NextProbe = int64((x.Next - now) / state.Second)
	}
}

// sayLaunch tells whether a pass would be asked for a pilot that could run a task, and
// of whose pilot jobs none would, what they lack.
func (s *Server) sayLaunch(m *state.Machine, e *state.Explanation, say func(string, ...any)) {
	sites, silent := 0, 0
	var lacking []string
	for x := range m.Sites() {
		if x.Revoked {
			continue
		}
		sites++
		seen := s.passes.of(x.ID)
		if seen == nil {
			silent++
			continue
		}
		for i := range seen.shapes {
			shape := &seen.shapes[i]
			lack, _ := state.Fits(&e.Asked, &e.Sites, x.ID, &shape.Offer)
			switch {
			case refuses(e, x.ID):
				// It is said why.
			case lack == state.LackNothing:
				say("the next pass of site %s will be asked for a pilot job of shape %s; floe explain site %[1]s says how many, and what keeps them", x.ID, shape.Name)
				return
			default:
				lacking = append(lacking, fmt.Sprintf("pilot jobs of site %s, shape %s, lack: %v", x.ID, shape.Name, lack))
			}
		}
	}
	lacking = slices.Compact(lacking)
	switch {
	case sites == 0:
		say("no site has joined that could launch one: floe token create site NAME invites one")
	case silent == sites:
		say("this coordinator has heard of no pass of a site since it leads: nobody knows yet whether one would launch a pilot for it")
	default:
		say("no site would launch a pilot for it")
		if silent > 0 {
			say("%d of %d sites have made no pass that this coordinator heard of", silent, sites)
		}
	}
	for _, line := range lacking[:min(len(lacking), maxLacking)] {
		say("%s", line)
	}
	if n := len(lacking) - maxLacking; n > 0 {
		say("and %d more that lack something", n)
	}
}

func refuses(e *state.Explanation, site protocol.SiteID) bool {
	return slices.ContainsFunc(e.Refusals, func(r state.SiteRefusal) bool { return r.Site == site })
}

// maxLacking bounds the lines on shapes that do not fit.
const maxLacking = 12
