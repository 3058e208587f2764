package condor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"floe/glidein/batch"
)

// System is one schedd of HTCondor, as the tools on PATH know it.
type System struct {
	tool batch.Tool
	// schedd is the name of one that is elsewhere, pool its collector's address; empty
	// are this machine's.
	schedd, pool string
}

// New returns the HTCondor that tool reaches. endpoint is a schedd, or a schedd and
// its pool's collector, as HTCondor's own grid_resource has them; empty is the schedd
// of this machine.
func New(tool batch.Tool, endpoint string) (*System, error) {
	tool.System = "condor"
	// Whose jobs are listed is not for the machine's configuration to say.
	tool.Env = append(tool.Env, "_CONDOR_CONDOR_Q_ONLY_MY_JOBS=true")
	s := &System{tool: tool}
	switch words := strings.Fields(endpoint); len(words) {
	case 0:
	case 2:
		s.pool = words[1]
		fallthrough
	case 1:
		s.schedd = words[0]
		if strings.HasPrefix(s.schedd, "-") || strings.HasPrefix(s.pool, "-") {
			return nil, fmt.Errorf("queue.endpoint %q: a name does not begin with a minus", endpoint)
		}
	default:
		return nil, fmt.Errorf("queue.endpoint %q: want SCHEDD, or SCHEDD POOL, such as %q", endpoint, "ce.example.org ce.example.org:9619")
	}
	return s, nil
}

// Properties implements batch.System. An array is a cluster of jobs, of any size.
func (s *System) Properties() batch.Properties {
	return batch.Properties{Name: "condor", Sends: true, MaxArray: 100, Lists: true, GPUs: true, Walltime: true}
}

// at are the options by which a tool finds the schedd.
func (s *System) at(name string) []string {
	var options []string
	if s.pool != "" {
		options = append(options, "-pool", s.pool)
	}
	if s.schedd != "" {
		options = append(options, name, s.schedd)
	}
	return options
}

// plain are names of files that a list of them takes as they are.
var plain = regexp.MustCompile(`^[A-Za-z0-9._+-]+$`)

// WriteSubmitFile implements batch.System: a submit description. HTCondor sends the
// job's files along, and knows no other directory.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	j := &jobs[0]
	script := filepath.Base(j.Script)
	for _, name := range append([]string{script}, j.Files...) {
		if !plain.MatchString(name) {
			return "", fmt.Errorf("condor: file %q: HTCondor's lists cannot hold such a name", name)
		}
	}
	var b bytes.Buffer
	set := func(name, format string, args ...any) { fmt.Fprintf(&b, name+" = "+format+"\n", args...) }
	set("universe", "vanilla")
	set("batch_name", "%s", batch.JobName(j.Launch))
	set("notification", "never")
	set("executable", "/bin/sh")
	set("transfer_executable", "false")
	set("arguments", `"-c '%sexport PATH; exec /bin/sh %s 2>&1'"`, strings.ReplaceAll(batch.TellWalltime(j), "\n", "; "), script)
	set("should_transfer_files", "YES")
	set("when_to_transfer_output", "ON_EXIT")
	set("transfer_input_files", "%s", strings.Join(append([]string{script}, j.Files...), ", "))
	set("transfer_output_files", "")
	set("output", batch.Output)
	set("error", filepath.Base(batch.SystemOutput(jobs)))
	if s.schedd == "" {
		set("stream_output", "true")
	}
	set("request_cpus", "%d", max(1, j.Cores))
	if j.Memory > 0 {
		set("request_memory", "%d", (int64(j.Memory)+1<<20-1)>>20)
	}
	if j.Disk > 0 {
		set("request_disk", "%d", (int64(j.Disk)+1<<10-1)>>10)
	}
	if j.GPUs > 0 {
		set("request_gpus", "%d", j.GPUs)
	}
	if j.Priority != 0 {
		set("priority", "%d", j.Priority)
	}
	if j.Queue != "" {
		set("+BatchQueue", "%s", text(j.Queue))
	}
	if j.Account != "" {
		set("accounting_group", "%s", literal(j.Account))
	}
	// Once only.
	set("requirements", "NumJobStarts =?= UNDEFINED || NumJobStarts == 0")
	over := "(JobStatus == 1 && NumJobStarts > 0)"
	if j.Walltime > 0 {
		over += fmt.Sprintf(" || (JobStatus == 2 && time() - JobCurrentStartDate > %d)", batch.Seconds(j.Walltime))
	}
	set("periodic_remove", "%s", over)
	for _, d := range j.Directives {
		if word := strings.Fields(d); len(word) > 0 && strings.EqualFold(word[0], "queue") {
			return "", fmt.Errorf("condor: directive %q: how many jobs there are is for floe to say; leave it out", d)
		}
		b.WriteString(d + "\n")
	}
	set("initialdir", "$(floe_directory)")
	b.WriteString("queue floe_directory from (\n")
	for i := range jobs {
		b.WriteString(literal(jobs[i].Directory) + "\n")
	}
	b.WriteString(")\n")
	for _, word := range append(directories(jobs), j.Queue, j.Account) {
		if strings.ContainsAny(word, "\n\r\x00") || word != strings.TrimSpace(word) {
			return "", fmt.Errorf("condor: %q: a submit file cannot hold it: it has a line break, or a blank at an end", word)
		}
	}
	return batch.SaveSubmitFile(jobs, "submit.condor", b.Bytes())
}

func directories(jobs []batch.Job) []string {
	all := make([]string, len(jobs))
	for i := range jobs {
		all[i] = jobs[i].Directory
	}
	return all
}

// literal keeps a submit file from expanding what it takes for macros.
func literal(s string) string { return strings.ReplaceAll(s, "$", "$(DOLLAR)") }

// text is a string of ClassAds in a submit file.
func text(s string) string {
	return `"` + literal(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)) + `"`
}

// passing are refusals of condor_submit that time may mend.
var passing = []string{
	"can't find address", "cannot get address", "couldn't contact", "failed to connect", "unable to connect", "connection refused",
	"failed to establish", "timed out", "timeout", "secman:", "cedar:", "authenticate:", "failed to send", "collector has no record",
	"exceed max_jobs", "condor_schedd might be",
}

// submitted is what -terse prints: the first and the last job of the cluster.
var submitted = regexp.MustCompile(`^([0-9]+)\.([0-9]+) - ([0-9]+)\.([0-9]+)$`)

// Submit implements batch.System.
func (s *System) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	a, err := s.tool.Run(ctx, nil, "condor_submit", append(append([]string{"-terse"}, s.at("-remote")...), submitFile)...)
	if err != nil {
		return nil, err
	}
	// Ids that were printed are jobs, whatever the exit status: they are printed last.
	for line := range strings.Lines(string(a.Stdout)) {
		m := submitted.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || m[1] != m[3] || m[2] != "0" {
			continue
		}
		if m[4] != strconv.Itoa(len(jobs)-1) {
			return nil, a.Garbled(fmt.Sprintf("%q for %d jobs", m[0], len(jobs)))
		}
		ids := make([]batch.JobID, len(jobs))
		for i := range ids {
			ids[i] = batch.JobID(fmt.Sprintf("%s.%d", m[1], i))
		}
		return ids, nil
	}
	switch {
	case a.Exit == 0:
		return nil, a.Garbled(a.Said())
	case a.Mentions(passing...) || !a.Mentions("error"):
		return nil, a.Fail(batch.ErrTransient)
	}
	return nil, a.Fail(batch.ErrRefused)
}

var jobID = regexp.MustCompile(`^[0-9]+\.[0-9]+$`)

// Remove implements batch.System. HTCondor sends SIGTERM, and SIGKILL after the
// machine's time for a job to vacate.
func (s *System) Remove(ctx context.Context, id batch.JobID) error {
	if !jobID.MatchString(string(id)) {
		return fmt.Errorf("remove %q: %w", id, batch.ErrUnknownJob)
	}
	a, err := s.tool.Run(ctx, nil, "condor_rm", append(s.at("-name"), string(id))...)
	switch {
	case err != nil:
		return err
	case a.Exit == 0, a.Mentions("already marked for removal"):
		return nil
	case a.Mentions("not found", "couldn't find/remove"):
		return a.Fail(batch.ErrUnknownJob)
	case a.Mentions("permission denied", "not authorized"):
		return a.Fail(batch.ErrRefused)
	}
	return a.Fail(batch.ErrTransient)
}

// Clean implements batch.System: a schedd elsewhere gives back what the job printed,
// and then is told to forget it.
func (s *System) Clean(ctx context.Context, id batch.JobID, directory string) error {
	if s.schedd == "" {
		return nil
	}
	if !jobID.MatchString(string(id)) {
		return fmt.Errorf("clean %q: %w", id, batch.ErrUnknownJob)
	}
	if directory != "" {
		a, err := s.tool.Run(ctx, nil, "condor_transfer_data", append(s.at("-name"), string(id))...)
		if err != nil {
			return err
		}
		if a.Exit != 0 {
			return a.Fail(batch.ErrTransient)
		}
	}
	if err := s.Remove(ctx, id); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
		return err
	}
	return nil
}
