package pbs

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"

	"floe/glidein/batch"
)

// System is one PBS server, as the tools on PATH know it.
type System struct {
	tool    batch.Tool
	dialect *dialect // nil until it is known
}

// New returns the PBS that tool reaches. The dialect is one of Dialects; empty when
// its tools are to be asked.
func New(tool batch.Tool, dialect string) *System {
	tool.System = "pbs"
	return &System{tool: tool, dialect: dialects[dialect]}
}

// Properties implements batch.System.
func (s *System) Properties() batch.Properties {
	return batch.Properties{Name: "pbs", MaxArray: 100, Lists: true, GPUs: true, Walltime: true}
}

// launchVariable holds the launch lease, which names are too short for.
const (
	launchVariable = "FLOE_LAUNCH"
	maxName        = 15
)

// jobName is a job's name for people.
func jobName(j *batch.Job) string {
	name := batch.JobName(j.Launch)
	return name[:min(len(name), maxName)]
}

// plain are paths that a #PBS line takes as they are: it knows no quotes.
var plain = regexp.MustCompile(`^[A-Za-z0-9/._+=~-]+$`)

// WriteSubmitFile implements batch.System: a batch script with #PBS lines.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	d, err := s.speak(context.Background())
	if err != nil {
		return "", err
	}
	j := &jobs[0]
	var b bytes.Buffer
	b.WriteString("#!/bin/sh\n")
	set := func(option, format string, args ...any) {
		fmt.Fprintf(&b, "#PBS -%s %s\n", option, fmt.Sprintf(format, args...))
	}
	set("N", "%s", jobName(j))
	set("v", "%s=%s", launchVariable, j.Launch)
	b.WriteString("#PBS -S /bin/sh\n#PBS -j oe\n#PBS -m n\n")
	output := batch.SystemOutput(jobs)
	switch {
	case !plain.MatchString(output):
		output = "/dev/null"
	case len(jobs) > 1:
		output += d.output
	}
	set("o", "%s", output)
	if len(jobs) > 1 {
		set(d.array, "0-%d", len(jobs)-1)
	}
	if len(jobs) == 1 || !d.reruns {
		b.WriteString("#PBS -r n\n")
	}
	set("l", "%s", d.shape(j))
	if j.Walltime > 0 {
		set("l", "walltime=%d", batch.Seconds(j.Walltime))
	}
	b.WriteString(batch.QsubOptions(j, "#PBS ", "A"))
	b.WriteString(batch.TellWalltime(j) + batch.Body(jobs, d.index, 0))
	return batch.SaveSubmitFile(jobs, "submit.pbs", b.Bytes())
}

// passing are refusals of the tools that time may mend.
var passing = []string{
	"cannot connect to server", "connection refused", "communication failure", "timed out", "time out", "end of file",
	"unable to authenticate", "shutting down", "premature end of message", "batch protocol error", "server busy",
	"resource temporarily unavailable", "no permission. server not ready",
}

// What qsub prints for a job, and for an array.
var (
	single = regexp.MustCompile(`^([0-9]+(?:\.[A-Za-z0-9][A-Za-z0-9._-]*)?)$`)
	array  = regexp.MustCompile(`^([0-9]+\[\](?:\.[A-Za-z0-9][A-Za-z0-9._-]*)?)$`)
)

// jobID is a job, an array or one of an array, with or without its server.
var jobID = regexp.MustCompile(`^([0-9]+)(\[([0-9]*)\])?(\.[A-Za-z0-9][A-Za-z0-9._-]*)?$`)

// Submit implements batch.System.
func (s *System) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	a, err := s.tool.Run(ctx, nil, "qsub", submitFile)
	if err != nil {
		return nil, err
	}
	form := single
	if len(jobs) > 1 {
		form = array
	}
	id, err := a.Submitted(form, passing...)
	if err != nil {
		return nil, err
	}
	return batch.Numbered(jobs, id, func(i int) batch.JobID {
		return batch.JobID(strings.Replace(id, "[]", fmt.Sprintf("[%d]", i), 1))
	}), nil
}

// Remove implements batch.System. PBS sends SIGTERM, and SIGKILL after the queue's
// kill_delay.
func (s *System) Remove(ctx context.Context, id batch.JobID) error {
	if !jobID.MatchString(string(id)) {
		return fmt.Errorf("remove %q: %w", id, batch.ErrUnknownJob)
	}
	a, err := s.tool.Run(ctx, nil, "qdel", string(id))
	switch {
	case err != nil:
		return err
	case a.Exit == 0, a.Mentions("job has finished", "request invalid for finished array subjob", "request invalid for state of job"):
		return nil
	case a.Mentions("unknown job id", "nonexistent job id", "invalid request"):
		return a.Fail(batch.ErrUnknownJob)
	case a.Mentions("unauthorized request"):
		return a.Fail(batch.ErrRefused)
	}
	return a.Fail(batch.ErrTransient)
}

// Clean implements batch.System: PBS forgets by itself.
func (s *System) Clean(context.Context, batch.JobID, string) error { return nil }
