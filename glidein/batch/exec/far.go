package exec

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"floe/glidein/batch"
)

// Far is a batch system at the other end of the wire.
type Far struct {
	// Settings go into every request.
	Settings map[string]any
	// Run takes a request there and returns what came back. Its error is nil whatever
	// the exit status is.
	Run func(ctx context.Context, request []byte) (*batch.Answer, error)
}

// call makes one request.
func (f *Far) call(ctx context.Context, r *Request) (*Answer, error) {
	r.Version, r.Settings = Version, f.Settings
	if r.Settings == nil {
		r.Settings = map[string]any{}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%s: settings: %w", r.Verb, err)
	}
	a, err := f.Run(ctx, append(text, '\n'))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Verb, err)
	}
	class := batch.ErrTransient
	switch a.Exit {
	case 0:
		answer, err := parse(r.Verb, a.Stdout)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Verb, a.Garbled(err.Error()))
		}
		return answer, nil
	case ExitRefused:
		class = batch.ErrRefused
	case ExitUnknownJob:
		class = batch.ErrUnknownJob
	}
	return nil, fmt.Errorf("%s: %s: %w: exit status %d: %s", r.Verb, a.Command, class, a.Exit, lastLine(a.Stderr))
}

// lastLine is what a program said in the end: before it, interpreters print where.
func lastLine(text []byte) string {
	const limit = 300
	last := "(nothing on its standard error)"
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			last = line
		}
	}
	if len(last) > limit {
		last = last[:limit] + "…"
	}
	return strings.ToValidUTF8(last, "?")
}

// Properties asks what it can do.
func (f *Far) Properties(ctx context.Context) (batch.Properties, error) {
	a, err := f.call(ctx, &Request{Verb: VerbProperties})
	if err != nil {
		return batch.Properties{}, err
	}
	p := a.Properties
	return batch.Properties{Name: p.Name, MaxArray: p.MaxArray, Lists: p.Lists, GPUs: p.GPUs, Walltime: p.Walltime, Sends: p.Sends}, nil
}

func wired(jobs []batch.Job) []Job {
	all := make([]Job, len(jobs))
	for i := range jobs {
		all[i] = toWire(&jobs[i])
	}
	return all
}

// WriteSubmitFile has the submit file of jobs written there, and returns its path.
func (f *Far) WriteSubmitFile(ctx context.Context, jobs []batch.Job) (string, error) {
	a, err := f.call(ctx, &Request{Verb: VerbWrite, Jobs: wired(jobs)})
	if err != nil {
		return "", err
	}
	return a.SubmitFile, nil
}

// Submit is that of batch.System.
func (f *Far) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	a, err := f.call(ctx, &Request{Verb: VerbSubmit, Jobs: wired(jobs), SubmitFile: submitFile})
	if err != nil {
		return nil, err
	}
	if len(a.IDs) != len(jobs) {
		return nil, fmt.Errorf("%s: %w: %d jobs handed in, %d ids came back", VerbSubmit, batch.ErrTransient, len(jobs), len(a.IDs))
	}
	return a.IDs, nil
}

// Status is that of batch.System.
func (f *Far) Status(ctx context.Context, known []batch.Known) ([]batch.Entry, error) {
	r := &Request{Verb: VerbStatus, Known: make([]Known, len(known))}
	for i, k := range known {
		r.Known[i] = Known{ID: k.ID, Name: batch.JobName(k.Launch), Index: k.Index}
	}
	a, err := f.call(ctx, r)
	if err != nil {
		return nil, batch.Unknown(err)
	}
	list, err := entries(*a.Jobs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: cannot understand its answer: %w", VerbStatus, batch.ErrTransient, err)
	}
	return list, nil
}

// Remove is that of batch.System.
func (f *Far) Remove(ctx context.Context, id batch.JobID) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("%s: %w: %w", VerbRemove, batch.ErrUnknownJob, err)
	}
	_, err := f.call(ctx, &Request{Verb: VerbRemove, ID: id})
	return err
}

// Clean is that of batch.System.
func (f *Far) Clean(ctx context.Context, id batch.JobID, directory string) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("%s: %w: %w", VerbClean, batch.ErrUnknownJob, err)
	}
	_, err := f.call(ctx, &Request{Verb: VerbClean, ID: id, Directory: directory})
	return err
}
