package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// glider makes passes of a site.
type glider struct {
	*rig
	caller transport.Caller
	known  []protocol.KnownLaunch
}

func (r *rig) glider(site protocol.SiteID) *glider {
	r.do(&state.SetFormat{Format: state.Format})
	r.do(&state.PutSite{Site: site})
	return &glider{rig: r, caller: transport.Caller{Kind: transport.Site, Site: site, Remote: remote}}
}

// pass asks for shapes, with all that it was granted before, changed as it may be.
func (g *glider) pass(request protocol.LaunchRequest, shapes ...protocol.LaunchShape) *protocol.LaunchReply {
	g.t.Helper()
	request.Shapes, request.Known, request.Version = shapes, g.known, "1.0"
	reply := new(protocol.LaunchReply)
	if err := g.callCBOR(g.caller, "/v1/sites/launch", &request, reply); err != nil {
		g.t.Fatal(err)
	}
	for i, x := range reply.Grants {
		g.known = append(g.known, protocol.KnownLaunch{Launch: x.Launch, BatchID: fmt.Sprint(i)})
	}
	for _, l := range reply.Remove {
		g.known = slices.DeleteFunc(g.known, func(k protocol.KnownLaunch) bool { return k.Launch == l })
	}
	return reply
}

func shapeOf(name string, cores, room int) protocol.LaunchShape {
	return protocol.LaunchShape{Name: name, Offer: protocol.Resources{Cores: cores, Remaining: 86400}, Room: uint32(room), Bound: "max_queued"}
}

func said(reply *protocol.LaunchReply, what string) bool {
	return strings.Contains(strings.Join(reply.Reasons, "\n"), what)
}

func TestShapesOfAPassShareWhatIsWanted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.glider("here")
	r.submit(r.person("ada", "producer"), 20, twoTasks)
	reply := g.pass(protocol.LaunchRequest{Room: 4, Bound: "site.max_pilots"}, shapeOf("eight", 8, 10), shapeOf("one", 1, 3))
	count := map[string]int{}
	for _, x := range reply.Grants {
		count[x.Shape]++
	}
	if count["one"] != 3 || count["eight"] != 1 || !said(reply, "room for 4 in all, by site.max_pilots") {
		t.Errorf("granted %v: %v; want three of the shape that fits best, and one of the other within the caps", count, reply.Reasons)
	}
	if err := r.callCBOR(g.caller, "/v1/sites/launch", &protocol.LaunchRequest{Shapes: []protocol.LaunchShape{shapeOf("a", 1, 1), shapeOf("a", 2, 1)}}, nil); protocol.CodeOf(err) != protocol.CodeBadRequest {
		t.Errorf("two shapes of one name: %v", err)
	}
	if err := r.callCBOR(g.caller, "/v1/sites/launch", &protocol.LaunchRequest{Shapes: []protocol.LaunchShape{shapeOf("a b", 1, 1)}}, nil); protocol.CodeOf(err) != protocol.CodeBadRequest {
		t.Errorf("a shape whose name is none: %v", err)
	}
}

func TestPilotJobsThatDieCutWhatIsGranted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.glider("here")
	ada := r.person("ada", "producer")
	r.submit(ada, 100, twoTasks)
	first := g.pass(protocol.LaunchRequest{}, shapeOf("cpu", 1, 50))
	if len(first.Grants) != state.FirstAllowance || !said(first, "0 of at most 10 have yet to get their first task") {
		t.Fatalf("the first pass is granted %d: %v", len(first.Grants), first.Reasons)
	}
	var ended []protocol.EndedLaunch
	for _, x := range first.Grants {
		ended = append(ended, protocol.EndedLaunch{Launch: x.Launch, Reason: "no route to host"})
	}
	g.known = nil
	reply := g.pass(protocol.LaunchRequest{Ended: ended}, shapeOf("cpu", 1, 50))
	if len(reply.Grants) != 1 || !said(reply, "10 pilot jobs ended before a pilot was given a task: no route to host") {
		t.Errorf("after ten that died %d are granted: %v; want one probe, and why", len(reply.Grants), reply.Reasons)
	}
	ended = []protocol.EndedLaunch{{Launch: reply.Grants[0].Launch, How: protocol.LaunchRefused, Reason: "no such queue"}}
	g.known = nil
	reply = g.pass(protocol.LaunchRequest{Ended: ended}, shapeOf("cpu", 1, 50))
	if len(reply.Grants) != 0 || !said(reply, "the next is tried in 5m0s") || !said(reply, "1 pilot jobs refused by the batch system: no such queue") {
		t.Errorf("after the probe %d are granted: %v; want none for now", len(reply.Grants), reply.Reasons)
	}
	var e protocol.SiteExplanation
	r.mustAsk(ada, "GET", "/v1/sites/here/explain", nil, &e)
	if len(e.Shapes) != 1 {
		t.Fatalf("explained: %+v", e)
	}
	x := e.Shapes[0]
	if x.Died != 10 || x.Refused != 1 || x.Allowance != 1 || x.NextProbe != 300 || x.Reason != "no such queue" || x.Fit != 100 || x.Wanted != 100 || x.Offer.Cores != 1 {
		t.Errorf("explained: %+v", x)
	}
	if text := strings.Join(x.Lines, "\n"); !strings.Contains(text, "none can be launched") || !strings.Contains(text, "prove themselves first") || !strings.Contains(text, "10 died before, 1 were refused") {
		t.Errorf("explained: %s", text)
	}
	// A pilot that is given a task proves the next one.
	r.do(&state.Tick{})
	if err := r.ask(ada, "GET", "/v1/sites/heer/explain", nil, nil); protocol.CodeOf(err) != protocol.CodeNotFound || !strings.Contains(err.Error(), `did you mean "here"?`) {
		t.Errorf("a site that is none: %v", err)
	}
}

func TestPilotJobsThatNobodyWaitsForAreTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		g := r.glider("here")
		ada := r.person("ada", "producer")
		d := r.submit(ada, 6, twoTasks)
		if reply := g.pass(protocol.LaunchRequest{}, shapeOf("cpu", 1, 50)); len(reply.Grants) != 6 {
			t.Fatalf("granted %d: %v", len(reply.Grants), reply.Reasons)
		}
		g.known[0].Running = true
		r.mustAsk(ada, "POST", fmt.Sprintf("/v1/datasets/%d/actions", d), protocol.ActionRequest{Action: "suspend"}, nil)
		if reply := g.pass(protocol.LaunchRequest{}, shapeOf("cpu", 1, 50)); len(reply.Remove) != 0 {
			t.Errorf("%v are removed at once: %v; want none, work may come back", reply.Remove, reply.Reasons)
		}
		<-time.After(16 * time.Minute)
		r.do(&state.Tick{})
		g.known[1].Unseen = true
		reply := g.pass(protocol.LaunchRequest{}, shapeOf("cpu", 1, 50))
		if len(reply.Remove) != 4 || !said(reply, "4 that wait are removed") || slices.Contains(reply.Remove, g.known[0].Launch) || slices.Contains(reply.Remove, g.known[1].Launch) {
			t.Errorf("removed %v: %v; want the four that are seen to wait", reply.Remove, reply.Reasons)
		}
		r.mustAsk(ada, "POST", fmt.Sprintf("/v1/datasets/%d/actions", d), protocol.ActionRequest{Action: "resume"}, nil)
		if reply := g.pass(protocol.LaunchRequest{}, shapeOf("cpu", 1, 50)); len(reply.Grants) != 4 {
			t.Errorf("when the work is back %d are granted: %v; want four beside the two that are left", len(reply.Grants), reply.Reasons)
		}
	})
}

func TestPilotJobsThatRunAndNeverEnrol(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.glider("here")
	other := r.glider("there")
	r.submit(r.person("ada", "producer"), 3, twoTasks)
	g.pass(protocol.LaunchRequest{}, shapeOf("cpu", 1, 50))
	for i, seconds := range []protocol.Seconds{60, 1801, 1801} {
		g.known[i].Running, g.known[i].For = true, seconds
	}
	late := g.known[1].Launch
	token := protocol.LaunchID("of-another-cluster")
	g.known[2].Launch = token
	// Jobs of both sites stand in the list of their common account.
	other.known = slices.Clone(g.known[:1])
	if reply := other.pass(protocol.LaunchRequest{}); len(reply.Remove)+len(reply.Strays) != 0 || !said(reply, "1 pilot jobs here are of site here") {
		t.Errorf("the other site is told to remove %v, of strays %v: %v; want that it is not its own", reply.Remove, reply.Strays, reply.Reasons)
	}
	reply := g.pass(protocol.LaunchRequest{}, shapeOf("cpu", 1, 0))
	if !slices.Equal(reply.Remove, []protocol.LaunchID{late}) || !slices.Equal(reply.Strays, []protocol.LaunchID{token}) {
		t.Errorf("removed %v, strays %v: %v; want the one that never enrolled removed, the unknown one told", reply.Remove, reply.Strays, reply.Reasons)
	}
	if !said(reply, "1 pilot jobs ended before a pilot was given a task: it ran for more than 30m0s and no pilot enrolled") {
		t.Errorf("said: %v", reply.Reasons)
	}
}

func TestExplainSaysWhichSitesWouldLaunch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ada := r.person("ada", "producer")
	d := r.submit(ada, 1, strings.Replace(twoTasks, "  - name: make\n", "  - name: make\n    requirements: {tags: [far]}\n", 1))
	explain := func() string {
		t.Helper()
		var e protocol.Explanation
		r.mustAsk(ada, "GET", fmt.Sprintf("/v1/datasets/%d/jobs/0/tasks/make/explain", d), nil, &e)
		return strings.Join(e.Lines, "\n")
	}
	if text := explain(); !strings.Contains(text, "no site has joined") {
		t.Errorf("without a site: %s", text)
	}
	g := r.glider("here")
	if text := explain(); !strings.Contains(text, "heard of no pass") {
		t.Errorf("without a pass: %s", text)
	}
	g.pass(protocol.LaunchRequest{}, shapeOf("cpu", 8, 9))
	if text := explain(); !strings.Contains(text, "no site would launch a pilot for it") || !strings.Contains(text, "pilot jobs of site here, shape cpu, lack: tag") || strings.Contains(text, "the next pass") {
		t.Errorf("where no site advertises its tags: %s", text)
	}
	far := shapeOf("far", 1, 0)
	far.Offer.Tags = []string{"far"}
	g.pass(protocol.LaunchRequest{}, shapeOf("cpu", 8, 9), far)
	if text := explain(); !strings.Contains(text, "the next pass of site here will be asked for a pilot job of shape far") {
		t.Errorf("where one does: %s", text)
	}
	r.do(&state.PutSite{Site: "here", Suspended: true})
	if text := explain(); !strings.Contains(text, "site here is suspended") || strings.Contains(text, "the next pass") {
		t.Errorf("where that is suspended: %s", text)
	}
}
