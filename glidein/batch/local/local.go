package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"floe/glidein/batch"
)

// System starts jobs as processes and remembers them in a directory.
type System struct {
	dir   string
	grace time.Duration
}

// New returns the system that keeps its jobs under dir, made if needed. A job
// that is removed gets SIGTERM, and SIGKILL after grace.
func New(dir string, grace time.Duration) (*System, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local batch system: %w", err)
	}
	return &System{dir, grace}, nil
}

// Properties implements batch.System.
func (s *System) Properties() batch.Properties {
	return batch.Properties{Name: "local", Lists: true, GPUs: true}
}

// submitScript records the job's process before it becomes the pilot. Field 22
// of /proc/PID/stat is the start time in clock ticks since boot.
const submitScript = `#!/bin/sh
# pilot job %[1]s
stat=$(cat /proc/$$/stat)
set -- ${stat##*) }
printf '%%s %%s\n' $$ "${20}" >%[2]s.new && mv %[2]s.new %[2]s || exit 1
cd %[3]s && exec /bin/sh %[4]s
`

// WriteSubmitFile implements batch.System: the submit file is a shell script.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	job := &jobs[0]
	name := batch.JobName(job.Launch)
	file := filepath.Join(job.Directory, "submit.sh")
	text := fmt.Sprintf(submitScript, name, batch.Quote(filepath.Join(s.dir, name, "process")), batch.Quote(job.Directory), batch.Quote(job.Script))
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		return "", fmt.Errorf("write submit file: %w", err)
	}
	return file, nil
}

// Submit implements batch.System: it starts the process and returns when the
// process has recorded itself.
func (s *System) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	id, err := s.start(ctx, &jobs[0], submitFile)
	if err != nil {
		return nil, err
	}
	return []batch.JobID{id}, nil
}

func (s *System) start(ctx context.Context, job *batch.Job, submitFile string) (batch.JobID, error) {
	id := batch.JobID(batch.JobName(job.Launch))
	dir := filepath.Join(s.dir, string(id))
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return id, nil // submitted before: launch leases are unique
	} else if err != nil {
		return "", fmt.Errorf("submit %s: %w: %w", id, batch.ErrTransient, err)
	}
	out, err := os.Create(filepath.Join(job.Directory, batch.Output))
	if err != nil {
		return "", fmt.Errorf("submit %s: %w: %w", id, batch.ErrTransient, err)
	}
	defer out.Close()
	c := exec.Command("/bin/sh", submitFile)
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return "", fmt.Errorf("submit %s: %w: %w", id, batch.ErrRefused, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(dir, "process")); err == nil {
			return id, nil
		}
		select {
		case err := <-ended:
			if _, there := os.Stat(filepath.Join(dir, "process")); there == nil {
				return id, nil // so short that it has ended already
			}
			return "", fmt.Errorf("submit %s: %w: its shell ended: %w", id, batch.ErrRefused, err)
		case <-ctx.Done():
			return "", fmt.Errorf("submit %s: %w: %w", id, batch.ErrTransient, ctx.Err())
		case <-tick.C:
		}
	}
}

// Status implements batch.System.
func (s *System) Status(context.Context, []batch.Known) ([]batch.Entry, error) {
	dirs, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("status: %w: %w", batch.ErrTransient, err)
	}
	var entries []batch.Entry
	for _, d := range dirs {
		launch, ours := batch.LaunchOf(d.Name())
		if !ours || !d.IsDir() {
			continue
		}
		e := batch.Entry{ID: batch.JobID(d.Name()), Launch: launch, State: batch.Ended}
		if info, err := d.Info(); err == nil {
			e.Since = info.ModTime()
		}
		if p, err := s.process(e.ID); err == nil && p.alive() {
			e.State = batch.Running
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Remove implements batch.System: SIGTERM to the job's session, SIGKILL after
// the grace.
func (s *System) Remove(ctx context.Context, id batch.JobID) error {
	p, err := s.process(id)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", id, batch.ErrUnknownJob)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	deadline := time.NewTimer(s.grace)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	p.signal(syscall.SIGTERM)
	for p.alive() {
		select {
		case <-tick.C:
		case <-deadline.C:
			p.signal(syscall.SIGKILL)
		case <-ctx.Done():
			p.signal(syscall.SIGKILL)
			return fmt.Errorf("remove %s: %w: %w", id, batch.ErrTransient, ctx.Err())
		}
	}
	return nil
}

// Clean implements batch.System.
func (s *System) Clean(_ context.Context, id batch.JobID, _ string) error {
	if _, ours := batch.LaunchOf(string(id)); !ours || strings.ContainsAny(string(id), "/\x00") {
		return fmt.Errorf("clean %q: %w", id, batch.ErrUnknownJob)
	}
	if p, err := s.process(id); err == nil && p.alive() {
		return fmt.Errorf("clean %s: %w: its process %d still runs", id, batch.ErrRefused, p.pid)
	}
	return os.RemoveAll(filepath.Join(s.dir, string(id)))
}

// process is one process by id and start time: ids are reused, the pair is not.
type process struct {
	pid   int
	start uint64
}

func (s *System) process(id batch.JobID) (process, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, string(id), "process"))
	if err != nil {
		return process{}, err
	}
	pid, start, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	var p process
	var err1, err2 error
	p.pid, err1 = strconv.Atoi(pid)
	p.start, err2 = strconv.ParseUint(start, 10, 64)
	if err1 != nil || err2 != nil || p.pid <= 1 {
		return process{}, fmt.Errorf("job %s: its process record %q is damaged", id, b)
	}
	return p, nil
}

// alive tells whether the very process still runs; a zombie does not.
func (p process) alive() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return false
	}
	// The second field is the command in parentheses and may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return err == nil && start == p.start
}

// signal sends to the whole session's process group, if it is still ours.
func (p process) signal(s syscall.Signal) {
	if p.alive() {
		_ = syscall.Kill(-p.pid, s) // the only error is that it is gone
	}
}
