package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

// stream is a response that is read while it is written.
type stream struct {
	mu     sync.Mutex
	buffer bytes.Buffer // guarded by mu
	header http.Header
	done   chan struct{}
	cancel context.CancelFunc
}

func (s *stream) Header() http.Header { return s.header }
func (s *stream) WriteHeader(int)     {}
func (s *stream) Flush()              {}
func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffer.Write(b)
}

// read takes what has come since the last call.
func (s *stream) read() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.buffer.String()
	s.buffer.Reset()
	return text
}

// open begins a request and lets it go on in the background.
func (r *rig) open(who http.Header, target string) *stream {
	ctx, cancel := context.WithCancel(transport.WithCaller(r.t.Context(), anonymous))
	s := &stream{header: http.Header{}, done: make(chan struct{}), cancel: cancel}
	req := httptest.NewRequestWithContext(ctx, "GET", target, nil)
	req.Header = who.Clone()
	go func() {
		defer close(s.done)
		r.ServeHTTP(s, req)
	}()
	return s
}

func TestEventsComeAtOnceAndWithEachChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer")
		r.submit(ada, 2, twoTasks)
		r.submit(ada, 2, twoTasks)
		s := r.open(ada, "/v1/events?dataset=1")
		synctest.Wait()
		if text := s.read(); !strings.HasPrefix(text, "event: dataset\nid: ") || !strings.Contains(text, `"queued":2`) || s.header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("at first: %q", text)
		}
		quiet(time.Second)
		p := r.enrol("here")
		l := p.take(1)[0] // of dataset 1
		quiet(time.Second)
		if text := s.read(); strings.Count(text, "event: dataset") != 1 || !strings.Contains(text, `"processing":1`) {
			t.Errorf("after a lease: %q", text)
		}
		p.finish(&l)
		child := p.take(1)[0] // many changes within the pace are one event
		p.finish(&child)
		quiet(time.Second)
		if text := s.read(); strings.Count(text, "event: dataset") > 2 || !strings.Contains(text, `"ok":2`) {
			t.Errorf("after two tasks: %q", text)
		}
		r.mustAsk(ada, "POST", "/v1/datasets/2/actions", protocol.ActionRequest{Action: "suspend"}, nil)
		quiet(time.Second)
		if text := s.read(); text != "" {
			t.Errorf("after a change of another dataset: %q", text)
		}
		quiet(2 * keepAlive)
		if text := s.read(); !strings.Contains(text, ": alive\n\n") {
			t.Errorf("in a quiet time: %q", text)
		}
		r.record.elect("c2")
		<-s.done // the client comes back, to the new leader
		gone := r.open(ada, "/v1/events?dataset=1")
		gone.cancel()
		<-gone.done
	})
}

func TestEventsEndWhenTheClientGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer")
		r.submit(ada, 1, twoTasks)
		s := r.open(ada, "/v1/events?dataset=1")
		quiet(time.Second)
		s.cancel()
		<-s.done
		r.changes.mu.Lock()
		defer r.changes.mu.Unlock()
		if n := len(r.changes.listeners); n != 0 {
			t.Errorf("%d listeners are left", n)
		}
	})
}

// log reads a task's log from an offset.
func (r *rig) log(who http.Header, target string) (text string, resp *http.Response) {
	r.t.Helper()
	resp = r.send(anonymous, who, "GET", target, nil)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b), resp
}

func TestLogs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer")
		r.submit(ada, 1, twoTasks)
		p := r.enrol("here")
		l := p.take(1)[0]
		const target = "/v1/datasets/1/jobs/0/tasks/make/log"
		check := func(query, want, offset, live string) {
			t.Helper()
			text, resp := r.log(ada, target+query)
			if resp.StatusCode != http.StatusOK || text != want || resp.Header.Get("Floe-Offset") != offset || resp.Header.Get("Floe-Live") != live {
				t.Errorf("GET log%s = %d %q from %s, live %q; want %q from %s, live %q", query, resp.StatusCode, text,
					resp.Header.Get("Floe-Offset"), resp.Header.Get("Floe-Live"), want, offset, live)
			}
			if resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("a browser may take the log for %q", resp.Header.Get("Content-Type"))
			}
		}
		tail := func(offset int64, text string) {
			t.Helper()
			p.mustSpeak(protocol.ExchangeRequest{
				Held: []protocol.HeldLease{held(&l, protocol.PhaseRunning)}, Logs: []protocol.LogTail{{Lease: l.ID, Offset: offset, Data: []byte(text)}},
			})
		}
		check("", "", "0", "yes")
		tail(0, "first line\n")
		tail(0, "first line\n") // repeated
		check("", "first line\n", "0", "yes")
		check("?offset=6", "line\n", "6", "yes")
		check("?offset=11", "", "11", "yes")
		// A reader who waits gets what comes next, as soon as it comes.
		s := r.open(ada, target+"?offset=11&wait=60")
		quiet(10 * time.Second)
		if text := s.read(); text != "" {
			t.Errorf("before anything came: %q", text)
		}
		tail(11, "second line\n")
		<-s.done
		if text := s.read(); text != "second line\n" || s.header.Get("Floe-Offset") != "11" {
			t.Errorf("what a waiting reader got: %q from %s", text, s.header.Get("Floe-Offset"))
		}
		// Nobody else can write into it.
		q := r.enrol("here")
		q.mustSpeak(protocol.ExchangeRequest{Logs: []protocol.LogTail{{Lease: l.ID, Offset: 23, Data: []byte("forged\n")}}})
		check("?offset=11", "second line\n", "11", "yes")

		whole := []byte("first line\nsecond line\nlast line\n")
		if err := p.put(&l, "log", whole); err != nil {
			t.Fatal(err)
		}
		record := func(report *protocol.Report) {
			report.Log = protocol.LogRecord{Digest: protocol.DigestOf(whole), Size: protocol.ByteSize(len(whole))}
		}
		if codes := p.deliver(p.report(&l, protocol.VerdictNode, record)); codes[0] != protocol.CodeOK {
			t.Fatal(codes)
		}
		quiet(time.Second) // the ledger writes
		check("", string(whole), "0", "")
		check("?offset=23", "last line\n", "23", "")
		check("?offset=4000", "", "4000", "")

		// While the second attempt runs, its log is the newest, and the first is still there.
		l = p.take(1)[0]
		tail(0, "again\n")
		check("", "again\n", "0", "yes")
		check("?attempt=1&offset=23", "last line\n", "23", "")
		check("?attempt=2", "again\n", "0", "yes")
		for query, want := range map[string]int{"?attempt=3": http.StatusNotFound, "?offset=x": http.StatusUnprocessableEntity, "?wait=301": http.StatusUnprocessableEntity} {
			if _, resp := r.log(ada, target+query); resp.StatusCode != want {
				t.Errorf("GET log%s = %d, want %d", query, resp.StatusCode, want)
			}
		}
	})
}

func TestLaunches(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 14, twoTasks)
	r.enrol("here") // makes the site known; four are for it
	site := transport.Caller{Kind: transport.Site, Site: "here", Remote: remote}
	pass := func(request protocol.LaunchRequest) *protocol.LaunchReply {
		t.Helper()
		reply := new(protocol.LaunchReply)
		if err := r.callCBOR(site, "/v1/sites/launch", &request, reply); err != nil {
			t.Fatal(err)
		}
		return reply
	}
	shape := protocol.LaunchShape{Name: "small", Offer: protocol.Resources{Cores: 4}, Room: 2}
	first := pass(protocol.LaunchRequest{Shapes: []protocol.LaunchShape{shape}})
	if len(first.Grants) != 2 || len(first.Reasons) != 1 || !strings.Contains(first.Reasons[0], "room for 2") {
		t.Fatalf("ten more tasks, four cores each, room for two: %+v", first)
	}
	known := []protocol.KnownLaunch{{Launch: first.Grants[0].Launch, BatchID: "1"}, {Launch: first.Grants[1].Launch, BatchID: "2"}}
	shape.Room = 100
	second := pass(protocol.LaunchRequest{Shapes: []protocol.LaunchShape{shape}, Known: known})
	if len(second.Grants) != 1 {
		t.Errorf("with two on their way, %d more are granted, want 1: %v", len(second.Grants), second.Reasons)
	}
	// What was granted and never listed is granted again.
	third := pass(protocol.LaunchRequest{Shapes: []protocol.LaunchShape{shape}, Known: known})
	if len(third.Grants) != 1 || third.Grants[0].Launch == second.Grants[0].Launch {
		t.Errorf("after a lost answer: %+v", third.Grants)
	}
	ticket, err := protocol.ParseToken(first.Grants[0].Ticket)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := r.tryEnrol(ticket); err != nil || p.caller.Site != "here" {
		t.Errorf("enrol with a launch's ticket: %v", err)
	}
	if _, err := r.tryEnrol(ticket); err == nil {
		t.Error("another pilot enrolled with the same ticket")
	}
	known = append(known, protocol.KnownLaunch{Launch: "stranger", BatchID: "9"}, protocol.KnownLaunch{Launch: "running", BatchID: "10", Running: true})
	silent := shape
	silent.BatchError = "squeue: timed out"
	unseen := slices.Clone(known)
	for i := range unseen {
		unseen[i].Unseen, unseen[i].Running = true, false
	}
	reply := pass(protocol.LaunchRequest{Shapes: []protocol.LaunchShape{silent}, Known: unseen})
	if len(reply.Grants) != 0 || len(reply.Remove) != 0 {
		t.Errorf("while the batch system does not answer: %+v", reply)
	}
	reply = pass(protocol.LaunchRequest{Known: known, Ended: []protocol.EndedLaunch{{Launch: first.Grants[1].Launch}}})
	if fmt.Sprint(reply.Remove) != fmt.Sprintf("[%s stranger]", first.Grants[1].Launch) {
		t.Errorf("remove %v, want the one that has ended and the one that nobody granted, not what runs", reply.Remove)
	}
	for name, request := range map[string]protocol.LaunchRequest{
		"shapes": {Shapes: make([]protocol.LaunchShape, protocol.MaxShapes+1)}, "reports": {Reports: make([]protocol.SignedReport, protocol.MaxReports+1)},
	} {
		if err := r.callCBOR(site, "/v1/sites/launch", &request, nil); protocol.CodeOf(err) != protocol.CodeTooLarge {
			t.Errorf("too many %s: %v, want too-large", name, err)
		}
	}
	site.Site = "nowhere"
	if err := r.callCBOR(site, "/v1/sites/launch", &protocol.LaunchRequest{}, nil); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("a site nobody knows: %v, want unauthorized", err)
	}
}

func TestASpooledReportComesWithAPass(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	for site, want := range map[protocol.SiteID]protocol.Code{"elsewhere": protocol.CodeStale, "here": protocol.CodeOK} {
		if site == "elsewhere" {
			r.enrol(site)
		}
		var reply protocol.LaunchReply
		request := &protocol.LaunchRequest{Reports: []protocol.SignedReport{p.report(&l, protocol.VerdictOK)}}
		if err := r.callCBOR(transport.Caller{Kind: transport.Site, Site: site}, "/v1/sites/launch", request, &reply); err != nil {
			t.Fatal(err)
		}
		if len(reply.Answers) != 1 || reply.Answers[0].Code != want {
			t.Errorf("through the pass of %s: %v, want %v", site, reply.Answers, want)
		}
	}
	if s := r.taskState(l.Task); s != protocol.TaskOK {
		t.Errorf("the task is %v", s)
	}
}
