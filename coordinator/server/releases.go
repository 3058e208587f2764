package server

import (
	"context"
	"fmt"
	"slices"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/steering"
)

// listReleases says which sites run which version of the pilot.
func (s *Server) listReleases(context.Context, *struct{}) (*body[protocol.PilotReleases], error) {
	reply := protocol.PilotReleases{Assigned: []protocol.SiteRelease{}}
	s.Record.Read(func(m *state.Machine) {
		running := map[protocol.SiteID]map[string]int{}
		for p := range m.Pilots("") {
			if p.Left != 0 {
				continue
			}
			if running[p.Site] == nil {
				running[p.Site] = map[string]int{}
			}
			running[p.Site][p.Version]++
		}
		r := m.PilotRelease()
		if r != nil {
			reply.Stable, reply.Before, reply.Tried = r.Stable, r.Before, r.Tried
			reply.Sites, reply.Percent, reply.Since = r.Sites, r.Percent, int64(r.Since)
		}
		for x := range m.Sites() {
			if !x.Revoked {
				reply.Assigned = append(reply.Assigned, protocol.SiteRelease{Site: x.ID, Share: x.ID.Share(), Version: r.Version(x.ID), Running: running[x.ID]})
			}
		}
	})
	return &body[protocol.PilotReleases]{reply}, nil
}

// setRelease gives a version of the pilot to sites, or takes it back.
func (s *Server) setRelease(ctx context.Context, in *struct{ Body protocol.ReleaseRequest }) (*body[protocol.DoneReply], error) {
	request := &in.Body
	sites := slices.Clone(request.Sites)
	slices.Sort(sites)
	command := &state.SetRelease{
		By: actionOf(ctx, request.Reason), Version: request.Version, Sites: slices.Compact(sites), Percent: request.Percent, Back: request.Back,
	}
	if err := command.Validate(); err != nil {
		return nil, err
	}
	var unknown error
	s.Record.Read(func(m *state.Machine) { unknown = releaseUnknown(m, command) })
	if unknown != nil {
		return nil, unknown
	}
	a, err := s.propose(ctx, command)
	if err != nil {
		return nil, err
	}
	what := ""
	s.Record.Read(func(m *state.Machine) { what = released(m) })
	s.Logger.Info("pilot released", "name", request.Version, "action", what, "user", command.By.Actor)
	return done(&a, what, a.Reason+": "+what), nil
}

// releaseUnknown says what a release names that there is not, and what is near.
func releaseUnknown(m *state.Machine, r *state.SetRelease) error {
	if r.Back {
		return nil
	}
	if len(m.SoftwareVersion(protocol.PilotSoftware, r.Version)) == 0 {
		return protocol.Errorf(protocol.CodeNotFound, "%s", unknownSoftware(m, protocol.PilotSoftware, r.Version))
	}
	var names []string
	for x := range m.Sites() {
		if !x.Revoked {
			names = append(names, string(x.ID))
		}
	}
	for _, site := range r.Sites {
		if slices.Contains(names, string(site)) {
			continue
		}
		text := fmt.Sprintf("no site %s", site)
		if near := steering.Nearest(string(site), names); near != "" {
			text += fmt.Sprintf("; did you mean %s?", near)
		}
		return protocol.Errorf(protocol.CodeNotFound, "%s", text)
	}
	return nil
}

// released says for people who has which version now.
func released(m *state.Machine) string {
	r := m.PilotRelease()
	if r == nil {
		return "no version is released"
	}
	tried, all := 0, 0
	for x := range m.Sites() {
		if x.Revoked {
			continue
		}
		all++
		if r.Tried != "" && r.Version(x.ID) == r.Tried {
			tried++
		}
	}
	stable := r.Stable
	if stable == "" {
		stable = "what they have"
	}
	if r.Tried == "" {
		return fmt.Sprintf("all %d sites run %s from their next pass on", all, stable)
	}
	return fmt.Sprintf("%d of %d sites run %s from their next pass on, the others %s", tried, all, r.Tried, stable)
}

// assigned is the version of the pilot that a site runs; empty is what it has.
func (s *Server) assigned(site protocol.SiteID) (version string) {
	s.Record.Read(func(m *state.Machine) { version = m.PilotRelease().Version(site) })
	return version
}
