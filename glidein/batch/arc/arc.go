package arc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"floe/glidein/batch"
)

// System is one compute element.
type System struct {
	endpoint string
	link     func() (*link, error) // made at the first call, kept for the pass
}

// New returns the element at endpoint, such as https://ce.example.org:443/arex.
func New(endpoint string) (*System, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("queue.endpoint %q: want the URL of an ARC CE, such as https://ce.example.org:443/arex", endpoint)
	}
	return &System{strings.TrimSuffix(endpoint, "/"), sync.OnceValues(connect)}, nil
}

// Properties implements batch.System. The element enforces a walltime; the pilot
// is told it all the same, as not every system behind it says.
func (s *System) Properties() batch.Properties {
	return batch.Properties{Name: "arc", Lists: true, Sends: true}
}

// WriteSubmitFile implements batch.System: a job description in xRSL.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	j := &jobs[0]
	var b bytes.Buffer
	b.WriteString("&(executable=\"/bin/sh\")\n")
	set := func(name string, values ...string) {
		for i, v := range values {
			values[i] = word(v)
		}
		fmt.Fprintf(&b, " (%s=%s)\n", name, strings.Join(values, " "))
	}
	set("arguments", filepath.Base(j.Script))
	set("jobname", batch.JobName(j.Launch))
	set("stdout", batch.Output)
	set("stderr", batch.Output) // not join: it loses what goes to stderr
	b.WriteString(" (inputFiles=")
	for _, name := range uploads(j) {
		fmt.Fprintf(&b, "(%s \"\")", word(filepath.Base(name)))
	}
	fmt.Fprintf(&b, ")\n (outputFiles=(%s \"\"))\n", word(batch.Output))
	cores := max(1, j.Cores)
	set("count", fmt.Sprint(cores))
	if cores > 1 {
		set("countpernode", fmt.Sprint(cores))
	}
	if j.Memory > 0 { // megabytes for each of the slots
		set("memory", fmt.Sprint((int64(j.Memory)/int64(cores)+999_999)/1_000_000))
	}
	if j.Walltime > 0 {
		set("walltime", fmt.Sprintf("%d minutes", int64((j.Walltime+time.Minute-1)/time.Minute)))
	}
	if j.Priority != 0 { // from 0 to 100, and 50 when nothing is said
		set("priority", fmt.Sprint(min(100, max(0, 50+j.Priority))))
	}
	if j.Queue != "" {
		set("queue", j.Queue)
	}
	if j.Account != "" {
		set("project", j.Account)
	}
	for _, d := range j.Directives {
		fmt.Fprintf(&b, " %s\n", d)
	}
	return batch.SaveSubmitFile(jobs, "submit.xrsl", b.Bytes())
}

// word writes a string of xRSL: a quote in it is doubled.
func word(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// uploads are the files that go to the session directory.
func uploads(j *batch.Job) []string {
	files := []string{j.Script}
	for _, name := range j.Files {
		files = append(files, filepath.Join(j.Directory, name))
	}
	return files
}

var jobID = regexp.MustCompile(`^[A-Za-z0-9]+$`)

// Submit implements batch.System: the description first, then the files that it
// names. A job whose files cannot be uploaded is killed.
func (s *System) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	text, err := os.ReadFile(submitFile)
	if err != nil {
		return nil, fmt.Errorf("arc: submit: %w", err)
	}
	made, err := s.jobs(ctx, http.MethodPost, "?action=new", "application/rsl", text)
	if err != nil {
		return nil, err
	}
	if len(made) != 1 {
		return nil, fmt.Errorf("arc: %s: %w: one job handed in, %d answered", s.endpoint, batch.ErrTransient, len(made))
	}
	switch j := &made[0]; {
	case j.Code == "201" && j.ID != "":
	default: // 500 too: so it calls a queue that does not exist
		return nil, fmt.Errorf("arc: %s: %w: %s %s", s.endpoint, batch.ErrRefused, j.Code, j.Reason)
	}
	id := made[0].ID
	for _, name := range uploads(&jobs[0]) {
		if err := s.upload(ctx, id, name); err != nil {
			rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return nil, errors.Join(err, s.Remove(rest, batch.JobID(id)))
		}
	}
	return []batch.JobID{batch.JobID(id)}, nil
}

func (s *System) upload(ctx context.Context, id, name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("arc: submit: %w", err)
	}
	status, answer, err := s.call(ctx, http.MethodPut, "/"+id+"/session/"+url.PathEscape(filepath.Base(name)), "application/octet-stream", bytes.NewReader(b))
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("arc: %s: %w: upload of %s: HTTP status %d: %s", s.endpoint, batch.ErrTransient, filepath.Base(name), status, firstLine(answer))
	}
	return err
}

// perRequest bounds the jobs of one request.
const perRequest = 1000

// Status implements batch.System. What has ended is listed until it is cleaned.
func (s *System) Status(ctx context.Context, known []batch.Known) ([]batch.Entry, error) {
	listed, err := s.list(ctx)
	if err != nil {
		return nil, batch.Unknown(err)
	}
	names := map[string]string{}
	for _, k := range known {
		names[string(k.ID)] = batch.JobName(k.Launch)
	}
	var ids, strange []string
	seen := map[string]bool{}
	for _, j := range listed {
		if seen[j.ID] {
			continue // listed twice
		}
		seen[j.ID] = true
		ids = append(ids, j.ID)
		if names[j.ID] == "" {
			strange = append(strange, j.ID)
		}
	}
	for some := range slices.Chunk(strange, perRequest) {
		told, err := s.about(ctx, "info", some)
		if err != nil {
			return nil, batch.Unknown(err)
		}
		for _, j := range told {
			names[j.ID] = j.Info.Activity.Name
		}
	}
	var entries []batch.Entry
	for some := range slices.Chunk(ids, perRequest) {
		told, err := s.about(ctx, "status", some)
		if err != nil {
			return nil, batch.Unknown(err)
		}
		if len(told) < len(some) {
			return nil, fmt.Errorf("arc: %s: %w: asked about %d jobs, told of %d", s.endpoint, batch.ErrTransient, len(some), len(told))
		}
		for _, j := range told {
			launch, ours := batch.LaunchOf(names[j.ID])
			if !ours || j.Code == "404" {
				continue // another's, or cleaned since it was listed
			}
			state := stateOf(j.State)
			if state == 0 {
				return nil, fmt.Errorf("arc: %s: %w: job %s has the state %q, which is not known", s.endpoint, batch.ErrTransient, j.ID, j.State)
			}
			entries = append(entries, batch.Entry{ID: batch.JobID(j.ID), Launch: launch, State: state})
		}
	}
	return entries, nil
}

func stateOf(s string) batch.State {
	switch s {
	case "ACCEPTING", "ACCEPTED", "PREPARING", "PREPARED", "SUBMITTING", "QUEUING":
		return batch.Queued
	case "HELD":
		return batch.Held
	case "RUNNING", "EXITINGLRMS", "EXECUTED", "KILLING", "FINISHING":
		return batch.Running
	case "FINISHED", "FAILED", "KILLED", "WIPED":
		return batch.Ended
	}
	return 0
}

// Remove implements batch.System.
func (s *System) Remove(ctx context.Context, id batch.JobID) error { return s.tell(ctx, "kill", id) }

// Clean implements batch.System: what the job printed is fetched into directory,
// then the element forgets it.
func (s *System) Clean(ctx context.Context, id batch.JobID, directory string) error {
	if !jobID.MatchString(string(id)) {
		return fmt.Errorf("arc: clean %q: %w", id, batch.ErrUnknownJob)
	}
	if directory != "" {
		status, b, err := s.call(ctx, http.MethodGet, "/"+string(id)+"/session/"+batch.Output, "", nil)
		if err != nil {
			return err
		}
		if status == http.StatusOK { // otherwise it printed nothing, or never ran
			if err := os.WriteFile(filepath.Join(directory, batch.Output), b, 0o600); err != nil {
				return fmt.Errorf("arc: clean %s: %w", id, err)
			}
		}
	}
	return s.tell(ctx, "clean", id)
}

// tell gives one order for one job; A-REX takes it with 202 and obeys later.
func (s *System) tell(ctx context.Context, verb string, id batch.JobID) error {
	if !jobID.MatchString(string(id)) {
		return fmt.Errorf("arc: %s %q: %w", verb, id, batch.ErrUnknownJob)
	}
	told, err := s.about(ctx, verb, []string{string(id)})
	if err != nil {
		return err
	}
	for _, j := range told {
		switch {
		case strings.HasPrefix(j.Code, "2"):
			return nil
		case j.Code == "404":
			return fmt.Errorf("arc: %s %s: %w", verb, id, batch.ErrUnknownJob)
		default:
			return fmt.Errorf("arc: %s %s: %w: %s %s", verb, id, batch.ErrTransient, j.Code, j.Reason)
		}
	}
	return fmt.Errorf("arc: %s %s: %w: no answer about it", verb, id, batch.ErrTransient)
}
