package sge

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"

	"floe/glidein/batch"
)

// Config are the names that a site's administrators gave to things.
type Config struct {
	// ParallelEnvironment is the one whose slots are on one node; jobs of more than
	// one core need it.
	ParallelEnvironment string
	// Memory is the resource that a job's memory is asked by, for each slot. Default:
	// mem_free. "none" asks for none.
	Memory string
	// GPU is the resource of graphics cards. Default: gpu.
	GPU string
}

// System is one Grid Engine cell, as the tools on PATH know it.
type System struct {
	tool   batch.Tool
	config Config
}

// New returns the Grid Engine that tool reaches.
func New(tool batch.Tool, config Config) *System {
	tool.System = "sge"
	if config.Memory == "" {
		config.Memory = "mem_free"
	}
	if config.GPU == "" {
		config.GPU = "gpu"
	}
	return &System{tool, config}
}

// Properties implements batch.System.
func (s *System) Properties() batch.Properties {
	return batch.Properties{Name: "sge", MaxArray: 100, Lists: true, GPUs: true, Walltime: true}
}

// handOn is the part of a submit file around the pilot: the warning of Grid Engine
// becomes SIGTERM for the pilot alone, and its exit status the job's.
const handOn = `asked= pilot=
trap : USR1
trap 'asked=1; [ -z "$pilot" ] || kill -TERM "$pilot"' USR2 TERM
(
trap '' USR1 USR2
trap - TERM
%s) &
pilot=$!
[ -z "$asked" ] || kill -TERM "$pilot"
while wait "$pilot"; code=$?; kill -0 "$pilot" 2>/dev/null; do :; done
exit "$code"
`

// WriteSubmitFile implements batch.System: a batch script with #$ lines.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	j := &jobs[0]
	var b bytes.Buffer
	b.WriteString("#!/bin/sh\n")
	set := func(option, format string, args ...any) {
		fmt.Fprintf(&b, "#$ -%s %s\n", option, fmt.Sprintf(format, args...))
	}
	set("N", "%s", batch.JobName(j.Launch))
	b.WriteString("#$ -S /bin/sh\n#$ -notify\n#$ -r n\n#$ -j y\n")
	set("o", "%s", path(batch.SystemOutput(jobs)))
	if len(jobs) > 1 {
		set("t", "1-%d", len(jobs))
	}
	slots := int64(max(1, j.Cores))
	if slots > 1 {
		environment := s.config.ParallelEnvironment
		switch {
		case asksFor(j.Directives, "-pe"):
		case environment == "":
			return "", fmt.Errorf("sge: %d cores need a parallel environment whose slots are on one node: set parallel_environment in [queue.sge] (qconf -spl lists them)", slots)
		default:
			set("pe", "%s %d", environment, slots)
		}
	}
	if j.Memory > 0 && s.config.Memory != "none" {
		share := (int64(j.Memory) + slots - 1) / slots // it is counted for each slot
		set("l", "%s=%dM", s.config.Memory, (share+1<<20-1)>>20)
	}
	if j.GPUs > 0 {
		set("l", "%s=%d", s.config.GPU, j.GPUs)
	}
	if j.Walltime > 0 {
		set("l", "h_rt=%d", batch.Seconds(j.Walltime))
	}
	b.WriteString(batch.QsubOptions(j, "#$ ", "P"))
	b.WriteString(batch.TellWalltime(j))
	fmt.Fprintf(&b, handOn, batch.Body(jobs, "SGE_TASK_ID", 1))
	return batch.SaveSubmitFile(jobs, "submit.sge", b.Bytes())
}

// plain are paths that a #$ line takes as they are.
var plain = regexp.MustCompile(`^[A-Za-z0-9/._+=~-]+( [A-Za-z0-9/._+=~-]+)*$`)

// path is a path in a #$ line, which knows double quotes, and $ for variables of
// its own, but nothing to take their meaning away.
func path(s string) string {
	switch {
	case !plain.MatchString(s):
		return "/dev/null"
	case strings.Contains(s, " "):
		return `"` + s + `"`
	}
	return s
}

// asksFor tells whether a site's directives have an option already.
func asksFor(directives []string, option string) bool {
	for _, d := range directives {
		if word := strings.Fields(strings.TrimPrefix(d, "#$ ")); len(word) > 0 && word[0] == option {
			return true
		}
	}
	return false
}

// passing are refusals of the tools that time may mend.
var passing = []string{
	"commlib error", "got select error", "unable to contact qmaster", "unable to send message to qmaster", "can't connect",
	"failed receiving gdi request", "unable to receive message from qmaster", "qmaster is not ready", "timeout", "timed out",
	"shutting down",
}

var (
	// submitted is what -terse prints: the id, for an array with its tasks.
	submitted = regexp.MustCompile(`^([0-9]+)(\.[0-9]+-[0-9]+:[0-9]+)?$`)
	jobID     = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
)

// Submit implements batch.System.
func (s *System) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	a, err := s.tool.Run(ctx, nil, "qsub", "-terse", submitFile)
	if err != nil {
		return nil, err
	}
	id, err := a.Submitted(submitted, passing...)
	if err != nil {
		return nil, err
	}
	return batch.Numbered(jobs, id, func(i int) batch.JobID { return taskID(id, i+1) }), nil
}

func taskID(job string, task int) batch.JobID {
	return batch.JobID(fmt.Sprintf("%s.%d", job, task))
}

// Remove implements batch.System. Grid Engine sends SIGUSR2, which the submit script
// hands on as SIGTERM, and SIGKILL after the queue's time of notice.
func (s *System) Remove(ctx context.Context, id batch.JobID) error {
	if !jobID.MatchString(string(id)) {
		return fmt.Errorf("remove %q: %w", id, batch.ErrUnknownJob)
	}
	a, err := s.tool.Run(ctx, nil, "qdel", string(id))
	switch {
	case err != nil:
		return err
	case a.Exit == 0, a.Mentions("already in deletion"):
		return nil
	case a.Mentions("does not exist"):
		return a.Fail(batch.ErrUnknownJob)
	case a.Mentions("denied"), a.Mentions("not the owner"):
		return a.Fail(batch.ErrRefused)
	}
	return a.Fail(batch.ErrTransient)
}

// Clean implements batch.System: Grid Engine forgets by itself.
func (s *System) Clean(context.Context, batch.JobID, string) error { return nil }
