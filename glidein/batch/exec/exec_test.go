package exec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func newSystem(t *testing.T, c Config) *System {
	t.Helper()
	s, err := New(batch.Tool{}, c)
	if err == nil {
		err = s.Ask(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPlugin(t *testing.T) {
	batchtest.Run(t, func(t *testing.T) batchtest.Target {
		f := batchtest.NewFake(t, 2)
		f.Install(t, dialect)
		return batchtest.Target{
			System: newSystem(t, Config{Command: []string{pluginName}}), Fake: f, Dialect: dialect,
			BadQueue: "nope", NeverID: "999999/0", Slots: 2, SharedDirectory: true,
		}
	})
}

// script is a plugin in sh that answers every verb alike.
func script(t *testing.T, body string) Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return Config{Command: []string{file}}
}

const good = `read -r r
case $r in
*'"verb":"properties"'*) echo '{"version": 1, "name": "mine", "lists": true}'; exit ;;
esac
`

func TestExitStatusIsTheClass(t *testing.T) {
	for status, want := range map[string]error{"1": batch.ErrTransient, "3": batch.ErrRefused, "4": batch.ErrUnknownJob, "75": batch.ErrTransient, "255": batch.ErrTransient} {
		s := newSystem(t, script(t, good+"echo 'Traceback (most recent call last):' >&2; echo 'KeyError: floe' >&2; echo '{}'; exit "+status+"\n"))
		err := s.Remove(t.Context(), "7")
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "KeyError: floe") || !strings.Contains(err.Error(), "remove: ") {
			t.Errorf("exit status %s: %v, want %v with the verb and the last line of stderr", status, err, want)
		}
	}
	s := newSystem(t, script(t, good+"exit 3\n"))
	if _, err := s.Status(t.Context(), nil); !errors.Is(err, batch.ErrTransient) {
		t.Errorf("status that is refused: %v, want ErrTransient too: unknown is not zero", err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for answer, want := range map[string]string{
		``:                          "nothing",
		`{}`:                        `"jobs": []`,
		`[]`:                        "cannot unmarshal array",
		`{"jobs": []`:               "cut",
		`{"jobs": []} {"jobs": []}`: "more than one",
		`{"jobs": [], "job": []}`:   `unknown field "job"`,
		`{"jobs": [{"id": "1", "name": "floe-a", "state": "done"}]}`:                    `"done": want queued, running, held or ended`,
		`{"jobs": [{"id": 1, "name": "floe-a", "state": "queued"}]}`:                    "jobs.id",
		`{"jobs": [{"id": "", "name": "floe-a", "state": "queued"}]}`:                   "printable text",
		`{"jobs": [{"id": "1\n2", "name": "floe-a", "state": "queued"}]}`:               "printable text",
		`{"jobs": [{"id": "1", "name": "floe-a", "state": "queued", "index": -1}]}`:     "index -1",
		`{"jobs": [{"id": "1", "name": "floe-a", "state": "queued", "since": 1.7e12}]}`: "seconds since 1970",
		`{"jobs": [{"id": "1", "name": "floe-a", "state": "queued", "sinceWhen": 1}]}`:  "sinceWhen",
		`Warning: Permanently added` + "\n" + `{"jobs": []}`:                            "invalid character",
	} {
		s := newSystem(t, script(t, good+"printf %s "+batch.Quote(answer)+"\n"))
		entries, err := s.Status(t.Context(), nil)
		if !errors.Is(err, batch.ErrTransient) || len(entries) != 0 || !strings.Contains(err.Error(), want) {
			t.Errorf("status answered by %s: %v, %v; want ErrTransient with %q", answer, entries, err, want)
		}
	}
	for answer, want := range map[string]string{
		`{"ids": []}`:         "1 jobs handed in, 0 ids",
		`{"ids": ["1", "2"]}`: "1 jobs handed in, 2 ids",
		`{"ids": [""]}`:       "printable text",
		`{"ids": ["1", "1"]}`: "the same",
	} {
		s := newSystem(t, script(t, good+"echo '"+answer+"'\n"))
		if ids, err := s.Submit(t.Context(), []batch.Job{{Launch: "a"}}, "/x"); !errors.Is(err, batch.ErrTransient) || len(ids) != 0 || !strings.Contains(err.Error(), want) {
			t.Errorf("submit answered by %s: %v, %v; want ErrTransient with %q", answer, ids, err, want)
		}
	}
	for answer, want := range map[string]string{
		`{}`:                                 "want an absolute path",
		`{"submit_file": "submit.sh"}`:       "want an absolute path",
		`{"submit_file": "/nowhere/submit"}`: "no such file",
	} {
		s := newSystem(t, script(t, good+"echo '"+answer+"'\n"))
		if file, err := s.WriteSubmitFile([]batch.Job{{Launch: "a"}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("write-submit-file answered by %s: %q, %v; want an error with %q", answer, file, err, want)
		}
	}
	for answer, want := range map[string]string{`{}`: "no version", `{"version": 2}`: "version 2, and this floe speaks 1", `{"version": 1, "max_array": -1}`: "max_array"} {
		s, err := New(batch.Tool{}, script(t, "echo '"+answer+"'\n"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Status(t.Context(), nil); !errors.Is(err, batch.ErrTransient) || !strings.Contains(err.Error(), want) || s.Properties().Name != "exec" {
			t.Errorf("properties answered by %s: %v, want ErrTransient with %q", answer, err, want)
		}
	}
}

// TestAnswerWithoutEnd is ended, with what it has started.
func TestAnswerWithoutEnd(t *testing.T) {
	s := newSystem(t, script(t, good+"yes | yes\n"))
	if entries, err := s.Status(t.Context(), nil); !errors.Is(err, batch.ErrTransient) || len(entries) != 0 || !strings.Contains(err.Error(), "more than 64 MiB") {
		t.Errorf("status that never ends: %v, %v; want ErrTransient that says how much is too much", entries, err)
	}
}

// TestRequest is what a plugin reads, to the letter.
func TestRequest(t *testing.T) {
	dir := t.TempDir()
	c := script(t, strings.Replace(good, "case", "printf '%s\\n' \"$r\" >>"+batch.Quote(dir)+"/log; case", 1)+
		"case $r in *'\"status\"'*) echo '{\"jobs\": []}' ;; *submit-file*) echo '{\"submit_file\": \""+dir+"\"}' ;; *) echo '{\"ids\": [\"7\"]}' ;; esac\n")
	c.Settings = map[string]any{"partition": "it's", "nice": 5}
	s := newSystem(t, c)
	jobs := []batch.Job{{
		Launch: "abc", Directory: "/d", Script: "/d/pilot.sh", Files: []string{"ticket"}, Cores: 2, Memory: 2 * protocol.GB, Disk: 1, GPUs: 1,
		Walltime: 90*time.Second + 1, Priority: -1, Queue: "long", Account: "ice", Directives: []string{"-x"},
	}}
	file, err := s.WriteSubmitFile(jobs)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := s.Submit(t.Context(), jobs, file)
	_, err2 := s.Status(t.Context(), []batch.Known{{ID: "7", Launch: "abc"}, {Launch: "abd", Index: 1}})
	if err := errors.Join(err1, err2, s.Remove(t.Context(), "7"), s.Clean(t.Context(), "7", "/d")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	const (
		settings = `"settings":{"nice":5,"partition":"it's"}`
		job      = `"jobs":[{"name":"floe-abc","directory":"/d","script":"/d/pilot.sh","files":["ticket"],"output":"output","cores":2,"memory":2000000000,"disk":1,"gpus":1,"walltime":91,"priority":-1,"queue":"long","account":"ice","directives":["-x"]}]`
	)
	want := `{"version":1,"verb":"properties",` + settings + `}
{"version":1,"verb":"write-submit-file",` + settings + `,` + job + `}
{"version":1,"verb":"submit",` + settings + `,` + job + `,"submit_file":"` + dir + `"}
{"version":1,"verb":"status",` + settings + `,"known":[{"id":"7","name":"floe-abc","index":0},{"id":"","name":"floe-abd","index":1}]}
{"version":1,"verb":"remove",` + settings + `,"id":"7"}
{"version":1,"verb":"clean",` + settings + `,"id":"7","directory":"/d"}
`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("requests (-want +got):\n%s", d)
	}
}

func TestServeRefusesWhatItCannotRead(t *testing.T) {
	for request, want := range map[string]string{
		``:                                    "nothing",
		`{"version": 2, "verb": "status"}`:    "version 2",
		`{"version": 1, "verb": "stat"}`:      `no verb "stat"`,
		`{"version": 1, "verb": "submit"}`:    "without jobs",
		`{"version": 1, "verb": "x", "y": 1}`: `unknown field "y"`,
		`{"version": 1, "verb": "submit", "jobs": [{"name": "mine", "directory": "/d", "script": "/s"}]}`:                     "none of floe's",
		`{"version": 1, "verb": "submit", "jobs": [{"name": "floe-a", "directory": "d", "script": "/s"}]}`:                    "absolute",
		`{"version": 1, "verb": "submit", "jobs": [{"name": "floe-a", "directory": "/d", "script": "/s", "walltime": 1e18}]}`: "walltime",
	} {
		var out, errout bytes.Buffer
		if exit := Serve(context.Background(), brain{}, strings.NewReader(request), &out, &errout); exit != ExitRefused || out.Len() > 0 || !strings.Contains(errout.String(), want) {
			t.Errorf("%s: exit status %d, %s, %s; want %d and %q", request, exit, &out, &errout, ExitRefused, want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"name":"tsp","max_array":100,"lists":true,"gpus":false,"walltime":true}`, `{"submit_file":"/d/submit.sh"}`, `{"ids":["1","2"]}`,
		`{"jobs":[{"id":"1","name":"floe-a","index":2,"state":"held","reason":"why","since":1795331032.5},{"id":"1","name":"floe-a","state":"queued"}]}`,
		`{"jobs":null}`, `{}`, ``, `{"ids":["\u0000"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, verb := range []string{VerbProperties, VerbWrite, VerbSubmit, VerbStatus, VerbRemove, VerbClean} {
			a, err := parse(verb, text)
			if (a == nil) != (err != nil) {
				t.Fatalf("%s: %v beside %v", verb, a, err)
			}
			if err != nil || verb != VerbStatus {
				continue
			}
			list, err := entries(*a.Jobs)
			seen := map[batch.JobID]bool{}
			for _, e := range list {
				if err != nil || seen[e.ID] || e.ID == "" || e.Launch == "" || e.State == 0 || e.Index < 0 {
					t.Fatalf("entries %+v, %v", list, err)
				}
				seen[e.ID] = true
			}
		}
	})
}

func FuzzRequest(f *testing.F) {
	r := Request{Version: Version, Verb: VerbSubmit, Jobs: wired([]batch.Job{{Launch: "a", Directory: "/d", Script: "/d/s", Files: []string{"t"}, Walltime: time.Hour}}), SubmitFile: "/d/f"}
	seed, err := json.Marshal(&r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"version":1,"verb":"status","known":[{"id":"1","name":"floe-a","index":0}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, jobs, err := readRequest(bytes.NewReader(text))
		if err != nil {
			return
		}
		for i := range jobs {
			if jobs[i].Launch == "" || !filepath.IsAbs(jobs[i].Directory) || jobs[i].Walltime < 0 {
				t.Fatalf("%s: job %+v", r.Verb, jobs[i])
			}
		}
		if (r.Verb == VerbSubmit || r.Verb == VerbWrite) && len(jobs) == 0 {
			t.Fatalf("%s without jobs", r.Verb)
		}
	})
}
