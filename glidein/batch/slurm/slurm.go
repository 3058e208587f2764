package slurm

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"floe/glidein/batch"
)

// System is one Slurm cluster, as the tools on PATH know it.
type System struct{ tool batch.Tool }

// New returns the Slurm that tool reaches.
func New(tool batch.Tool) *System {
	tool.System = "slurm"
	return &System{tool}
}

// Properties implements batch.System. Slurm's default MaxArraySize is 1001.
func (s *System) Properties() batch.Properties {
	return batch.Properties{Name: "slurm", MaxArray: 100, Lists: true, GPUs: true, Walltime: true}
}

// WriteSubmitFile implements batch.System: a batch script with #SBATCH lines.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	j := &jobs[0]
	var b bytes.Buffer
	b.WriteString("#!/bin/sh\n")
	set := func(option, format string, args ...any) {
		fmt.Fprintf(&b, "#SBATCH --%s=%s\n", option, fmt.Sprintf(format, args...))
	}
	set("job-name", "%s", batch.JobName(j.Launch))
	if len(jobs) > 1 {
		set("array", "0-%d", len(jobs)-1)
	}
	// What Slurm itself prints; the job's own output goes to its directory. The file
	// name is a pattern, and a directory's % must not be.
	set("output", "%s", word(strings.ReplaceAll(batch.SystemOutput(jobs), "%", "%%")))
	b.WriteString("#SBATCH --open-mode=append\n#SBATCH --no-requeue\n#SBATCH --nodes=1\n#SBATCH --ntasks=1\n")
	if j.Cores > 0 {
		set("cpus-per-task", "%d", j.Cores)
	}
	if j.Memory > 0 {
		set("mem", "%dM", mebibytes(int64(j.Memory)))
	}
	if j.Disk > 0 {
		set("tmp", "%dM", mebibytes(int64(j.Disk)))
	}
	if j.GPUs > 0 {
		set("gres", "gpu:%d", j.GPUs)
	}
	if j.Walltime > 0 {
		set("time", "%d", int64((j.Walltime+time.Minute-1)/time.Minute))
	}
	if j.Priority != 0 {
		// A plain user may only be nice; who may do more can be the contrary.
		set("nice", "%d", -j.Priority)
	}
	if j.Queue != "" {
		set("partition", "%s", word(j.Queue))
	}
	if j.Account != "" {
		set("account", "%s", word(j.Account))
	}
	for _, d := range j.Directives {
		fmt.Fprintf(&b, "#SBATCH %s\n", strings.TrimPrefix(d, "#SBATCH "))
	}
	b.WriteString(batch.Body(jobs, "SLURM_ARRAY_TASK_ID", 0))
	return batch.SaveSubmitFile(jobs, "submit.slurm", b.Bytes())
}

// word quotes a value in an #SBATCH line, where sbatch knows double quotes and
// the backslash, and a # begins a comment.
func word(s string) string {
	if !strings.ContainsAny(s, " \t\"'\\#") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// mebibytes is a size in Slurm's unit, rounded up.
func mebibytes(n int64) int64 { return (n + 1<<20 - 1) >> 20 }

// passing are refusals of sbatch that time may mend.
var passing = []string{
	"unable to contact slurm controller", "socket timed out", "connect failure", "communication connection failure",
	"zero bytes were transmitted", "temporarily unable to accept job", "slurm controller", "munge",
}

// Submit implements batch.System.
func (s *System) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	a, err := s.tool.Run(ctx, nil, "sbatch", "--parsable", submitFile)
	if err != nil {
		return nil, err
	}
	id, err := a.Submitted(submitted, passing...)
	if err != nil {
		return nil, err
	}
	return batch.Numbered(jobs, id, func(i int) batch.JobID { return batch.JobID(fmt.Sprintf("%s_%d", id, i)) }), nil
}

var (
	// submitted is what --parsable prints; with a cluster where several are served.
	submitted = regexp.MustCompile(`^([0-9]+)(;.*)?$`)
	jobNumber = regexp.MustCompile(`^[0-9]+$`)
	jobID     = regexp.MustCompile(`^[0-9]+(_[0-9]+)?$`)
)

// The fields of a line of squeue, the free text last: array's id, index in it,
// state, start or submission time, reason, name. Names may hold the bar.
const (
	listFormat = "%F|%K|%T|%V|%S|%r|%j"
	listFields = 7
)

// Status implements batch.System.
func (s *System) Status(ctx context.Context, _ []batch.Known) ([]batch.Entry, error) {
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("slurm: %w: who am I: %w", batch.ErrTransient, err)
	}
	// -r: one line for each job of an array. The end mark shows that all was said.
	a, err := s.tool.Run(ctx, nil, "squeue", "--noheader", "--array", "--all", "--user="+me.Username, "--format="+listFormat)
	if err != nil {
		return nil, err
	}
	if a.Exit != 0 {
		return nil, a.Fail(batch.ErrTransient)
	}
	entries, err := parse(a.Stdout)
	if err != nil {
		return nil, a.Garbled(err.Error())
	}
	return entries, nil
}

// parse reads the lines of squeue in listFormat.
func parse(out []byte) ([]batch.Entry, error) {
	if len(out) > 0 && out[len(out)-1] != '\n' {
		return nil, fmt.Errorf("its last line is cut")
	}
	var entries []batch.Entry
	seen := map[batch.JobID]bool{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		f := strings.SplitN(lines.Text(), "|", listFields)
		if len(f) != listFields {
			return nil, fmt.Errorf("line %d is %q, not %d fields", n, lines.Text(), listFields)
		}
		launch, ours := batch.LaunchOf(f[6])
		if !ours {
			continue
		}
		if !jobNumber.MatchString(f[0]) {
			return nil, fmt.Errorf("line %d: job id %q", n, f[0])
		}
		e := batch.Entry{ID: batch.JobID(f[0]), Launch: launch, Reason: reason(f[5]), Since: clock(f[3])}
		if f[1] != "N/A" {
			index, err := strconv.Atoi(f[1])
			if err != nil || index < 0 {
				return nil, fmt.Errorf("line %d: array index %q", n, f[1])
			}
			e.Index, e.ID = index, batch.JobID(f[0]+"_"+f[1])
		}
		e.State = stateOf(f[2], f[5])
		if e.State == 0 {
			return nil, fmt.Errorf("line %d: job %s has the state %q, which is not known", n, e.ID, f[2])
		}
		if e.State == batch.Running {
			e.Since = clock(f[4])
		}
		if !seen[e.ID] {
			seen[e.ID] = true
			entries = append(entries, e)
		}
	}
	return entries, lines.Err()
}

// reason is why a job waits; None and Priority say nothing more than that it does.
func reason(s string) string {
	if s == "None" {
		return ""
	}
	return s
}

func clock(s string) time.Time {
	t, err := time.ParseInLocation("2006-01-02T15:04:05", s, time.Local)
	if err != nil {
		return time.Time{} // N/A: not known yet
	}
	return t
}

// never are reasons of pending jobs that only a person can mend. Source: squeue(1),
// job reason codes.
var never = []string{
	"JobHeldUser", "JobHeldAdmin", "PartitionTimeLimit", "PartitionNodeLimit", "PartitionInactive", "BadConstraints",
	"DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed", "AssociationJobLimit",
	"AssocMaxWallDurationPerJobLimit", "AssocMaxCpuPerJobLimit", "AssocMaxMemPerJob", "AssocMaxNodePerJobLimit",
	"QOSMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit", "QOSMaxMemoryPerJob", "QOSMaxNodePerJobLimit",
	"JobLaunchFailure", "launch failed requeued held", "MaxMemPerLimit", "ReqNodeNotAvail, May be reserved for other job",
}

func stateOf(state, why string) batch.State {
	switch state {
	case "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "RESV_DEL_HOLD":
		if slices.Contains(never, why) {
			return batch.Held
		}
		return batch.Queued
	case "REQUEUE_HOLD", "SPECIAL_EXIT":
		return batch.Held
	case "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING":
		return batch.Running
	case "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "PREEMPTED", "CANCELLED", "REVOKED":
		return batch.Ended
	}
	return 0
}

// Remove implements batch.System. Slurm sends SIGCONT and SIGTERM to all of the
// job, and SIGKILL after its KillWait.
func (s *System) Remove(ctx context.Context, id batch.JobID) error {
	if !jobID.MatchString(string(id)) {
		return fmt.Errorf("remove %q: %w", id, batch.ErrUnknownJob)
	}
	a, err := s.tool.Run(ctx, nil, "scancel", string(id))
	switch {
	case err != nil:
		return err
	case a.Exit == 0, a.Mentions("already completing or completed"):
		return nil
	case a.Mentions("invalid job id"):
		return a.Fail(batch.ErrUnknownJob)
	case a.Mentions("access/permission denied"):
		return a.Fail(batch.ErrRefused)
	}
	return a.Fail(batch.ErrTransient)
}

// Clean implements batch.System: Slurm forgets by itself.
func (s *System) Clean(context.Context, batch.JobID, string) error { return nil }
