package ssh

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/exec"
	"floe/protocol"

	"github.com/google/renameio/v2"
)

// Config is a batch system on another machine.
type Config struct {
	// Host is where, with the user perhaps, as ssh's configuration knows it.
	Host string
	// There is the site's directory there, from the home directory unless it is
	// absolute: of plain characters, as no shell takes for anything else. Directory is
	// the one here.
	There     string
	Directory string
	// Floe is the program that becomes the agent there, as Agent; Pilot the one that
	// jobs run, empty for none.
	Floe  string
	Agent []string
	Pilot string
	// Queue tells the agent of the batch system, see Serve.
	Queue json.RawMessage
	// Name is that of the batch system, in messages before it was asked.
	Name string
	// Mirror are files of Directory that are kept the same there, where they exist.
	Mirror []string
	// Spool is where reports go, here and there, below Directory; empty for none.
	Spool string
	// Options are arguments for ssh, before all others.
	Options []string
}

// System is a batch system on another machine.
type System struct {
	tool   batch.Tool
	config Config

	mu         sync.Mutex
	there      *there // nil until all is there; guarded by mu, as what follows
	agent      string // floe, below the directory there
	pilot      string // and floe-pilot
	properties batch.Properties
	files      map[string]string // submit files here, and there
}

// New returns the batch system that ssh reaches. Nothing is done before the first verb.
func New(tool batch.Tool, config Config) *System {
	tool.System = "ssh"
	return &System{tool: tool, config: config, properties: batch.Properties{Name: config.Name}, files: map[string]string{}}
}

// callTime is a little more than the agent has.
const callTime = agentTime + time.Minute

// send has the agent obey an order.
func (s *System) send(ctx context.Context, t *there, o *order) (*outcome, error) {
	o.Directory, o.Queue = t.directory, s.config.Queue
	text, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("ssh: %w", err)
	}
	command := fmt.Sprintf("sh -c 'cd && exec %s/%s %s'", s.config.There, s.agent, strings.Join(s.config.Agent, " "))
	tool := s.tool
	tool.Time = callTime
	a, err := s.ssh(ctx, tool, bytes.NewReader(text), command)
	if err != nil {
		return nil, err
	}
	result, err := parse(a.Stdout)
	if err != nil {
		return nil, fmt.Errorf("ssh %s: %w: exit status %d: %w: %s", s.config.Host, batch.ErrTransient, a.Exit, err, last(a.Stderr))
	}
	return result, nil
}

// far is the batch system there, in one order with other things.
func (s *System) far(t *there, o *order, result *outcome) *exec.Far {
	return &exec.Far{Run: func(ctx context.Context, request []byte) (*batch.Answer, error) {
		o.Request = request
		r, err := s.send(ctx, t, o)
		if err != nil {
			return nil, err
		}
		*result = *r
		return &batch.Answer{Command: s.config.Host, Stdout: r.Answer, Stderr: []byte(r.Said), Exit: r.Exit}, nil
	}}
}

// askProperties asks the batch system there what it can do.
func (s *System) askProperties(ctx context.Context) error {
	p, err := s.far(s.there, &order{}, new(outcome)).Properties(ctx)
	if err != nil {
		s.there = nil
		return err
	}
	p.Name = cmp.Or(p.Name, s.config.Name)
	p.Sends, p.Directory = false, s.there.directory // files travel inside of an order
	if s.pilot != "" {
		p.Pilot = filepath.Join(s.there.directory, s.pilot)
	}
	s.properties = p
	return nil
}

// place is where we are there.
func (s *System) place(ctx context.Context) (*there, error) {
	if err := s.arrive(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.there, nil
}

// Properties implements batch.System. Of a machine that does not answer they are that
// it can do nothing; Status says so.
func (s *System) Properties() batch.Properties {
	_ = s.arrive(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.properties
}

// moved are jobs as they are there.
func moved(t *there, jobs []batch.Job) []batch.Job {
	all := make([]batch.Job, len(jobs))
	for i, j := range jobs {
		j.Directory = filepath.Join(t.directory, jobName(j.Directory))
		j.Script = filepath.Join(j.Directory, filepath.Base(j.Script))
		all[i] = j
	}
	return all
}

// WriteSubmitFile implements batch.System: the jobs' files go there, and what is
// written there comes back as a copy.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	ctx := context.Background()
	t, err := s.place(ctx)
	if err != nil {
		return "", err
	}
	var o order
	for i := range jobs {
		files, err := inside(&jobs[i])
		if err != nil {
			return "", fmt.Errorf("ssh: %w", err)
		}
		o.Place = append(o.Place, files...)
	}
	file, err := s.far(t, &o, new(outcome)).WriteSubmitFile(ctx, moved(t, jobs))
	if err != nil {
		return "", err
	}
	name, err := filepath.Rel(t.directory, file)
	if err != nil || !filepath.IsLocal(name) {
		return "", fmt.Errorf("ssh: %s: its submit file is %s, not below %s", s.config.Host, file, t.directory)
	}
	result, err := s.send(ctx, t, &order{Fetch: []string{name}})
	if err != nil {
		return "", err
	}
	if len(result.Files) != 1 {
		return "", fmt.Errorf("ssh: %s: its submit file %s is not there", s.config.Host, file)
	}
	here := filepath.Join(jobs[0].Directory, filepath.Base(file))
	if err := renameio.WriteFile(here, result.Files[0].Data, 0o600); err != nil {
		return "", fmt.Errorf("ssh: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[here] = file
	return here, nil
}

// Submit implements batch.System.
func (s *System) Submit(ctx context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	t, err := s.place(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	file := cmp.Or(s.files[submitFile], filepath.Join(t.directory, jobName(jobs[0].Directory), filepath.Base(submitFile)))
	s.mu.Unlock()
	return s.far(t, &order{}, new(outcome)).Submit(ctx, moved(t, jobs), file)
}

// Status implements batch.System. Known jobs that are not there any more are listed
// as ended, so that what they printed is fetched.
func (s *System) Status(ctx context.Context, known []batch.Known) ([]batch.Entry, error) {
	t, err := s.place(ctx)
	if err != nil {
		return nil, batch.Unknown(err)
	}
	o := order{Spool: s.config.Spool}
	for _, name := range s.config.Mirror {
		b, err := os.ReadFile(filepath.Join(s.config.Directory, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ssh: %w: %w", batch.ErrTransient, err)
		}
		o.Place = append(o.Place, file{Name: name, Mode: 0o600, Data: b})
	}
	var result outcome
	entries, err := s.far(t, &o, &result).Status(ctx, known)
	if err != nil {
		return nil, err
	}
	if err := s.collect(ctx, t, result.Spool); err != nil {
		return nil, batch.Unknown(err)
	}
	type place struct {
		launch protocol.LaunchID
		index  int
	}
	listed := map[place]bool{}
	for _, e := range entries {
		listed[place{e.Launch, e.Index}] = true
	}
	for _, k := range known {
		if !listed[place{k.Launch, k.Index}] {
			entries = append(entries, batch.Entry{ID: k.ID, Launch: k.Launch, Index: k.Index, State: batch.Ended})
		}
	}
	return entries, nil
}

// collect keeps reports here, and then removes them there.
func (s *System) collect(ctx context.Context, t *there, reports []file) error {
	var drop []string
	dir := filepath.Join(s.config.Directory, s.config.Spool)
	for i := range reports {
		f := &reports[i]
		if filepath.Base(f.Name) != f.Name || !strings.HasSuffix(f.Name, reportSuffix) {
			return fmt.Errorf("ssh: %s: %q is no report's name", s.config.Host, f.Name)
		}
		if err := put(dir, f); err != nil {
			return fmt.Errorf("ssh: keep report: %w", err)
		}
		drop = append(drop, filepath.Join(s.config.Spool, f.Name))
	}
	if len(drop) == 0 {
		return nil
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("ssh: keep reports: %w", err)
	}
	_, err := s.send(ctx, t, &order{Drop: drop})
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Remove implements batch.System.
func (s *System) Remove(ctx context.Context, id batch.JobID) error {
	t, err := s.place(ctx)
	if err != nil {
		return err
	}
	return s.far(t, &order{}, new(outcome)).Remove(ctx, id)
}

// printed is the file that systems write what they print themselves to.
var printed = []string{batch.Output, filepath.Base(batch.SystemOutput([]batch.Job{{}}))}

// Clean implements batch.System: what the job printed is fetched, its directory there
// is removed.
func (s *System) Clean(ctx context.Context, id batch.JobID, directory string) error {
	t, err := s.place(ctx)
	if err != nil {
		return err
	}
	var o order
	var result outcome
	name, far := "", ""
	if directory != "" {
		name = jobName(directory)
		far = filepath.Join(t.directory, name)
		for _, p := range printed {
			o.Fetch = append(o.Fetch, filepath.Join(name, p))
		}
		o.Drop = []string{name}
	}
	if id == "" { // its submission was not answered
		r, sendErr := s.send(ctx, t, &o)
		if err = sendErr; err == nil {
			result = *r
		}
	} else {
		err = s.far(t, &o, &result).Clean(ctx, id, far)
	}
	for i := range result.Files {
		f := &result.Files[i]
		if f.Cut > 0 {
			f.Data = append(fmt.Appendf(nil, "(floe: %d bytes before this were not fetched)\n", f.Cut), f.Data...)
		}
		if f.Name = filepath.Base(f.Name); !slices.Contains(printed, f.Name) {
			continue // nobody asked for it
		}
		if putErr := put(directory, f); putErr != nil {
			return fmt.Errorf("ssh: clean %s: %w", id, putErr)
		}
	}
	if errors.Is(err, batch.ErrUnknownJob) && directory != "" {
		return nil // the batch system has forgotten it by itself
	}
	return err
}
