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

// actOnSite suspends a site, resumes it, drains it, or bars it.
func (s *Server) actOnSite(ctx context.Context, in *siteActionInput) (*body[protocol.DoneReply], error) {
	by, id := actionOf(ctx, in.Body.Reason), in.Site
	var site state.Site
	var known bool
	s.Record.Read(func(m *state.Machine) { site, known = m.Site(id) })
	if !known {
		return nil, protocol.Errorf(protocol.CodeNotFound, "no site %s", id)
	}
	command := state.Command(&state.PutSite{By: by, Site: id, Description: site.Description, Suspended: in.Body.Action != "resume"})
	if in.Body.Action == "revoke" {
		command = &state.RevokeSite{By: by, Site: id}
	}
	if in.Body.Action == "resume" && site.Revoked {
		return nil, protocol.Errorf(protocol.CodeConflict, "site %s is revoked: it joins again with a new token (floe token create site %[1]s)", id)
	}
	a, err := s.propose(ctx, command)
	if err != nil {
		return nil, err
	}
	s.Logger.Info("site controlled", "site", id, "action", in.Body.Action, "user", by.Actor)
	switch in.Body.Action {
	case "resume":
		return done(&a, fmt.Sprintf("site %s gets pilots and tasks again; pilots that drain go on draining", id), fmt.Sprintf("site %s is not suspended", id)), nil
	case "suspend":
		return done(&a, fmt.Sprintf("site %s gets no more pilots and tasks; what runs may finish", id), fmt.Sprintf("site %s is suspended already", id)), nil
	case "revoke":
		reply := done(&a, fmt.Sprintf("site %s, its key and its pilots are barred; what ran there is queued again", id), fmt.Sprintf("site %s was revoked before", id))
		if reply.Body.Changed {
			reply.Body.Pilots, reply.Body.Leases = int(site.Pilots), int(site.Leases)
		}
		return reply, nil
	}
	n, err := s.drainPilots(ctx, by, id)
	if err != nil {
		return nil, err
	}
	reply := protocol.DoneReply{Changed: n > 0 || a.Reason == "", Pilots: n}
	reply.Detail = fmt.Sprintf("site %s gets no more pilots and tasks; %d pilots were told to finish what they hold and leave", id, n)
	return &body[protocol.DoneReply]{reply}, nil
}

// drainAtOnce is how many pilots are told together, so that they share entries.
const drainAtOnce = 256

// drainPilots tells every pilot of a site to drain, and how many there were. The
// site is suspended, so none is added meanwhile. Repeating it is safe.
func (s *Server) drainPilots(ctx context.Context, by state.Action, site protocol.SiteID) (n int, err error) {
	var commands []state.Command
	s.Record.Read(func(m *state.Machine) {
		for p := range m.Pilots("") {
			if p.Site == site && p.Left == 0 && !p.Draining {
				commands = append(commands, &state.DrainPilot{By: by, Pilot: p.ID})
			}
		}
	})
	for len(commands) > 0 {
		some := commands[:min(len(commands), drainAtOnce)]
		commands = commands[len(some):]
		for _, fate := range s.proposeAll(ctx, some) {
			switch refused := fate.refusal(); {
			case refused == nil:
				n++
			case protocol.CodeOf(refused) == protocol.CodeNotFound: // it has left meanwhile
			default:
				return n, refused
			}
		}
	}
	return n, nil
}
