package globus

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"floe/glidein/batch"

	"golang.org/x/sync/errgroup"
)

// System is one gatekeeper and one of its job managers.
type System struct {
	tool    batch.Tool
	contact string
}

var contactForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[A-Za-z0-9._-]+)?$`)

// New returns the job manager at contact, such as gram.example.org:2119/jobmanager-pbs.
func New(tool batch.Tool, contact string) (*System, error) {
	if !contactForm.MatchString(contact) {
		return nil, fmt.Errorf("queue.endpoint %q: want a contact of GRAM, such as gram.example.org:2119/jobmanager-pbs", contact)
	}
	tool.System = "globus"
	return &System{tool, contact}, nil
}

// Properties implements batch.System.
func (s *System) Properties() batch.Properties { return batch.Properties{Name: "globus"} }

// startScript is what the job runs. %[1]s is the name of its directory, %[2]s its
// files in base64, %[3]s the pilot's script. The pilot gets the signals of the job.
const startScript = `unset FLOE_START
umask 077
d=$HOME/.floe-jobs/%[1]s
mkdir -p "$d" && cd "$d" || exit 1
trap 'cd /; rm -rf "$d"' EXIT
put() { printf %%s "$2" | base64 -d >"$1" || exit 1; }
%[2]s
/bin/sh ./%[3]s </dev/null &
p=$!
trap 'kill $p' TERM INT HUP
wait $p; s=$?
[ $s -gt 128 ] && { wait $p; s=$?; }
exit $s
`

// WriteSubmitFile implements batch.System: a job description in RSL, which holds
// the ticket and so is the owner's alone.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	j := &jobs[0]
	var files strings.Builder
	for _, name := range append([]string{filepath.Base(j.Script)}, j.Files...) {
		b, err := os.ReadFile(filepath.Join(j.Directory, name))
		if err != nil {
			return "", fmt.Errorf("write submit file: %w", err)
		}
		fmt.Fprintf(&files, "put %s %s\n", batch.Quote(name), base64.StdEncoding.EncodeToString(b))
	}
	start := fmt.Sprintf(startScript, batch.JobName(j.Launch), files.String(), batch.Quote(filepath.Base(j.Script)))
	var b bytes.Buffer
	b.WriteString("&(executable=/bin/sh)\n")
	fmt.Fprintf(&b, " (arguments=%s %s)\n", word("-c"), word(`eval "$(printf %s "$FLOE_START" | base64 -d)"`))
	fmt.Fprintf(&b, " (environment=(FLOE_START %s))\n", word(base64.StdEncoding.EncodeToString([]byte(start))))
	// Where globus-job-get-output looks for it.
	for _, stream := range []string{"stdout", "stderr"} {
		fmt.Fprintf(&b, " (%s=x-gass-cache://$(GLOBUS_GRAM_JOB_CONTACT)%[1]s anExtraTag)\n", stream)
	}
	fmt.Fprintf(&b, " (jobType=single)\n (count=%d)\n", max(1, j.Cores))
	set := func(name string, value any) { fmt.Fprintf(&b, " (%s=%s)\n", name, word(fmt.Sprint(value))) }
	if j.Memory > 0 {
		set("maxMemory", (int64(j.Memory)+999_999)/1_000_000)
	}
	if j.Walltime > 0 {
		set("maxWallTime", int64((j.Walltime+time.Minute-1)/time.Minute))
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
	return batch.SaveSubmitFile(jobs, "submit.rsl", b.Bytes())
}

// word writes a string of RSL: a quote in it is doubled.
func word(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

var jobContact = regexp.MustCompile(`^https://[A-Za-z0-9.-]+:[0-9]+/[0-9]+/[0-9]+/$`)

// passing are error codes of GRAM's protocol that time may mend: no connection, no
// answer, a job manager that is just ending. Source: globus_gram_protocol_constants.h.
var passing = regexp.MustCompile(`error code (3|10|12|62|76|77|79|88|94|104|110|111|117|124|125)\)`)

// Submit implements batch.System.
func (s *System) Submit(ctx context.Context, _ []batch.Job, submitFile string) ([]batch.JobID, error) {
	a, err := s.tool.Run(ctx, nil, "globusrun", "-b", "-r", s.contact, "-f", submitFile)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(a.Stdout) + "\n" + string(a.Stderr)) {
		if id := strings.TrimSpace(line); jobContact.MatchString(id) {
			return []batch.JobID{batch.JobID(id)}, nil
		}
	}
	switch {
	case a.Exit == 0:
		return nil, a.Garbled(a.Said())
	case a.Mentions("error code") && !passing.Match(append(a.Stderr, a.Stdout...)):
		return nil, a.Fail(batch.ErrRefused)
	}
	return nil, a.Fail(batch.ErrTransient)
}

// atOnce is how many commands run at a time.
const atOnce = 8

// Status implements batch.System.
func (s *System) Status(ctx context.Context, known []batch.Known) ([]batch.Entry, error) {
	a, err := s.tool.Run(ctx, nil, "globusrun", "-a", "-r", s.contact)
	if err != nil {
		return nil, err
	}
	if a.Exit != 0 || !a.Mentions("authentication test successful") {
		return nil, a.Fail(batch.ErrTransient)
	}
	states := make([]batch.State, len(known))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, k := range known {
		if k.ID == "" {
			continue // its submission was not answered
		}
		g.Go(func() error {
			var err error
			states[i], err = s.status(ctx, k.ID)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var entries []batch.Entry
	for i, k := range known {
		if states[i] != 0 {
			entries = append(entries, batch.Entry{ID: k.ID, Launch: k.Launch, Index: k.Index, State: states[i]})
		}
	}
	return entries, nil
}

func (s *System) status(ctx context.Context, id batch.JobID) (batch.State, error) {
	if !jobContact.MatchString(string(id)) {
		return batch.Ended, nil // never one of its jobs
	}
	a, err := s.tool.Run(ctx, nil, "globus-job-status", string(id))
	if err != nil {
		return 0, err
	}
	if a.Exit != 0 {
		return 0, a.Fail(batch.ErrTransient)
	}
	state := parse(a.Stdout)
	if state == 0 {
		return 0, a.Garbled(a.Said())
	}
	return state, nil
}

// parse reads what globus-job-status prints: one word, after warnings perhaps.
func parse(out []byte) batch.State {
	var state batch.State
	for line := range strings.Lines(string(out)) {
		switch strings.TrimSpace(line) {
		case "PENDING", "UNSUBMITTED", "STAGE_IN":
			state = batch.Queued
		case "ACTIVE", "STAGE_OUT":
			state = batch.Running
		case "SUSPENDED":
			state = batch.Held
		case "DONE", "FAILED":
			state = batch.Ended
		}
	}
	return state
}

// Remove implements batch.System.
func (s *System) Remove(ctx context.Context, id batch.JobID) error {
	if !jobContact.MatchString(string(id)) {
		return fmt.Errorf("globus: remove %q: %w", id, batch.ErrUnknownJob)
	}
	a, err := s.tool.Run(ctx, nil, "globus-job-cancel", "-f", string(id))
	switch {
	case err != nil:
		return err
	case a.Exit == 0, a.Mentions("could not clean up job", "job not found", "does not exist", "already done"):
		return nil // cancelled, or gone already
	}
	return a.Fail(batch.ErrTransient)
}

// fetchTime bounds the fetching of an output: the gatekeeper connects back to this
// machine for it, which many networks do not let it.
const fetchTime = 30 * time.Second

// Clean implements batch.System. What the job printed is fetched if the gatekeeper
// can reach this machine; if not, that is no reason to keep the job.
func (s *System) Clean(ctx context.Context, id batch.JobID, directory string) error {
	if !jobContact.MatchString(string(id)) {
		return fmt.Errorf("globus: clean %q: %w", id, batch.ErrUnknownJob)
	}
	if directory != "" {
		if err := s.fetch(ctx, id, filepath.Join(directory, batch.Output)); err != nil {
			return err
		}
	}
	a, err := s.tool.Run(ctx, nil, "globus-job-clean", "-f", "-r", s.contact, string(id))
	if err != nil {
		return err
	}
	if a.Exit != 0 {
		return a.Fail(batch.ErrTransient)
	}
	return nil
}

func (s *System) fetch(ctx context.Context, id batch.JobID, file string) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	var all []byte
	for _, stream := range []string{"-out", "-err"} {
		a, err := s.tool.Run(ctx, nil, "globus-job-get-output", stream, "-r", s.contact, string(id))
		if err != nil {
			all = fmt.Appendf(all, "floe: %s was not fetched: %v\n", stream, err)
			break
		}
		all = append(all, a.Stdout...)
		if a.Exit != 0 {
			all = fmt.Appendf(all, "floe: %v\n", a.Fail(errors.New("not fetched")))
		}
	}
	return os.WriteFile(file, all, 0o600)
}
