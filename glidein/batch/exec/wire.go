package exec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"floe/glidein/batch"
	"floe/protocol"
)

// Version is that of the wire.
const Version = 1

// The verbs of a request.
const (
	VerbProperties = "properties"
	VerbWrite      = "write-submit-file"
	VerbSubmit     = "submit"
	VerbStatus     = "status"
	VerbRemove     = "remove"
	VerbClean      = "clean"
)

// Exit statuses of a plugin. All others mean batch.ErrTransient.
const (
	ExitRefused    = 3
	ExitUnknownJob = 4
	// ExitTransient is what Serve says; plugins may say anything else.
	ExitTransient = 75
)

// Request is what a plugin reads.
type Request struct {
	Version  int            `json:"version"`
	Verb     string         `json:"verb"`
	Settings map[string]any `json:"settings"`

	Jobs       []Job       `json:"jobs,omitempty"`
	SubmitFile string      `json:"submit_file,omitempty"`
	Known      []Known     `json:"known,omitempty"`
	ID         batch.JobID `json:"id,omitempty"`
	// Directory of the job to be cleaned; empty when the pass does not know the job.
	Directory string `json:"directory,omitempty"`
}

// Job is batch.Job.
type Job struct {
	Name       string   `json:"name"`      // floe- and the launch lease
	Directory  string   `json:"directory"` // the job starts there
	Script     string   `json:"script"`    // for /bin/sh
	Files      []string `json:"files"`     // names in directory
	Output     string   `json:"output"`    // name in directory that stdout and stderr go to
	Cores      int      `json:"cores"`
	Memory     int64    `json:"memory"` // bytes
	Disk       int64    `json:"disk"`   // bytes
	GPUs       int      `json:"gpus"`
	Walltime   int64    `json:"walltime"` // seconds
	Priority   int      `json:"priority"`
	Queue      string   `json:"queue"`
	Account    string   `json:"account"`
	Directives []string `json:"directives"`
}

// Known is batch.Known.
type Known struct {
	ID    batch.JobID `json:"id"` // empty when the answer to its submission was lost
	Name  string      `json:"name"`
	Index int         `json:"index"`
}

// Answer is what a plugin writes: of these, what its verb asks for.
type Answer struct {
	*Properties
	SubmitFile string        `json:"submit_file,omitempty"`
	IDs        []batch.JobID `json:"ids,omitempty"`
	Jobs       *[]Entry      `json:"jobs,omitempty"` // an empty list is an answer, none is not
}

// Properties is batch.Properties.
type Properties struct {
	Version  int    `json:"version"`
	Name     string `json:"name"`
	MaxArray int    `json:"max_array"`
	Lists    bool   `json:"lists"`
	GPUs     bool   `json:"gpus"`
	Walltime bool   `json:"walltime"`
	Sends    bool   `json:"sends"`
}

// Entry is batch.Entry.
type Entry struct {
	ID     batch.JobID `json:"id"`
	Name   string      `json:"name"`
	Index  int         `json:"index,omitempty"`
	State  string      `json:"state"` // queued, running, held, ended
	Reason string      `json:"reason,omitempty"`
	Since  float64     `json:"since,omitempty"` // seconds since 1970
}

// maxArray bounds what a plugin may say of itself.
const maxArray = 100_000

func toWire(j *batch.Job) Job {
	return Job{
		Name: batch.JobName(j.Launch), Directory: j.Directory, Script: j.Script, Files: some(j.Files), Output: batch.Output,
		Cores: j.Cores, Memory: int64(j.Memory), Disk: int64(j.Disk), GPUs: j.GPUs, Walltime: batch.Seconds(j.Walltime),
		Priority: j.Priority, Queue: j.Queue, Account: j.Account, Directives: some(j.Directives),
	}
}

// some is a list that is written as [] when there is nothing in it.
func some(list []string) []string { return append([]string{}, list...) }

func (j *Job) fromWire() (batch.Job, error) {
	launch, ours := batch.LaunchOf(j.Name)
	switch {
	case !ours:
		return batch.Job{}, fmt.Errorf("job %q: its name is none of floe's", j.Name)
	case !filepath.IsAbs(j.Directory) || !filepath.IsAbs(j.Script):
		return batch.Job{}, fmt.Errorf("job %q: directory %q, script %q: want absolute paths", j.Name, j.Directory, j.Script)
	case j.Walltime < 0 || j.Walltime > math.MaxInt64/int64(time.Second):
		return batch.Job{}, fmt.Errorf("job %q: walltime %d", j.Name, j.Walltime)
	}
	return batch.Job{
		Launch: launch, Directory: j.Directory, Script: j.Script, Files: j.Files,
		Cores: j.Cores, Memory: protocol.ByteSize(j.Memory), Disk: protocol.ByteSize(j.Disk), GPUs: j.GPUs,
		Walltime: time.Duration(j.Walltime) * time.Second,
		Priority: j.Priority, Queue: j.Queue, Account: j.Account, Directives: j.Directives,
	}, nil
}

// decode reads one JSON object and nothing else, every field of which v has.
func decode(text []byte, v any) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return errors.New("nothing, where one JSON object was to come")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("its JSON object is cut")
	} else if err != nil {
		return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON object")
	}
	return nil
}

// parse reads the answer to a verb.
func parse(verb string, text []byte) (*Answer, error) {
	a := new(Answer)
	if err := decode(text, a); err != nil {
		return nil, err
	}
	switch verb {
	case VerbProperties:
		switch p := a.Properties; {
		case p == nil:
			return nil, fmt.Errorf("no version, which is to be %d", Version)
		case p.Version != Version:
			return nil, fmt.Errorf("version %d, and this floe speaks %d", p.Version, Version)
		case p.MaxArray < 0 || p.MaxArray > maxArray:
			return nil, fmt.Errorf("max_array %d: want 0 to %d", p.MaxArray, maxArray)
		}
	case VerbWrite:
		if !filepath.IsAbs(a.SubmitFile) {
			return nil, fmt.Errorf("submit_file %q: want an absolute path", a.SubmitFile)
		}
	case VerbSubmit:
		for _, id := range a.IDs {
			if err := checkID(id); err != nil {
				return nil, err
			}
		}
		if len(slices.Compact(slices.Sorted(slices.Values(a.IDs)))) != len(a.IDs) {
			return nil, errors.New("ids: two jobs have the same")
		}
	case VerbStatus:
		if a.Jobs == nil {
			return nil, errors.New(`no jobs, not even "jobs": []`)
		}
	}
	return a, nil
}

// maxID bounds the ids of jobs.
const maxID = 4096

func checkID(id batch.JobID) error {
	if id == "" || len(id) > maxID || !utf8.ValidString(string(id)) || strings.ContainsFunc(string(id), unicode.IsControl) {
		return fmt.Errorf("job id %.80q: want printable text", id)
	}
	return nil
}

// maxTime is the year 5138: what is later is not in seconds.
const maxTime = 1e11

// entries are ours of the jobs of an answer, each once.
func entries(jobs []Entry) ([]batch.Entry, error) {
	var all []batch.Entry
	seen := map[batch.JobID]bool{}
	for i := range jobs {
		j := &jobs[i]
		launch, ours := batch.LaunchOf(j.Name)
		if !ours {
			continue
		}
		if err := checkID(j.ID); err != nil {
			return nil, err
		}
		e := batch.Entry{ID: j.ID, Launch: launch, Index: j.Index, State: stateOf(j.State), Reason: j.Reason}
		switch {
		case e.State == 0:
			return nil, fmt.Errorf("job %s has the state %q: want queued, running, held or ended", j.ID, j.State)
		case j.Index < 0:
			return nil, fmt.Errorf("job %s has the index %d", j.ID, j.Index)
		case j.Since < 0 || j.Since > maxTime:
			return nil, fmt.Errorf("job %s: since %g: want seconds since 1970", j.ID, j.Since)
		case j.Since > 0:
			e.Since = time.Unix(int64(j.Since), 0)
		}
		if !seen[j.ID] {
			seen[j.ID] = true
			all = append(all, e)
		}
	}
	return all, nil
}

func stateOf(s string) batch.State {
	for _, state := range []batch.State{batch.Queued, batch.Running, batch.Held, batch.Ended} {
		if s == state.String() {
			return state
		}
	}
	return 0
}
