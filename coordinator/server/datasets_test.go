package server

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/coordinator/state"
	"floe/protocol"
)

func TestSubmitListsEveryProblem(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bad := strings.NewReplacer("src: make.sh", "sorce: make.sh", "depends: [make]", "depends: [made]", "version: 3", "version: 3\nlabel: x").Replace(twoTasks)
	err := r.ask(r.person("ada", "producer"), "POST", "/v1/datasets", protocol.SubmitRequest{Key: "12345678", File: "bad.yaml", Steering: bad, Jobs: 1}, nil)
	var refused *protocol.Error
	if !errors.As(err, &refused) || refused.Code != protocol.CodeBadRequest {
		t.Fatalf("submit = %v, want bad-request", err)
	}
	for _, want := range []string{"sorce", "label"} {
		if n := strings.Count(strings.Join(refused.Details, "\n"), `"`+want+`"`); n != 1 {
			t.Errorf("%q is named %d times, want once:\n%s", want, n, strings.Join(refused.Details, "\n"))
		}
	}
	for _, line := range refused.Details {
		if !strings.HasPrefix(line, "bad.yaml:") {
			t.Errorf("problem without its place: %s", line)
		}
	}
	if next := r.nextDataset(); next != 1 {
		t.Errorf("a refused submission used up a number: next is %d", next)
	}
}

func (r *rig) nextDataset() (next protocol.DatasetID) {
	r.record.Read(func(m *state.Machine) { next = m.NextDataset() })
	return next
}

func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := r.record.Applied()
	ada := r.person("ada", "producer")
	before += 2 // the person and the token
	var reply protocol.SubmitReply
	r.mustAsk(ada, "POST", "/v1/datasets", protocol.SubmitRequest{Key: "12345678", Steering: twoTasks, Jobs: 10, DryRun: true}, &reply)
	if diff := cmp.Diff(protocol.SubmitReply{Jobs: 10, Tasks: 20}, protocol.SubmitReply{Dataset: reply.Dataset, Jobs: reply.Jobs, Tasks: reply.Tasks}); diff != "" {
		t.Errorf("dry run: %s", diff)
	}
	if after := r.record.Applied(); after != before || r.holds(protocol.DigestOf([]byte(twoTasks))) {
		t.Errorf("a dry run moved the record from %d to %d, or stored its document", before, after)
	}
}

func TestTheSameKeyIsTheSameDataset(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ada := r.person("ada", "producer")
	request := protocol.SubmitRequest{Key: "drawn by the client", Steering: twoTasks, Jobs: 3}
	var first, second, third protocol.SubmitReply
	r.mustAsk(ada, "POST", "/v1/datasets", request, &first)
	r.mustAsk(ada, "POST", "/v1/datasets", request, &second)
	request.Key = "drawn a second time"
	r.mustAsk(ada, "POST", "/v1/datasets", request, &third)
	if first.Dataset != 1 || second.Dataset != 1 || third.Dataset != 2 {
		t.Errorf("datasets %d, %d with the same key, %d with another", first.Dataset, second.Dataset, third.Dataset)
	}
}

func TestALostAnswerToASubmissionIsUnknownAndRepeatable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ada := r.person("ada", "producer")
	r.record.after = func(c state.Command) error {
		if _, is := c.(*state.SubmitDataset); is {
			return protocol.Errorf(protocol.CodeUnknown, "it may be committed")
		}
		return nil
	}
	request := protocol.SubmitRequest{Key: "drawn by the client", Steering: twoTasks, Jobs: 3}
	if err := r.ask(ada, "POST", "/v1/datasets", request, nil); protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Fatalf("submit = %v, want unknown", err)
	}
	r.record.after = nil
	var reply protocol.SubmitReply
	r.mustAsk(ada, "POST", "/v1/datasets", request, &reply)
	if reply.Dataset != 1 || r.nextDataset() != 2 {
		t.Errorf("the repetition made dataset %d, next is %d; want 1 and 2", reply.Dataset, r.nextDataset())
	}
}

// perDataset asks for as much memory as its dataset's number, in GB.
const perDataset = `version: 3
tasks:
  - name: make
    requirements: {memory: $(dataset)}
    trays: [{modules: [{src: make.sh}]}]
`

func TestADatasetThatLosesItsNumberIsCompiledAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ada := r.person("ada", "producer")
	raced := false
	r.record.before = func(c state.Command) error {
		submit, is := c.(*state.SubmitDataset)
		if !is || raced {
			return nil
		}
		raced = true
		rival := *submit
		rival.By = state.Action{Actor: "bob"}
		rival.Facts.Owner = "bob"
		r.do(&rival)
		return nil
	}
	if d := r.submit(ada, 1, perDataset); d != 2 {
		t.Fatalf("the slower submission is dataset %d, want 2", d)
	}
	var got protocol.Dataset
	r.mustAsk(ada, "GET", "/v1/datasets/2", nil, &got)
	if got.Owner != "ada" || got.Tasks[0].Requirements[0].Memory != 2*protocol.GB {
		t.Errorf("dataset 2 of %s asks for %v: it was compiled under another number", got.Owner, got.Tasks[0].Requirements[0].Memory)
	}
}

func TestAPreviewSaysWhatTheActionDoes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	op := r.person("op", "operator")
	r.submit(op, 4, twoTasks)
	p := r.enrol("here")
	leases := p.take(3)
	p.finish(&leases[0]) // job 0: make ok, use queued
	if codes := p.deliver(p.report(&leases[1], protocol.VerdictPayload)); codes[0] != protocol.CodeOK {
		t.Fatal(codes)
	}
	for _, action := range []protocol.ActionRequest{
		{Action: "suspend", Jobs: "3"},
		{Action: "resume", Jobs: "2-", Tasks: []string{"make"}},
		{Action: "reset", Tasks: []string{"make"}, States: []protocol.TaskState{protocol.TaskOK, protocol.TaskProcessing}},
		{Action: "suspend", States: []protocol.TaskState{protocol.TaskQueued}},
		{Action: "resume"},
		{Action: "priority", Value: 7},
		{Action: "retire"},
	} {
		action.Preview = true
		var preview, done protocol.ActionReply
		before := r.record.Applied()
		r.mustAsk(op, "POST", "/v1/datasets/1/actions", action, &preview)
		if preview.Applied || r.record.Applied() != before {
			t.Errorf("preview of %s was applied", action.Action)
		}
		action.Preview = false
		r.mustAsk(op, "POST", "/v1/datasets/1/actions", action, &done)
		preview.Applied = true
		if diff := cmp.Diff(preview, done); diff != "" {
			t.Errorf("%s %s %v %v (-preview +effect):\n%s", action.Action, action.Jobs, action.Tasks, action.States, diff)
		}
	}
}

func TestActionsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	op := r.person("op", "operator")
	r.submit(op, 4, twoTasks)
	for _, test := range []struct {
		target string
		body   any
		code   protocol.Code
		says   string
	}{
		{"/v1/datasets/9/actions", protocol.ActionRequest{Action: "reset"}, protocol.CodeNotFound, "9"},
		{"/v1/datasets/0/actions", protocol.ActionRequest{Action: "reset"}, protocol.CodeBadRequest, ""},
		{"/v1/datasets/1/actions", protocol.ActionRequest{Action: "explode"}, protocol.CodeBadRequest, ""},
		{"/v1/datasets/1/actions", protocol.ActionRequest{Action: "reset", Jobs: "3-9"}, protocol.CodeBadRequest, "jobs 0 to 3"},
		{"/v1/datasets/1/actions", protocol.ActionRequest{Action: "reset", Tasks: []string{"mkae"}}, protocol.CodeBadRequest, "make, use"},
		{"/v1/datasets/1/actions", map[string]any{"action": "reset", "states": []string{"eror"}}, protocol.CodeBadRequest, ""},
		{"/v1/datasets/1/actions", map[string]any{"action": "reset", "jbos": "1"}, protocol.CodeBadRequest, ""},
	} {
		err := r.ask(op, "POST", test.target, test.body, nil)
		if protocol.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.says) {
			t.Errorf("POST %s %+v: %v, want %v %q", test.target, test.body, err, test.code, test.says)
		}
	}
}

// pages follows a list to its end and returns the keys of its rows.
func pages[P any](t *testing.T, r *rig, who http.Header, target string, take func(*P) ([]string, string)) (keys []string, count int) {
	t.Helper()
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	for cursor := ""; ; {
		page := new(P)
		address := target + separator + "limit=2"
		if cursor != "" {
			address += "&cursor=" + cursor
		}
		r.mustAsk(who, "GET", address, nil, page)
		rows, next := take(page)
		if len(rows) > 2 {
			t.Errorf("GET %s: %d rows", address, len(rows))
		}
		keys, count = append(keys, rows...), count+1
		if cursor = next; cursor == "" || count > 20 {
			return keys, count
		}
	}
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	eve := r.person("eve", "viewer")
	ada, bob := r.person("ada", "producer"), r.person("bob", "producer")
	for i := range 5 {
		r.submit([]http.Header{ada, bob}[i%2], 5, twoTasks)
	}
	p := r.enrol("here")
	p.free.Cores = 64
	r.do(&state.PutSite{Site: "here"})
	leases := p.take(4) // of what it registered
	for i := range leases {
		p.finish(&leases[i], func(report *protocol.Report) {
			report.Outputs = []protocol.FileRecord{{
				Type: protocol.FilePermanent, Name: "out", URL: "http://x/out.floe-1", Published: fmt.Sprintf("http://x/out.%d", i), Digest: protocol.DigestOf([]byte("x")), Size: 1,
			}}
		})
	}
	datasets := func(p *protocol.DatasetPage) (keys []string, next string) {
		for _, d := range p.Datasets {
			keys = append(keys, fmt.Sprint(d.ID))
		}
		return keys, p.Next
	}
	jobs := func(p *protocol.JobPage) (keys []string, next string) {
		for _, j := range p.Jobs {
			keys = append(keys, fmt.Sprintf("%d", j.Index))
		}
		return keys, p.Next
	}
	tasks := func(p *protocol.TaskPage) (keys []string, next string) {
		for _, x := range p.Tasks {
			keys = append(keys, x.ID.String())
		}
		return keys, p.Next
	}
	outputs := func(p *protocol.OutputPage) (keys []string, next string) {
		for _, o := range p.Outputs {
			keys = append(keys, o.URL)
		}
		return keys, p.Next
	}
	check := func(target string, want, got []string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("GET %s by pages of two (-want +got):\n%s", target, diff)
		}
	}
	got, count := pages(t, r, eve, "/v1/datasets", datasets)
	check("/v1/datasets", []string{"5", "4", "3", "2", "1"}, got)
	if count != 3 {
		t.Errorf("five datasets in %d pages of two", count)
	}
	got, _ = pages(t, r, eve, "/v1/datasets?owner=bob", datasets)
	check("/v1/datasets?owner=bob", []string{"4", "2"}, got)
	got, _ = pages(t, r, eve, "/v1/datasets/5/jobs", jobs)
	check("/v1/datasets/5/jobs", []string{"0", "1", "2", "3", "4"}, got)
	got, _ = pages(t, r, eve, "/v1/datasets/5/jobs?state=ok", jobs)
	check("/v1/datasets/5/jobs?state=ok", nil, got)
	of := leases[0].Task.Dataset
	got, _ = pages(t, r, eve, fmt.Sprintf("/v1/datasets/%d/tasks?state=ok", of), tasks)
	var finished []string
	for _, l := range leases {
		if l.Task.Dataset == of {
			finished = append(finished, l.Task.String())
		}
	}
	slices.Sort(finished)
	check("tasks?state=ok", finished, got)
	got, _ = pages(t, r, eve, "/v1/datasets/5/tasks?task=use", tasks)
	check("/v1/datasets/5/tasks?task=use", []string{"5.0.1", "5.1.1", "5.2.1", "5.3.1", "5.4.1"}, got)
	got, _ = pages(t, r, eve, "/v1/datasets/5/tasks", tasks)
	if len(got) != 10 || got[0] != "5.0.0" || got[9] != "5.4.1" {
		t.Errorf("all tasks: %v", got)
	}
	var urls []string
	for d := 1; d <= 5; d++ {
		got, _ = pages(t, r, eve, fmt.Sprintf("/v1/datasets/%d/outputs", d), outputs)
		urls = append(urls, got...)
	}
	slices.Sort(urls)
	check("outputs", []string{"http://x/out.0", "http://x/out.1", "http://x/out.2", "http://x/out.3"}, urls)
	for _, target := range []string{"/v1/datasets?cursor=x", "/v1/datasets/5/jobs?cursor=-", "/v1/datasets/5/tasks?cursor=7", "/v1/datasets?limit=1001", "/v1/datasets/5/jobs?state=fine"} {
		if err := r.ask(eve, "GET", target, nil, nil); protocol.CodeOf(err) != protocol.CodeBadRequest {
			t.Errorf("GET %s: %v, want bad-request", target, err)
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	eve := r.person("eve", "viewer")
	r.submit(r.person("ada", "producer"), 2, twoTasks)
	for _, target := range []string{
		"/v1/datasets/2", "/v1/datasets/2/steering", "/v1/datasets/1/jobs/2", "/v1/datasets/1/jobs/0/tasks/mkae",
		"/v1/datasets/1/jobs/0/tasks/2", "/v1/datasets/1/jobs/9/tasks/make/log", "/v1/nothing", "/v1/events?dataset=3",
	} {
		if err := r.ask(eve, "GET", target, nil, nil); protocol.CodeOf(err) != protocol.CodeNotFound {
			t.Errorf("GET %s: %v, want not-found", target, err)
		}
	}
	if resp := r.send(anonymous, eve, "GET", "/v1/datasets/1/steering", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("GET steering = %d", resp.StatusCode)
	}
}

func TestExplainNamesTheReason(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	op := r.person("op", "operator")
	d := r.submit(op, 2, strings.Replace(twoTasks, "name: make", "name: make\n    requirements: {memory: 100}", 1))
	p := r.enrol("here")
	explain := func(task string) string {
		var e protocol.Explanation
		r.mustAsk(op, "GET", fmt.Sprintf("/v1/datasets/%d/jobs/0/tasks/%s/explain", d, task), nil, &e)
		return strings.Join(e.Lines, "\n")
	}
	if text := explain("make"); !strings.Contains(text, "100GB memory") || !strings.Contains(text, "none of 1 pilots") {
		t.Errorf("explain a task too large for all: %s", text)
	}
	if text := explain("use"); !strings.Contains(text, "waits for make") {
		t.Errorf("explain a waiting task: %s", text)
	}
	p.mustSpeak(protocol.ExchangeRequest{Want: 1})
	r.mustAsk(op, "POST", "/v1/datasets/1/actions", protocol.ActionRequest{Action: "suspend"}, nil)
	if text := explain("make"); !strings.Contains(text, "held") {
		t.Errorf("explain a task of a held dataset: %s", text)
	}
}
