package exec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"floe/glidein/batch"
)

// Config is how a site's plugin is called.
type Config struct {
	// Command is the program and its arguments.
	Command []string
	// Settings go into every request.
	Settings map[string]any
	// Trace is told of each request and its answer; nil is nobody.
	Trace io.Writer
}

// System is a batch system behind a plugin.
type System struct {
	tool   batch.Tool
	config Config

	mu         sync.Mutex
	asked      bool // properties are the plugin's own; guarded by mu
	properties batch.Properties
}

// New returns the batch system behind a plugin. The plugin is asked for its
// properties when they are needed.
func New(tool batch.Tool, config Config) (*System, error) {
	if len(config.Command) == 0 || config.Command[0] == "" {
		return nil, errors.New(`queue.exec.command: want a program and its arguments, such as ["/opt/site/plugin"]`)
	}
	if config.Settings == nil {
		config.Settings = map[string]any{}
	}
	tool.System = "exec"
	return &System{tool: tool, config: config, properties: batch.Properties{Name: "exec"}}, nil
}

// Ask asks the plugin for its properties, once it has answered no more.
func (s *System) Ask(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked {
		return nil
	}
	a, err := s.call(ctx, &Request{Verb: VerbProperties})
	if err != nil {
		return err
	}
	p := a.Properties
	s.asked, s.properties = true, batch.Properties{Name: p.Name, MaxArray: p.MaxArray, Lists: p.Lists, GPUs: p.GPUs, Walltime: p.Walltime}
	if p.Name == "" {
		s.properties.Name = "exec"
	}
	return nil
}

// call runs the plugin once.
func (s *System) call(ctx context.Context, r *Request) (*Answer, error) {
	r.Version, r.Settings = Version, s.config.Settings
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("exec: %s: queue.exec.settings: %w", r.Verb, err)
	}
	s.trace("request: %s\n", text)
	a, err := s.tool.Run(ctx, bytes.NewReader(append(text, '\n')), s.config.Command[0], s.config.Command[1:]...)
	if err != nil {
		s.trace("no answer: %v\n", err)
		return nil, fmt.Errorf("%s: %w", r.Verb, err)
	}
	s.trace("exit status %d: %s\n%s", a.Exit, bytes.TrimSpace(a.Stdout), a.Stderr)
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

func (s *System) trace(format string, args ...any) {
	if s.config.Trace != nil {
		fmt.Fprintf(s.config.Trace, format, args...)
	}
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

// Properties implements batch.System. Of a plugin that does not answer they are that
// it can do nothing; Status says so.
func (s *System) Properties() batch.Properties {
	_ = s.Ask(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.properties
}

func wired(jobs []batch.Job) []Job {
	all := make([]Job, len(jobs))
	for i := range jobs {
		all[i] = toWire(&jobs[i])
	}
	return all
}

// WriteSubmitFile implements batch.System.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	a, err := s.call(context.Background(), &Request{Verb: VerbWrite, Jobs: wired(jobs)})
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(a.SubmitFile); err != nil {
		return "", fmt.Errorf("%s: %s: submit_file: %w", VerbWrite, s.config.Command[0], err)
	}
	return a.SubmitFile, nil
}

// Submit implements batch.System.
func (s *System) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	a, err := s.call(ctx, &Request{Verb: VerbSubmit, Jobs: wired(jobs), SubmitFile: submitFile})
	if err != nil {
		return nil, err
	}
	if len(a.IDs) != len(jobs) {
		return nil, fmt.Errorf("%s: %s: %w: %d jobs handed in, %d ids came back", VerbSubmit, s.config.Command[0], batch.ErrTransient, len(jobs), len(a.IDs))
	}
	return a.IDs, nil
}

// Status implements batch.System.
func (s *System) Status(ctx context.Context, known []batch.Known) ([]batch.Entry, error) {
	if err := s.Ask(ctx); err != nil {
		return nil, unknown(err)
	}
	r := &Request{Verb: VerbStatus, Known: make([]Known, len(known))}
	for i, k := range known {
		r.Known[i] = Known{ID: k.ID, Name: batch.JobName(k.Launch), Index: k.Index}
	}
	a, err := s.call(ctx, r)
	if err != nil {
		return nil, unknown(err)
	}
	list, err := entries(*a.Jobs)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w: cannot understand its answer: %w", VerbStatus, s.config.Command[0], batch.ErrTransient, err)
	}
	return list, nil
}

// unknown is the error of a query: whatever its class, nothing is known of jobs.
func unknown(err error) error {
	if errors.Is(err, batch.ErrTransient) {
		return err
	}
	return fmt.Errorf("%w: %w", batch.ErrTransient, err)
}

// Remove implements batch.System.
func (s *System) Remove(ctx context.Context, id batch.JobID) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("%s: %w: %w", VerbRemove, batch.ErrUnknownJob, err)
	}
	_, err := s.call(ctx, &Request{Verb: VerbRemove, ID: id})
	return err
}

// Clean implements batch.System.
func (s *System) Clean(ctx context.Context, id batch.JobID, directory string) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("%s: %w: %w", VerbClean, batch.ErrUnknownJob, err)
	}
	_, err := s.call(ctx, &Request{Verb: VerbClean, ID: id, Directory: directory})
	return err
}
