package server

import (
	"context"
	"fmt"

	"floe/coordinator/state"
	"floe/protocol"
)

type pilotActionInput struct {
	Pilot protocol.PilotID `path:"pilot" maxLength:"128"`
	Body  protocol.PilotAction
}

// actOnPilot drains a pilot, takes that back, or bars it.
func (s *Server) actOnPilot(ctx context.Context, in *pilotActionInput) (*body[protocol.DoneReply], error) {
	by, id := actionOf(ctx, in.Body.Reason), in.Pilot
	var held int
	s.Record.Read(func(m *state.Machine) { held = len(m.PilotLeases(id)) })
	var command state.Command
	var changed, same string
	switch in.Body.Action {
	case "drain":
		command = &state.DrainPilot{By: by, Pilot: id}
		changed, same = fmt.Sprintf("pilot %s finishes the %d tasks it holds and leaves", id, held), fmt.Sprintf("pilot %s drains already", id)
	case "undrain":
		command = &state.DrainPilot{By: by, Pilot: id, Undo: true}
		changed, same = fmt.Sprintf("pilot %s gets tasks again, unless it has left", id), fmt.Sprintf("pilot %s does not drain", id)
	default:
		command = &state.RevokePilot{By: by, Pilot: id}
		changed, same = fmt.Sprintf("pilot %s is barred; its %d attempts have ended and their tasks are queued", id, held), fmt.Sprintf("pilot %s was barred before", id)
	}
	a, err := s.propose(ctx, command)
	if err != nil {
		return nil, err
	}
	s.Logger.Info("pilot controlled", "pilot", id, "action", in.Body.Action, "user", by.Actor)
	reply := done(&a, changed, same)
	if reply.Body.Changed {
		reply.Body.Pilots = 1
		if in.Body.Action == "revoke" {
			reply.Body.Leases = held
		}
	}
	return reply, nil
}

type siteActionInput struct {
	Site protocol.SiteID `path:"site" maxLength:"128"`
	Body protocol.SiteAction
}

// actOnSite gives a site an order, takes it back, or bars the site.
func (s *Server) actOnSite(ctx context.Context, in *siteActionInput) (*body[protocol.DoneReply], error) {
	by, id := actionOf(ctx, in.Body.Reason), in.Site
	var site state.Site
	var known bool
	s.Record.Read(func(m *state.Machine) { site, known = m.Site(id) })
	if !known {
		return nil, protocol.Errorf(protocol.CodeNotFound, "no site %s", id)
	}
	if site.Revoked && in.Body.Action != "revoke" {
		return nil, protocol.Errorf(protocol.CodeConflict, "site %s is revoked: it joins again with a new token (floe token create site %[1]s)", id)
	}
	order := &state.OrderSite{By: by, Site: id, Within: in.Body.Within}
	command := state.Command(order)
	if in.Body.Action == "revoke" {
		command = &state.RevokeSite{By: by, Site: id}
	} else if err := order.Order.UnmarshalText([]byte(in.Body.Action)); err != nil {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	a, err := s.propose(ctx, command)
	if err != nil {
		return nil, err
	}
	s.Logger.Info("site controlled", "site", id, "action", in.Body.Action, "user", by.Actor)
	say := func(changed, same string) *body[protocol.DoneReply] {
		return done(&a, "site "+string(id)+" "+changed, "site "+string(id)+" "+same)
	}
	if in.Body.Action == "revoke" {
		reply := say("is barred, with its key and its pilots; what ran there is queued again", "was revoked before")
		if reply.Body.Changed {
			reply.Body.Pilots, reply.Body.Leases = int(site.Pilots), int(site.Leases)
		}
		return reply, nil
	}
	changed, same := orderWords(order, &site)
	reply := say(changed, same)
	if reply.Body.Changed && order.Order > protocol.SitePause {
		reply.Body.Pilots = int(site.Pilots)
	}
	return reply, nil
}

// orderWords says in words what an operator's order does, and that it stood already.
func orderWords(o *state.OrderSite, site *state.Site) (changed, same string) {
	const soon = "; floe site orders shows who has taken it"
	switch o.Order {
	case protocol.SiteResume:
		switch {
		case site.Own != nil:
			changed = fmt.Sprintf("has no order from operators any more, but still the order to %v from its own people", site.Own.Kind)
		case site.Opening.Closed != "":
			changed = "has no order from operators any more, but is closed: " + site.Opening.Closed
		default:
			changed = "gets pilots and tasks again; pilots that drain go on draining"
		}
		return changed, "has no order from an operator"
	case protocol.SitePause:
		return "gets no more pilots and tasks; what runs may finish", "is paused already"
	case protocol.SiteDrain:
		return fmt.Sprintf("gets no more pilots and tasks; its %d pilots finish what they hold and leave%s", site.Pilots, soon), "drains already"
	case protocol.SiteReclaim:
		return fmt.Sprintf("gets no more pilots and tasks; its %d pilots have their tasks saved and queued again, and leave within %v%s", site.Pilots, o.Within.Duration(), soon), "was told so already"
	}
	return fmt.Sprintf("gets no more pilots and tasks; its %d pilots end what they hold, which is queued again, and leave%s", site.Pilots, soon), "was told to stop already"
}
