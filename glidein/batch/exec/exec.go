package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
	far    Far

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
	tool.System = "exec"
	s := &System{tool: tool, config: config, properties: batch.Properties{Name: "exec"}}
	s.far = Far{Settings: config.Settings, Run: s.run}
	return s, nil
}

// run runs the plugin once.
func (s *System) run(ctx context.Context, request []byte) (*batch.Answer, error) {
	s.trace("request: %s", request)
	a, err := s.tool.Run(ctx, bytes.NewReader(request), s.config.Command[0], s.config.Command[1:]...)
	if err != nil {
		s.trace("no answer: %v\n", err)
		return nil, err
	}
	s.trace("exit status %d: %s\n%s", a.Exit, bytes.TrimSpace(a.Stdout), a.Stderr)
	return a, nil
}

func (s *System) trace(format string, args ...any) {
	if s.config.Trace != nil {
		fmt.Fprintf(s.config.Trace, format, args...)
	}
}

// Ask asks the plugin for its properties, once it has answered no more.
func (s *System) Ask(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked {
		return nil
	}
	p, err := s.far.Properties(ctx)
	if err != nil {
		return err
	}
	if p.Name == "" {
		p.Name = "exec"
	}
	s.asked, s.properties = true, p
	return nil
}

// Properties implements batch.System. Of a plugin that does not answer they are that
// it can do nothing; Status says so.
func (s *System) Properties() batch.Properties {
	_ = s.Ask(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.properties
}

// WriteSubmitFile implements batch.System.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	file, err := s.far.WriteSubmitFile(context.Background(), jobs)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("%s: %s: submit_file: %w", VerbWrite, s.config.Command[0], err)
	}
	return file, nil
}

// Submit implements batch.System.
func (s *System) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	return s.far.Submit(ctx, jobs, submitFile)
}

// Status implements batch.System.
func (s *System) Status(ctx context.Context, known []batch.Known) ([]batch.Entry, error) {
	if err := s.Ask(ctx); err != nil {
		return nil, batch.Unknown(err)
	}
	return s.far.Status(ctx, known)
}

// Remove implements batch.System.
func (s *System) Remove(ctx context.Context, id batch.JobID) error { return s.far.Remove(ctx, id) }

// Clean implements batch.System.
func (s *System) Clean(ctx context.Context, id batch.JobID, directory string) error {
	return s.far.Clean(ctx, id, directory)
}
