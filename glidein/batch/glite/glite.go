package glite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"floe/glidein/batch"
)

// Middleware is how one of them is spoken to.
type Middleware struct {
	name string
	// submit, status, cancel, fetch and purge are commands without what follows: the
	// JDL file, ids, an id, a directory and an id, an id. purge may be empty.
	submit, status, cancel, fetch, purge []string
	// endpoint are the words of submit for queue.endpoint, or why it is wrong.
	endpoint func(endpoint string) ([]string, error)
	// account are the words of submit for an account; nil where the JDL says it.
	account func(account string) []string
	// id is a job, submitted the line that tells of a new one.
	id, submitted *regexp.Regexp
	parse         func(out []byte) (map[string]told, error)
	// refusals are what a submission is refused with, finished and unknown what a
	// cancellation of a job that has ended, or never was, is answered by, where that
	// is known; cancelled what is said when it was taken, empty where nothing is.
	refusals, finished, unknown []string
	cancelled                   string
	requirements                func(j *batch.Job) ([]attribute, error)
}

// told is what is said of a job.
type told struct {
	state  batch.State // 0: nothing that helps
	reason string
}

// System is one of these systems, as its tools on PATH know it.
type System struct {
	*Middleware
	tool     batch.Tool
	endpoint []string
}

// New returns the system of a middleware that endpoint names.
func New(tool batch.Tool, m *Middleware, endpoint string) (*System, error) {
	words, err := m.endpoint(endpoint)
	if err != nil {
		return nil, fmt.Errorf("queue.endpoint %q: %w", endpoint, err)
	}
	tool.System = m.name
	return &System{m, tool, words}, nil
}

// Properties implements batch.System.
func (s *System) Properties() batch.Properties { return batch.Properties{Name: s.name} }

// call runs a command with more words.
func (s *System) call(ctx context.Context, command []string, more ...string) (*batch.Answer, error) {
	return s.tool.Run(ctx, nil, command[0], append(slices.Clone(command[1:]), more...)...)
}

// Submit implements batch.System.
func (s *System) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	words := slices.Clone(s.endpoint)
	if s.account != nil && jobs[0].Account != "" {
		words = append(words, s.account(jobs[0].Account)...)
	}
	a, err := s.call(ctx, s.submit, append(words, submitFile)...)
	if err != nil {
		return nil, err
	}
	id, err := a.Submitted(s.submitted)
	if errors.Is(err, batch.ErrRefused) && !a.Mentions(s.refusals...) {
		err = a.Fail(batch.ErrTransient)
	}
	if err != nil {
		return nil, err
	}
	return []batch.JobID{batch.JobID(id)}, nil
}

// perCall bounds the jobs of one command.
const perCall = 100

// Status implements batch.System.
func (s *System) Status(ctx context.Context, known []batch.Known) ([]batch.Entry, error) {
	var ids []string
	for _, k := range known {
		if s.id.MatchString(string(k.ID)) {
			ids = append(ids, string(k.ID))
		}
	}
	states := map[string]told{}
	for some := range slices.Chunk(ids, perCall) {
		if err := s.ask(ctx, some, states); err != nil {
			return nil, batch.Unknown(err)
		}
	}
	var entries []batch.Entry
	for _, k := range known {
		t, asked := states[string(k.ID)]
		switch {
		case asked:
		case k.ID == "":
			continue // its submission was not answered
		default:
			t.state = batch.Ended // never one of its jobs
		}
		entries = append(entries, batch.Entry{ID: k.ID, Launch: k.Launch, Index: k.Index, State: t.state, Reason: t.reason})
	}
	return entries, nil
}

// ask notes the states of jobs. Those that an answer leaves out are asked about one
// by one: only so it is certain of whom an error speaks.
func (s *System) ask(ctx context.Context, ids []string, states map[string]told) error {
	a, err := s.call(ctx, s.status, ids...)
	if err != nil {
		return err
	}
	all, err := s.parse(slices.Concat(a.Stdout, []byte("\n"), a.Stderr))
	if err != nil {
		return a.Garbled(err.Error())
	}
	for _, id := range ids {
		t := all[id]
		switch {
		case t.state != 0:
			states[id] = t
		case len(ids) > 1:
			if err := s.ask(ctx, []string{id}, states); err != nil {
				return err
			}
		case all[""].state != 0: // said of no job by name, and one was asked about
			states[id] = all[""]
		case t.reason != "":
			return fmt.Errorf("%s: %w: %s", a.Command, batch.ErrTransient, t.reason)
		case a.Exit != 0:
			return a.Fail(batch.ErrTransient)
		default:
			return a.Garbled("nothing about job " + id)
		}
	}
	return nil
}

// Remove implements batch.System. What CREAM and the elements behind a broker send
// first, their batch systems decide.
func (s *System) Remove(ctx context.Context, id batch.JobID) error {
	if !s.id.MatchString(string(id)) {
		return fmt.Errorf("%s: remove %q: %w", s.name, id, batch.ErrUnknownJob)
	}
	a, err := s.call(ctx, s.cancel, string(id))
	switch {
	case err != nil:
		return err
	case a.Mentions(s.unknown...):
		return a.Fail(batch.ErrUnknownJob)
	case a.Mentions(s.finished...):
		return nil
	case a.Exit != 0:
		return a.Fail(batch.ErrTransient)
	case a.Mentions("couldn't cancel"):
		// Of the reasons only that it has ended is none to try again.
		states := map[string]told{}
		if err := s.ask(ctx, []string{string(id)}, states); err == nil && states[string(id)].state == batch.Ended {
			return nil
		}
		return a.Fail(batch.ErrTransient)
	case s.cancelled != "" && !a.Mentions(s.cancelled):
		return a.Garbled(a.Said())
	}
	return nil
}

// Clean implements batch.System. What the job printed is fetched where it can be; if
// not, that is no reason to keep the job.
func (s *System) Clean(ctx context.Context, id batch.JobID, directory string) error {
	if !s.id.MatchString(string(id)) {
		return fmt.Errorf("%s: clean %q: %w", s.name, id, batch.ErrUnknownJob)
	}
	if directory != "" {
		if err := s.output(ctx, id, directory); err != nil {
			return err
		}
	}
	if len(s.purge) == 0 {
		return nil
	}
	a, err := s.call(ctx, s.purge, string(id))
	if err == nil && a.Exit != 0 && !a.Mentions(s.unknown...) {
		err = a.Fail(batch.ErrTransient)
	}
	return err
}

// output fetches what a job printed, from below a directory that its tool makes.
func (s *System) output(ctx context.Context, id batch.JobID, directory string) error {
	dir, err := os.MkdirTemp(directory, "fetched-")
	if err != nil {
		return fmt.Errorf("%s: clean %s: %w", s.name, id, err)
	}
	defer os.RemoveAll(dir)
	a, err := s.call(ctx, s.fetch, dir, string(id))
	if err != nil {
		return err
	}
	found := ""
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() == batch.Output {
			found = path
		}
		return err
	}); err != nil {
		return fmt.Errorf("%s: clean %s: %w", s.name, id, err)
	}
	to := filepath.Join(directory, batch.Output)
	if found == "" {
		err = os.WriteFile(to, fmt.Appendf(nil, "floe: the output was not fetched: %s: %s\n", a.Command, a.Said()), 0o600)
	} else {
		err = os.Rename(found, to)
	}
	if err != nil {
		return fmt.Errorf("%s: clean %s: %w", s.name, id, err)
	}
	return nil
}

// firstWord cuts a state of several words, such as Done(Exit Code !=0).
func firstWord(s string) string {
	word, _, _ := strings.Cut(s, "(")
	word, _, _ = strings.Cut(strings.TrimSpace(word), " ")
	return word
}
