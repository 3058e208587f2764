package server

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// put stores bytes as an attempt of a pilot does.
func (p *worker) put(l *protocol.Lease, class string, content []byte, change ...func(http.Header)) error {
	p.r.t.Helper()
	h := http.Header{}
	h.Set(headerTask, l.Task.String())
	h.Set(headerLease, l.ID.String())
	h.Set(headerPasskey, l.Passkey.Reveal())
	for _, c := range change {
		c(h)
	}
	target := "/v1/blobs/" + protocol.DigestOf(content).Hex() + "?class=" + class
	return transport.ResponseError(p.r.send(p.caller, h, "PUT", target, content))
}

func (r *rig) get(caller transport.Caller, d protocol.Digest) (string, error) {
	r.t.Helper()
	resp := r.send(caller, nil, "GET", "/v1/blobs/"+d.Hex(), nil)
	if err := transport.ResponseError(resp); err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestWhoMayStoreABlob(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ada := r.person("ada", "producer")
	r.submit(ada, 2, twoTasks)
	p, q := r.enrol("here"), r.enrol("here")
	mine, other := p.take(1)[0], q.take(1)[0]
	header := func(name, value string) func(http.Header) {
		return func(h http.Header) { h.Set(name, value) }
	}
	for _, test := range []struct {
		name   string
		lease  *protocol.Lease
		class  string
		change []func(http.Header)
		code   protocol.Code
	}{
		{"a temp file", &mine, "temp", nil, protocol.CodeOK},
		{"a log", &mine, "log", nil, protocol.CodeOK},
		{"an output", &mine, "output", nil, protocol.CodeOK},
		{"software", &mine, "durable", nil, protocol.CodeForbidden},
		{"no such class", &mine, "secret", nil, protocol.CodeBadRequest},
		{"a guessed passkey", &mine, "temp", []func(http.Header){header(headerPasskey, "guessed")}, protocol.CodeStale},
		{"no passkey", &mine, "temp", []func(http.Header){header(headerPasskey, "")}, protocol.CodeStale},
		{"for another pilot's lease", &other, "temp", nil, protocol.CodeStale},
		{"for another task", &mine, "temp", []func(http.Header){header(headerTask, other.Task.String())}, protocol.CodeStale},
		{"without a lease", &mine, "temp", []func(http.Header){header(headerLease, "")}, protocol.CodeBadRequest},
		{"without a task", &mine, "temp", []func(http.Header){header(headerTask, "1")}, protocol.CodeBadRequest},
	} {
		content := []byte("content of " + test.name)
		err := p.put(test.lease, test.class, content, test.change...)
		if protocol.CodeOf(err) != test.code {
			t.Errorf("put %s: %v, want %v", test.name, err, test.code)
		}
		got, err := r.get(p.caller, protocol.DigestOf(content))
		if test.code == protocol.CodeOK && got != string(content) || test.code != protocol.CodeOK && protocol.CodeOf(err) != protocol.CodeNotFound {
			t.Errorf("get %s afterwards = %q, %v", test.name, got, err)
		}
	}
	p.finish(&mine)
	if err := p.put(&mine, "temp", []byte("too late")); protocol.CodeOf(err) != protocol.CodeStale {
		t.Errorf("put for an ended lease: %v, want stale", err)
	}
	site := transport.Caller{Kind: transport.Site, Site: "here"}
	for who, caller := range map[string]transport.Caller{"a person": anonymous, "a site": site} {
		for class, want := range map[string]protocol.Code{"durable": protocol.CodeOK, "temp": protocol.CodeForbidden, "log": protocol.CodeForbidden} {
			content := []byte(who + class)
			header := ada
			if who == "a site" {
				header = nil
			}
			err := transport.ResponseError(r.send(caller, header, "PUT", "/v1/blobs/"+protocol.DigestOf(content).Hex()+"?class="+class, content))
			if protocol.CodeOf(err) != want {
				t.Errorf("%s puts class %s: %v, want %v", who, class, err, want)
			}
		}
	}
	if _, err := r.get(anonymous, protocol.DigestOf([]byte("content of a log"))); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("a stranger reads a blob: %v", err)
	}
}

func TestBytesThatAreNotTheirDigestAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	h := http.Header{}
	h.Set(headerTask, l.Task.String())
	h.Set(headerLease, l.ID.String())
	h.Set(headerPasskey, l.Passkey.Reveal())
	d := protocol.DigestOf([]byte("announced"))
	err := transport.ResponseError(r.send(p.caller, h, "PUT", "/v1/blobs/"+d.Hex()+"?class=temp", []byte("delivered")))
	if protocol.CodeOf(err) != protocol.CodeBadRequest {
		t.Errorf("put of other bytes: %v, want bad-request", err)
	}
	if _, err := r.get(p.caller, d); protocol.CodeOf(err) != protocol.CodeNotFound {
		t.Errorf("they are there: %v", err)
	}
	if err := transport.ResponseError(r.send(p.caller, h, "PUT", "/v1/blobs/nonsense?class=temp", []byte("x"))); protocol.CodeOf(err) != protocol.CodeBadRequest {
		t.Errorf("put of no digest: %v, want bad-request", err)
	}
}

// triplet is a leader with two peers that are coordinators themselves.
func triplet(t *testing.T) (leader, second, third *rig) {
	t.Helper()
	leader, second, third = newRig(t), newRig(t), newRig(t)
	leader.record.members = append(leader.record.members,
		protocol.Member{ID: "c2", Address: "c2.example:443", Voter: true}, protocol.Member{ID: "c3", Address: "c3.example:443", Voter: true})
	leader.peers.nodes["c2"], leader.peers.nodes["c3"] = second, third
	return leader, second, third
}

func (r *rig) holds(d protocol.Digest) bool {
	f, _, err := r.Blobs.Open(d)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

func TestBlobsAreCopiedBeforeTheyAreAcknowledged(t *testing.T) {
	t.Parallel()
	r, second, third := triplet(t)
	d := r.submit(r.person("ada", "producer"), 1, twoTasks)
	steering := protocol.DigestOf([]byte(twoTasks))
	copies := func(d protocol.Digest) (n int) {
		for _, x := range []*rig{r, second, third} {
			if x.holds(d) {
				n++
			}
		}
		return n
	}
	if n := copies(steering); n < 2 {
		t.Errorf("the steering document of dataset %d has %d copies, want a majority", d, n)
	}
	p := r.enrol("here")
	l := p.take(1)[0]
	if err := p.put(&l, "temp", []byte("with all")); err != nil || copies(protocol.DigestOf([]byte("with all"))) < 2 {
		t.Errorf("put: %v, copies %d", err, copies(protocol.DigestOf([]byte("with all"))))
	}
	r.peers.nodes["c2"] = nil
	if err := p.put(&l, "temp", []byte("with two")); err != nil || !third.holds(protocol.DigestOf([]byte("with two"))) {
		t.Errorf("put with one peer out of reach: %v", err)
	}
	r.peers.nodes["c3"] = nil
	if err := p.put(&l, "temp", []byte("alone")); protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Errorf("put with no peer in reach: %v, want unknown", err)
	}
	if err := r.ask(r.person("bob", "producer"), "POST", "/v1/datasets", protocol.SubmitRequest{Key: "12345678", Steering: twoTasks + "\n", Jobs: 1}, nil); protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Errorf("submit with no peer in reach: %v, want unknown", err)
	}
	r.peers.nodes["c2"] = second
	if err := p.put(&l, "temp", []byte("alone")); err != nil || !second.holds(protocol.DigestOf([]byte("alone"))) {
		t.Errorf("the same put again: %v", err)
	}
}

func TestABlobIsFetchedFromAPeer(t *testing.T) {
	t.Parallel()
	r, _, third := triplet(t)
	content := []byte("only there")
	d := protocol.DigestOf(content)
	ada := third.person("ada", "producer")
	if err := transport.ResponseError(third.send(anonymous, ada, "PUT", "/v1/blobs/"+d.Hex()+"?class=durable", content)); err != nil {
		t.Fatal(err)
	}
	r.do(&state.PutSite{Site: "here"})
	pilot := transport.Caller{Kind: transport.Pilot, Site: "here", Pilot: "p"}
	if got, err := r.get(pilot, d); err != nil || got != string(content) {
		t.Errorf("get = %q, %v", got, err)
	}
	r.peers.nodes["c3"] = nil
	if _, err := r.get(pilot, d); protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Errorf("get with its holder out of reach: %v, want unknown: it may be there", err)
	}
	// A peer that is asked asks nobody else.
	r.peers.asked = nil
	peer := transport.Caller{Kind: transport.Coordinator, Node: "c2"}
	resp := r.send(peer, http.Header{headerOwner: {"-"}}, "GET", "/v1/blobs/"+d.Hex(), nil)
	if err := transport.ResponseError(resp); protocol.CodeOf(err) != protocol.CodeNotFound || len(r.peers.asked) != 0 {
		t.Errorf("get by a peer: %v, asked %v", err, r.peers.asked)
	}
	r.peers.nodes["c3"] = third
	if resp := r.send(pilot, nil, "HEAD", "/v1/blobs/"+protocol.DigestOf([]byte("x")).Hex(), nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("HEAD of nothing = %d", resp.StatusCode)
	}
}

func TestTempFilesGoWhenTheirJobIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(r.person("ada", "producer"), 2, twoTasks)
		p := r.enrol("here")
		leases := p.take(2)
		for i := range leases {
			for _, class := range []string{"temp", "log"} {
				if err := p.put(&leases[i], class, fmt.Appendf(nil, "%s of job %d", class, i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		has := func(class string, job int) bool {
			return r.holds(protocol.DigestOf(fmt.Appendf(nil, "%s of job %d", class, job)))
		}
		for i := range leases {
			p.finish(&leases[i])
		}
		quiet(time.Second)
		if !has("temp", 0) || !has("temp", 1) {
			t.Error("temp files went before their readers had run")
		}
		child := p.take(1)[0]
		p.finish(&child)
		quiet(time.Second)
		if has("temp", 0) || !has("temp", 1) {
			t.Errorf("after job 0: its temp file there %v, the other job's %v; want false, true", has("temp", 0), has("temp", 1))
		}
		if !has("log", 0) {
			t.Error("the log of a finished job went with its temp files")
		}
	})
}

func TestTheStoreNeedsALeaderForPilotsItDoesNotKnow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	r.record.elect("c2")
	ahead := l
	ahead.ID.Index += 1000 // granted by the leader, not applied here
	if err := p.put(&ahead, "temp", []byte("x")); protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Errorf("put for a lease that a follower has not heard of: %v, want unknown", err)
	}
	if err := p.put(&l, "temp", []byte("x")); err != nil {
		t.Errorf("put at a follower: %v", err)
	}
}

func TestALargeBlobIsRefusedByItsClass(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	if err := p.put(&l, "log", bytes.Repeat([]byte("x"), 16<<20+1)); protocol.CodeOf(err) != protocol.CodeTooLarge || !strings.Contains(err.Error(), "log") {
		t.Errorf("put of a huge log: %v, want too-large", err)
	}
	r.do(&state.DrainPilot{Pilot: p.caller.Pilot})
	if err := p.put(&l, "log", []byte("last words")); err != nil {
		t.Errorf("put by a draining pilot: %v", err)
	}
}
