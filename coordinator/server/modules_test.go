package server

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"floe/coordinator/blob"
	"floe/coordinator/fetch"
	"floe/coordinator/state"
	"floe/protocol"
)

// origin is a host of modules, /NAME.py each, that counts what it is asked.
type origin struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int // guarded by mu
	gone  bool           // guarded by mu
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	o := &origin{asked: map[string]int{}}
	o.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.asked[r.URL.Path]++
		if o.gone || strings.Contains(r.URL.Path, "missing") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "# %s\n", r.URL.Path)
	}))
	t.Cleanup(o.Close)
	return o
}

// fetches lets a server fetch from the origin.
func (o *origin) fetches(c *Config) {
	roots := x509.NewCertPool()
	roots.AddCert(o.Certificate())
	opened, _ := fetch.ParseNetworks([]string{"127.0.0.0/8"})
	c.Modules, _ = fetch.New(fetch.Config{Hosts: fetch.Hosts{strings.TrimPrefix(o.URL, "https://")}, Opened: opened, Roots: roots})
}

func (o *origin) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone = true
}

func (o *origin) count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[path]
}

// document has a task whose modules have these addresses below the origin.
func (o *origin) document(paths ...string) string {
	text := "version: 3\ntasks:\n  - name: make\n    trays:\n      - modules:\n"
	for _, p := range paths {
		text += fmt.Sprintf("          - {class: m.M, src: %q}\n", o.URL+"/"+p)
	}
	return text
}

// durable counts the blobs whose owner begins so.
func (r *rig) durable(prefix string) (n int) {
	r.t.Helper()
	infos, _, err := r.Blobs.List(blob.Durable, "", 10_000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, i := range infos {
		if strings.HasPrefix(i.Owner, prefix) {
			n++
		}
	}
	return n
}

func TestModulesAreFetchedAtSubmission(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	r := newRig(t, o.fetches)
	ada := r.person("ada", "producer")
	request := protocol.SubmitRequest{Key: "the-same-key", File: "x.yaml", Steering: o.document("a.py", "$(job).py", "a.py"), Jobs: 3}
	var first, again protocol.SubmitReply
	r.mustAsk(ada, "POST", "/v1/datasets", request, &first)
	for _, path := range []string{"/a.py", "/0.py", "/1.py", "/2.py"} {
		if n := o.count(path); n != 1 {
			t.Errorf("%s was fetched %d times, want once", path, n)
		}
	}
	var shown protocol.Dataset
	r.mustAsk(ada, "GET", fmt.Sprintf("/v1/datasets/%d", first.Dataset), nil, &shown)
	if len(shown.Modules) != 4 {
		t.Fatalf("dataset shows %d modules, want 4", len(shown.Modules))
	}
	for _, m := range shown.Modules {
		if !r.holds(m.Digest) || !strings.HasPrefix(m.Pinned, m.URL+"#sha256=") || m.Path == "" {
			t.Errorf("module %+v: its tarball is held: %v", m, r.holds(m.Digest))
		}
	}
	// The pilot is told where to find them.
	lease := r.enrol("mill").take(1)[0]
	pins, err := r.modulePins(t.Context(), lease.Modules)
	if err != nil || len(pins.Pins) != 4 {
		t.Errorf("the lease names %v: %v, %v", lease.Modules, pins, err)
	}
	// The answer is repeated without the origin, and what was declared is not asked for again.
	o.leave()
	r.mustAsk(ada, "POST", "/v1/datasets", request, &again)
	if again.Dataset != first.Dataset {
		t.Errorf("the same key gives dataset %d, before %d", again.Dataset, first.Dataset)
	}
	pinned := strings.TrimPrefix(shown.Modules[3].Pinned, o.URL+"/")
	r.submit(ada, 1, o.document(pinned))
	if n := o.count("/a.py"); n != 1 {
		t.Errorf("a.py was fetched %d times", n)
	}
}

func TestRefusedModulesLeaveNothing(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	r := newRig(t, o.fetches)
	ada := r.person("ada", "producer")
	before := r.record.Applied()
	err := r.ask(ada, "POST", "/v1/datasets", protocol.SubmitRequest{
		Key: "12345678", File: "x.yaml", Jobs: 1, Steering: o.document("a.py", "missing.py", "missing2.py") + "          - {src: \"https://example.org/x.py\"}\n",
	}, nil)
	var refused *protocol.Error
	if !errors.As(err, &refused) || refused.Code != protocol.CodeBadRequest || len(refused.Details) != 3 {
		t.Fatalf("submit = %v with %v, want bad-request with three details", err, refused)
	}
	for i, want := range []string{`x.yaml:7:31: error: module "m.M" of task "make": ` + o.URL + "/missing.py: not there", "x.yaml:8:", "x.yaml:9:19: error: module 3 of task \"make\": https://example.org/x.py: refused: example.org is not among the hosts"} {
		if !strings.HasPrefix(refused.Details[i], want) {
			t.Errorf("detail %d is %q, want %q…", i, refused.Details[i], want)
		}
	}
	r.mustAsk(ada, "POST", "/v1/datasets", protocol.SubmitRequest{Key: "12345679", Steering: o.document("a.py"), Jobs: 1, DryRun: true}, nil)
	if n, after := r.durable(""), r.record.Applied(); n != 0 || after != before {
		t.Errorf("a refused submission and a dry run left %d blobs and moved the record from %d to %d", n, before, after)
	}
	// Without a fetcher, and by the list of another cluster, nothing is asked.
	if err := newRig(t).ask(newRig(t).person("ada", "producer"), "POST", "/v1/datasets", protocol.SubmitRequest{Key: "12345678", Steering: o.document("a.py"), Jobs: 1}, nil); err == nil {
		t.Error("a server without a fetcher took external modules")
	}
}

func TestModulesWithoutADatasetAreSwept(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	r := newRig(t, o.fetches)
	ada := r.person("ada", "producer")
	r.submit(ada, 1, o.document("a.py"))
	kept := r.durable(modulesPrefix)
	r.record.before = func(state.Command) error { return protocol.Errorf(protocol.CodeUnknown, "lost") }
	request := protocol.SubmitRequest{Key: "12345678", Steering: o.document("b.py"), Jobs: 1}
	if err := r.ask(ada, "POST", "/v1/datasets", request, nil); protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Fatalf("submit = %v, want unknown", err)
	}
	// Its fate is unknown: whoever repeats it finds what is there.
	r.sweepModules(t.Context(), time.Now())
	if n := r.durable(modulesPrefix); n != kept+2 {
		t.Errorf("%d blobs of modules right after, want %d and a tarball and its list", n, kept)
	}
	r.sweepModules(t.Context(), time.Now().Add(2*sweepAfter))
	if n := r.durable(modulesPrefix); n != kept {
		t.Errorf("%d blobs of modules two hours later, want the %d of the dataset", n, kept)
	}
	r.record.before = nil
	r.mustAsk(ada, "POST", "/v1/datasets", request, nil)
}

// TestModulesNamedByTheDataset are fetched again under another number.
func TestModulesNamedByTheDataset(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	r := newRig(t, o.fetches)
	ada := r.person("ada", "producer")
	r.record.before = func(c state.Command) error {
		if s, ok := c.(*state.SubmitDataset); ok && s.Dataset == 1 {
			r.record.before = nil
			r.do(&state.SkipDatasets{By: state.Action{Actor: "ada"}, Next: 5})
		}
		return nil
	}
	id := r.submit(ada, 1, o.document("$(dataset).py"))
	var shown protocol.Dataset
	r.mustAsk(ada, "GET", fmt.Sprintf("/v1/datasets/%d", id), nil, &shown)
	if id != 5 || len(shown.Modules) != 1 || shown.Modules[0].URL != o.URL+"/5.py" {
		t.Errorf("dataset %d has %+v, want dataset 5 with 5.py", id, shown.Modules)
	}
}

func TestGrowingNeedsFetchedModules(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	r := newRig(t, o.fetches)
	ada := r.person("ada", "producer")
	grow := func(id protocol.DatasetID, from uint32) error {
		return r.ask(ada, "POST", fmt.Sprintf("/v1/datasets/%d/jobs", id), protocol.GrowRequest{Key: protocol.RandomText(10), From: from, Jobs: 2}, nil)
	}
	if err := grow(r.submit(ada, 0, o.document("a.py")), 0); err != nil {
		t.Errorf("one address for all jobs: %v", err)
	}
	if err := grow(r.submit(ada, 2, o.document("$eval($(job)//8).py")), 2); err != nil {
		t.Errorf("addresses that are there: %v", err)
	}
	err := grow(r.submit(ada, 2, o.document("$(job).py")), 2)
	if protocol.CodeOf(err) != protocol.CodeBadRequest || !strings.Contains(err.Error(), "2.py, which was not fetched") {
		t.Errorf("other addresses: %v", err)
	}
}
