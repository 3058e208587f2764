package server

import (
	"slices"
	"strings"
	"testing"

	"floe/protocol"
	"floe/protocol/transport"
)

// A release goes to sites, to a part of the others, to all, and back; a pass is told.
func TestReleasesOfThePilot(t *testing.T) {
	t.Parallel()
	r := newCatalogRig(t)
	ada, operator := r.publisher("ada"), r.person("olga", "operator")
	callers := map[protocol.SiteID]transport.Caller{}
	for _, site := range []protocol.SiteID{"dale", "mill", "pond"} { // 17, 49 and 83 of 100
		callers[site], _ = r.joiner(site)
	}
	for _, version := range []string{"1.0", "1.1"} {
		ada.mustPublish(protocol.PilotSoftware, version, "linux-x86_64", "pilot "+version)
	}
	release := func(request protocol.ReleaseRequest) (protocol.DoneReply, error) {
		var reply protocol.DoneReply
		return reply, r.ask(operator, "POST", "/v1/releases", request, &reply)
	}
	told := func() (versions []string) {
		t.Helper()
		for _, site := range []protocol.SiteID{"dale", "mill", "pond"} {
			var reply protocol.LaunchReply
			if err := r.callCBOR(callers[site], "/v1/sites/launch", &protocol.LaunchRequest{}, &reply); err != nil {
				t.Fatal(err)
			}
			versions = append(versions, reply.Pilot)
		}
		return versions
	}
	for _, step := range []struct {
		request protocol.ReleaseRequest
		code    protocol.Code
		says    string
		want    []string
	}{
		{protocol.ReleaseRequest{Version: "1.00", Percent: 100}, protocol.CodeNotFound, `did you mean "1.0"?`, []string{"", "", ""}},
		{protocol.ReleaseRequest{Version: "1.0", Percent: 100}, protocol.CodeOK, "all 3 sites run 1.0", []string{"1.0", "1.0", "1.0"}},
		{protocol.ReleaseRequest{Version: "1.1", Sites: []protocol.SiteID{"mil"}}, protocol.CodeNotFound, `no site mil; did you mean "mill"?`, []string{"1.0", "1.0", "1.0"}},
		{protocol.ReleaseRequest{Version: "1.1", Sites: []protocol.SiteID{"pond", "pond"}}, protocol.CodeOK, "1 of 3 sites run 1.1", []string{"1.0", "1.0", "1.1"}},
		{protocol.ReleaseRequest{Version: "1.1", Percent: 20}, protocol.CodeOK, "2 of 3 sites run 1.1", []string{"1.1", "1.0", "1.1"}},
		{protocol.ReleaseRequest{Back: true}, protocol.CodeOK, "all 3 sites run 1.0", []string{"1.0", "1.0", "1.0"}},
		{protocol.ReleaseRequest{Version: "1.1", Percent: 100}, protocol.CodeOK, "all 3 sites run 1.1", []string{"1.1", "1.1", "1.1"}},
		{protocol.ReleaseRequest{Back: true}, protocol.CodeOK, "all 3 sites run 1.0", []string{"1.0", "1.0", "1.0"}},
		{protocol.ReleaseRequest{Back: true}, protocol.CodeConflict, "nothing was released before 1.0", []string{"1.0", "1.0", "1.0"}},
		{protocol.ReleaseRequest{Back: true, Version: "1.0"}, protocol.CodeBadRequest, "names no version", []string{"1.0", "1.0", "1.0"}},
	} {
		reply, err := release(step.request)
		said := reply.Detail
		if err != nil {
			said = err.Error()
		}
		if protocol.CodeOf(err) != step.code || !strings.Contains(said, step.says) {
			t.Errorf("release %+v: %v, %q; want %v and %q", step.request, err, said, step.code, step.says)
		}
		if got := told(); !slices.Equal(got, step.want) {
			t.Errorf("after %+v dale, mill and pond launch %q, want %q", step.request, got, step.want)
		}
	}
	if err := r.ask(ada.who, "POST", "/v1/releases", protocol.ReleaseRequest{Back: true}, nil); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("a producer releases: %v", err)
	}
	// What sites run is not retired.
	if err := r.ask(operator, "POST", "/v1/software/floe-pilot/1.0/actions", protocol.SoftwareAction{Action: "retire"}, nil); protocol.CodeOf(err) != protocol.CodeConflict {
		t.Errorf("retire what sites run: %v, want a conflict", err)
	}
	r.enrol("mill")
	var shown protocol.PilotReleases
	r.mustAsk(ada.who, "GET", "/v1/releases", nil, &shown)
	if shown.Stable != "1.0" || len(shown.Assigned) < 3 {
		t.Errorf("shown %+v", shown)
	}
	for _, s := range shown.Assigned {
		if s.Site == "mill" && (s.Share != 49 || s.Version != "1.0" || len(s.Running) != 1) {
			t.Errorf("of mill is shown %+v, want its share, its version and its pilot", s)
		}
	}
}
