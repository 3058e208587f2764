package batchtest

import (
	"bytes"
	"encoding/json"
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

	"github.com/gofrs/flock"
)

// JobState is where a job of a fake stands.
type JobState string

// The states of a fake's jobs.
const (
	Queued  JobState = "queued"
	Running JobState = "running"
	Held    JobState = "held"
	Ended   JobState = "ended"
)

// Job is one job of a fake, or one of an array.
type Job struct {
	Number int // of the submission
	Index  int // in its array, from 0
	Array  int // size of the array; 0 when it is none
	Name   string
	Script string // text of what runs
	Dir    string // where it starts
	Env    []string
	// Output is the file that its output goes to, when the script does not say.
	Output string
	// Asked is what was asked of the system, by the dialect's own names.
	Asked map[string]string

	State                     JobState
	Reason                    string
	PID                       int
	Start                     string // field 22 of /proc/PID/stat: ids are reused, the pair is not
	Submitted, Started, Ended time.Time
	Removed                   bool
}

// Fake is a batch system in a directory. Its methods are called by one tool at a
// time, which holds its lock.
type Fake struct {
	Dir string
	fakeState
}

type fakeState struct {
	Slots int
	Next  int
	Jobs  []*Job
	Fault Fault
	Tool  string // the tool that has the fault
}

// NewFake makes a fake with as many slots and lets it live in a directory of t.
func NewFake(t T, slots int) *Fake {
	t.Helper()
	f := &Fake{Dir: t.TempDir(), fakeState: fakeState{Slots: slots, Next: 1}}
	if err := f.save(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // nothing that it started outlives the test
		_ = f.Locked(func() error {
			f.Slots = 0 // what waits must not start in the room that is made
			for _, j := range f.Jobs {
				f.kill(j, syscall.SIGKILL)
			}
			return nil
		})
	})
	return f
}

// Locked runs do with the state of the directory, and saves what it changed.
func (f *Fake) Locked(do func() error) error {
	lock := flock.New(filepath.Join(f.Dir, "lock"))
	if err := lock.Lock(); err != nil {
		return err
	}
	defer lock.Unlock()
	b, err := os.ReadFile(filepath.Join(f.Dir, "state.json"))
	if err != nil {
		return err
	}
	f.fakeState = fakeState{}
	if err := json.Unmarshal(b, &f.fakeState); err != nil {
		return err
	}
	f.tick()
	if err := do(); err != nil {
		return err
	}
	f.tick()
	return f.save()
}

func (f *Fake) save() error {
	b, err := json.Marshal(&f.fakeState)
	if err != nil {
		return err
	}
	file := filepath.Join(f.Dir, "state.json")
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// Submit takes a job, or an array of as many as job.Array says, and returns its number.
func (f *Fake) Submit(job Job) int {
	job.Number, job.State, job.Submitted = f.Next, Queued, time.Now()
	f.Next++
	for i := range max(1, job.Array) {
		one := job
		one.Index = i
		f.Jobs = append(f.Jobs, &one)
	}
	return job.Number
}

// List are the jobs that have not ended, twice when that is the fault.
func (f *Fake) List() []*Job {
	var all []*Job
	for _, j := range f.Jobs {
		if j.State != Ended {
			all = append(all, j)
		}
	}
	if f.Fault == Twice {
		all = append(all, all...)
	}
	return all
}

// Find returns the jobs of a number, or the one of an index if that is not below 0.
func (f *Fake) Find(number, index int) []*Job {
	var found []*Job
	for _, j := range f.Jobs {
		if j.Number == number && (index < 0 || j.Index == index) {
			found = append(found, j)
		}
	}
	return found
}

// Remove ends a job, with SIGTERM if it runs.
func (f *Fake) Remove(j *Job) { f.RemoveBy(j, syscall.SIGTERM) }

// RemoveBy ends a job, with a signal if it runs.
func (f *Fake) RemoveBy(j *Job, s syscall.Signal) {
	j.Removed = true
	if j.State == Running {
		f.kill(j, s)
		return
	}
	j.State, j.Ended = Ended, time.Now()
}

// tick sees which jobs have ended and starts those that there are slots for.
func (f *Fake) tick() {
	used := 0
	for _, j := range f.Jobs {
		if j.State != Running {
			continue
		}
		if start, alive := startOf(j.PID); !alive || start != j.Start {
			j.State, j.Ended = Ended, time.Now()
		} else {
			used++
		}
	}
	for _, j := range f.Jobs {
		if j.State == Queued && j.Reason == "" && used < f.Slots {
			if err := f.start(j); err != nil {
				j.State, j.Reason = Ended, err.Error()
				continue
			}
			used++
		}
	}
}

func (f *Fake) start(j *Job) error {
	script := filepath.Join(f.Dir, fmt.Sprintf("job-%d-%d", j.Number, j.Index))
	if err := os.WriteFile(script, []byte(j.Script), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(j.Output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	c := exec.Command("/bin/sh", script)
	c.Dir, c.Env = j.Dir, append(os.Environ(), j.Env...)
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	j.PID, j.State, j.Started = c.Process.Pid, Running, time.Now()
	j.Start, _ = startOf(j.PID)
	return c.Process.Release()
}

func (f *Fake) kill(j *Job, s syscall.Signal) {
	if start, alive := startOf(j.PID); j.State == Running && alive && start == j.Start {
		_ = syscall.Kill(-j.PID, s) // the only error is that it is gone
	}
}

// startOf is when a process started, and whether it lives; a zombie does not.
func startOf(pid int) (string, bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", false
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return fields[19], fields[0] != "Z" && fields[0] != "X"
}

// Install links the tools of a dialect into a directory and makes it all of PATH
// that has such names.
func (f *Fake) Install(t T, d Dialect) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(f.Dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	for name := range d.Tools {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv(fakeVariable, f.Dir)
}

// Break makes a tool fail from now on; no fault mends all.
func (f *Fake) Break(t T, tool string, fault Fault) {
	t.Helper()
	if err := f.Locked(func() error { f.Tool, f.Fault = tool, fault; return nil }); err != nil {
		t.Fatal(err)
	}
}

// Hold keeps all queued jobs from starting, for the system's reason.
func (f *Fake) Hold(t T, reason string, state JobState) {
	t.Helper()
	if err := f.Locked(func() error {
		for _, j := range f.Jobs {
			if j.State == Queued {
				j.State, j.Reason = state, reason
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Last is the job that was submitted last.
func (f *Fake) Last(t T) *Job {
	t.Helper()
	var last *Job
	if err := f.Locked(func() error { last = f.Jobs[len(f.Jobs)-1]; return nil }); err != nil {
		t.Fatal(err)
	}
	return last
}
