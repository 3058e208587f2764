package server

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"floe/coordinator/blob"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// withLog is a report that a log goes along with.
func (p *worker) withLog(l *protocol.Lease, verdict protocol.Verdict, log string) protocol.SignedReport {
	p.r.t.Helper()
	signed := p.report(l, verdict, func(r *protocol.Report) {
		r.Log = protocol.LogRecord{Digest: protocol.DigestOf([]byte(log)), Size: protocol.ByteSize(len(log))}
	})
	signed.Log = []byte(log)
	return signed
}

// logOf is what people are shown of a task's log.
func (r *rig) logOf(t protocol.TaskID) (string, error) {
	r.t.Helper()
	resp := r.send(anonymous, r.person("vic", "viewer"), "GET", fmt.Sprintf("/v1/datasets/1/jobs/%d/tasks/%d/log", t.Job, t.Task), nil)
	if err := transport.ResponseError(resp); err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// TestALogGoesWithItsReport: it is kept before the report counts, and what cannot be
// kept keeps no report from counting.
func TestALogGoesWithItsReport(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 6, twoTasks)
	p := r.enrol("here")
	leases := p.take(4)
	mismatched := p.withLog(&leases[2], protocol.VerdictOK, "the one that it names")
	mismatched.Log = []byte("another one")
	codes := p.deliver(
		p.withLog(&leases[0], protocol.VerdictOK, "of the first"), p.withLog(&leases[1], protocol.VerdictNode, "of the second"), mismatched)
	for i, c := range codes {
		if c != protocol.CodeOK {
			t.Errorf("report %d: %v", i, c)
		}
	}
	for i, want := range []string{"of the first", "of the second"} {
		if got, err := r.logOf(leases[i].Task); err != nil || got != want {
			t.Errorf("log of %v = %q, %v; want %q", leases[i].Task, got, err, want)
		}
		if info, err := r.Blobs.Stat(protocol.DigestOf([]byte(want))); err != nil || info.Failed != (i == 1) || info.Owner != logOwner(leases[i].Task) {
			t.Errorf("it is kept as %+v, %v", info, err)
		}
	}
	if got, err := r.logOf(leases[2].Task); protocol.CodeOf(err) != protocol.CodeNotFound {
		t.Errorf("a log that is not the one its report names is shown as %q, %v", got, err)
	}
	if r.holds(protocol.DigestOf([]byte("another one"))) {
		t.Error("it was kept")
	}

	// Again, after the answer was lost; and for a lease that is not current any more.
	if codes := p.deliver(p.withLog(&leases[0], protocol.VerdictOK, "of the first")); codes[0] != protocol.CodeOK {
		t.Errorf("again: %v", codes[0])
	}
	stale := leases[3]
	r.do(&state.LeavePilot{Pilot: p.caller.Pilot, Verdict: protocol.VerdictLost})
	q := r.enrol("here")
	claimed := q.take(4) // all that is queued
	site := transport.Caller{Kind: transport.Site, Site: "here"}
	reply := protocol.LaunchReply{}
	if err := r.callCBOR(site, "/v1/sites/launch", &protocol.LaunchRequest{Reports: []protocol.SignedReport{p.withLog(&stale, protocol.VerdictOK, "of nobody")}}, &reply); err != nil {
		t.Fatal(err)
	}
	if len(reply.Answers) != 1 || reply.Answers[0].Code != protocol.CodeStale || r.holds(protocol.DigestOf([]byte("of nobody"))) {
		t.Errorf("a stale report is answered %+v, its log kept: %v", reply.Answers, r.holds(protocol.DigestOf([]byte("of nobody"))))
	}

	l := claimed[0]
	large := q.withLog(&l, protocol.VerdictOK, strings.Repeat("x", int(protocol.MaxReportLog)+1))
	if _, err := q.speak(protocol.ExchangeRequest{Reports: []protocol.SignedReport{large}}); protocol.CodeOf(err) != protocol.CodeTooLarge {
		t.Errorf("a log over the limit: %v, want too-large", err)
	}
	full, err := blob.Open(blob.Config{Dir: t.TempDir(), Logger: r.Logger, MinFree: 1 << 60})
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	r.Blobs = full
	if codes := q.deliver(q.withLog(&l, protocol.VerdictOK, "no room for it")); codes[0] != protocol.CodeOK {
		t.Errorf("with a full disk: %v, want the report to count", codes[0])
	}
	if got, err := r.logOf(l.Task); protocol.CodeOf(err) != protocol.CodeNotFound || !strings.Contains(err.Error(), "no log") {
		t.Errorf("its log = %q, %v, want none to be recorded", got, err)
	}
}

// TestLogsOfReportsAreCopied to one other coordinator, where one takes them.
func TestLogsOfReportsAreCopied(t *testing.T) {
	t.Parallel()
	r, second, third := triplet(t)
	r.submit(r.person("ada", "producer"), 4, twoTasks)
	p := r.enrol("here")
	leases := p.take(3)
	holds := func(x *rig, log string) bool { return x.holds(protocol.DigestOf([]byte(log))) }
	p.deliver(p.withLog(&leases[0], protocol.VerdictNode, "with all"))
	if copies := []bool{holds(r, "with all"), holds(second, "with all"), holds(third, "with all")}; !copies[0] || copies[1] == copies[2] {
		t.Errorf("copies: %v, want the leader's and one more", copies)
	}
	for _, x := range []*rig{second, third} {
		if i, err := x.Blobs.Stat(protocol.DigestOf([]byte("with all"))); err == nil && (!i.Failed || i.Owner != logOwner(leases[0].Task)) {
			t.Errorf("the copy is %+v", i)
		}
	}
	r.peers.nodes["c2"] = nil
	if codes := p.deliver(p.withLog(&leases[1], protocol.VerdictOK, "with two")); codes[0] != protocol.CodeOK || !holds(third, "with two") {
		t.Errorf("with one peer out of reach: %v, copied %v", codes, holds(third, "with two"))
	}
	r.peers.nodes["c3"] = nil
	if codes := p.deliver(p.withLog(&leases[2], protocol.VerdictOK, "alone")); codes[0] != protocol.CodeOK || !holds(r, "alone") {
		t.Errorf("with no peer in reach: %v, kept %v", codes, holds(r, "alone"))
	}
	stranger := protocol.LogsRequest{Logs: []protocol.StoredLog{{Owner: "task 1.0.0", Data: []byte("mine")}}}
	body, err := protocol.Marshal(stranger)
	if err != nil {
		t.Fatal(err)
	}
	if err := transport.ResponseError(r.send(p.caller, nil, "PUT", "/v1/coordinators/logs", body)); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("a pilot gives a coordinator's copies: %v, want forbidden", err)
	}
}
