package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/glidein/unmonitored"
	"floe/protocol"
	"floe/protocol/steering"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

// Files of a run's directory, beside the ledger and a directory per job.
const (
	runPlanFile     = "run.json"
	runSiteFile     = "site.toml"
	runSteeringFile = "steering"
	runProgramFile  = "floe"
	runModulesDir   = "modules"
	runSpecFile     = "job.json"
)

// runPlan is what was asked for.
type runPlan struct {
	// ID tells this directory from others of its name on other machines.
	ID      string               `json:"id"`
	File    string               `json:"file"`
	Dataset protocol.DatasetID   `json:"dataset"`
	Jobs    uint32               `json:"jobs_submitted"`
	Seed    uint64               `json:"seed"`
	Options map[string]string    `json:"options,omitempty"`
	System  map[string]string    `json:"system,omitempty"`  // beside what site.toml says
	Queue   string               `json:"queue,omitempty"`   // of site.toml, where it has several
	Program string               `json:"program,omitempty"` // on the nodes; empty is the copy
	Modules []protocol.ModulePin `json:"modules,omitempty"` // external ones, fetched
	Made    time.Time            `json:"made"`
}

// jobSpec is what a batch job is told of its job.
type jobSpec struct {
	Run    string            `json:"run"` // its directory, which the node may see
	Launch protocol.LaunchID `json:"launch"`
	Job    protocol.JobIndex `json:"job"`
	Cores  int               `json:"cores"`
	Memory protocol.ByteSize `json:"memory,omitempty"`
	GPUs   int               `json:"gpus,omitempty"`
	Limit  protocol.Seconds  `json:"walltime_seconds,omitempty"`
	System map[string]string `json:"system,omitempty"`
	// Scratch and Cache are the site's; empty is the node's and the run's own.
	Scratch string  `json:"scratch,omitempty"`
	Cache   string  `json:"cache,omitempty"`
	Plan    runPlan `json:"plan"`
}

// runDir is a run's directory and what is in it.
type runDir struct {
	path   string
	plan   runPlan
	doc    *steering.Document
	config *glidein.Config
	queue  *glidein.Queue
	system batch.System
	tasks  []steering.PlannedTask
}

func (d *runDir) file(name string) string { return filepath.Join(d.path, name) }

// make writes all files but the ledger.
func (d *runDir) make(c *cobra.Command, site, text []byte) error {
	if there, err := os.ReadDir(d.path); err == nil && len(there) > 0 {
		return usageErrorf("%s: it is not empty; another --dir, or floe run status %[1]s", d.path)
	}
	uses, problems := steering.Externals(d.doc, steering.CompileInput{Dataset: d.plan.Dataset, JobCount: d.plan.Jobs, Seed: d.plan.Seed, Options: d.plan.Options})
	modules, closed, err := fetchModules(c, steering.NewSource(d.plan.File, text), uses, problems)
	if err != nil {
		return err
	}
	defer closed()
	if err := os.MkdirAll(d.file(runModulesDir), 0o700); err != nil {
		return withExit(exitFailure, err)
	}
	for _, m := range modules {
		d.plan.Modules = append(d.plan.Modules, m.ModulePin)
		if err := copyFile(m.File, filepath.Join(d.file(runModulesDir), m.Digest.Hex()), 0o600); err != nil {
			return withExit(exitFailure, err)
		}
	}
	if d.plan.Program == "" {
		err = copyFile("/proc/self/exe", d.file(runProgramFile), 0o700)
	}
	return withExit(exitFailure, errors.Join(err,
		renameio.WriteFile(d.file(runSteeringFile), text, 0o600),
		renameio.WriteFile(d.file(runSiteFile), site, 0o600),
		writeJSON(d.file(runPlanFile), d.plan)))
}

// unmake removes what make has made, when it turns out that there is nothing to run.
func (d *runDir) unmake() error { return os.RemoveAll(d.path) }

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, append(b, '\n'), 0o600)
}

// open reads the site's configuration and reaches the batch system. asked is the type
// that a person asked for; empty takes what is there.
func (d *runDir) open(asked string) error {
	var err error
	if d.config, err = glidein.LoadForJobs(d.file(runSiteFile)); err != nil {
		return withExit(exitUsage, err)
	}
	if d.queue, err = d.config.Find(d.plan.Queue); err != nil {
		return usageErrorf("%s: %v", d.file(runSiteFile), err)
	}
	if asked != "" && d.queue.Type != asked {
		return usageErrorf("--batch %s: the configuration's queue is of the type %q", asked, d.queue.Type)
	}
	if d.queue.SSH != "" {
		return usageErrorf("%s: the batch system of %s is behind ssh, which passes alone can use: call floe run on %s", d.file(runSiteFile), d.queue.Section(), d.queue.SSH.Host())
	}
	// A site's own directory has the jobs of its passes.
	d.config.Directory = d.path
	d.system, err = newSystem(d.config, d.queue)
	return err
}

// openRun opens a run that was made earlier. The caller closes it.
func openRun(path string) (*runDir, *unmonitored.Run, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	d := &runDir{path: path}
	run, err := unmonitored.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, withExit(exitNotFound, err)
	}
	if err != nil {
		return nil, nil, withExit(exitFailure, err)
	}
	b, err := os.ReadFile(d.file(runPlanFile))
	if err == nil {
		err = json.Unmarshal(b, &d.plan)
	}
	if err == nil {
		err = d.open("")
	}
	if err != nil {
		return nil, nil, errors.Join(err, run.Close())
	}
	return d, run, nil
}

// read parses the steering file of a run that was made earlier.
func (d *runDir) read(c *cobra.Command) error {
	text, err := os.ReadFile(d.file(runSteeringFile))
	if err != nil {
		return withExit(exitFailure, err)
	}
	doc, problems := steering.Parse(d.plan.File, text)
	if problems.HasErrors() {
		return withExit(exitFailure, problems)
	}
	d.doc = doc
	return d.check(c.ErrOrStderr())
}

// startScript is what the batch system runs; %[1]s are variables, %[2]s the program.
const startScript = `#!/bin/sh
umask 077
%[1]sprogram=%[2]s
[ -x "$program" ] || { program=./` + runProgramFile + `; [ -f "$program" ] && chmod u+x "$program"; }
exec "$program" run job ` + runSpecFile + `
`

// prepare implements unmonitored.Prepare.
func (d *runDir) prepare(j *unmonitored.Job, dir string) (batch.Job, error) {
	asked, err := d.needs(j.Job)
	if err != nil {
		return batch.Job{}, err
	}
	system := d.config.SystemValues(d.queue)
	maps.Copy(system, d.plan.System)
	spec := jobSpec{
		Run: d.path, Launch: j.Launch, Job: j.Job, Plan: d.plan, System: system,
		Cores: asked.Cores, Memory: asked.Memory, GPUs: asked.GPUs, Limit: protocol.SecondsOf(asked.Walltime),
		Scratch: d.config.System.Scratch, Cache: d.config.System.Cache,
	}
	if err := writeJSON(filepath.Join(dir, runSpecFile), spec); err != nil {
		return batch.Job{}, err
	}
	// Systems without a shared file system send these along.
	files := map[string]string{runSteeringFile: d.file(runSteeringFile)}
	for _, m := range d.plan.Modules {
		files[m.Digest.Hex()] = filepath.Join(d.file(runModulesDir), m.Digest.Hex())
	}
	program := d.plan.Program
	if program == "" {
		if program = d.file(runProgramFile); d.system.Properties().Sends {
			files[runProgramFile] = program
		}
	}
	asked.Files = []string{runSpecFile}
	for name, from := range files {
		if err := os.Symlink(from, filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return batch.Job{}, err
		}
		asked.Files = append(asked.Files, name)
	}
	slices.Sort(asked.Files)
	var variables bytes.Buffer
	names := make([]string, 0, len(d.config.Env))
	for name := range d.config.Env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&variables, "%s=%s\nexport %[1]s\n", name, batch.Quote(d.config.Env[name]))
	}
	asked.Script = filepath.Join(dir, "job.sh")
	q := d.queue
	asked.Priority, asked.Queue, asked.Account, asked.Directives = q.Priority, q.Name, q.Account, q.Directives
	return asked, os.WriteFile(asked.Script, fmt.Appendf(nil, startScript, variables.String(), batch.Quote(program)), 0o700)
}

// filesTime is what a batch job gets beside the time of its tasks.
const filesTime = 10 * time.Minute

// needs is what a job asks of the batch system: what the configuration says, otherwise
// what its tasks ask for, the largest at a time, one after another.
func (d *runDir) needs(job protocol.JobIndex) (batch.Job, error) {
	q := d.queue
	var b batch.Job
	timed := true
	for i := range d.tasks {
		t := &d.tasks[i]
		r := classOf(t, job)
		if r.GPUs > q.GPUs {
			// Rather without cards than with more than were said.
			if at := slices.IndexFunc(r.Alternatives, func(a protocol.Requirements) bool { return a.GPUs <= q.GPUs }); at >= 0 {
				r = r.Alternatives[at]
			}
		}
		var lacks []string
		lack := func(there bool, format string, args ...any) {
			if there {
				lacks = append(lacks, fmt.Sprintf(format, args...))
			}
		}
		lack(q.Cores > 0 && r.Cores > q.Cores, "%d cores, not %d", r.Cores, q.Cores)
		lack(q.GPUs > 0 && r.GPUs > q.GPUs, "%d cards, not %d", r.GPUs, q.GPUs)
		lack(q.Memory > 0 && r.Memory > protocol.ByteSize(q.Memory), "%v of memory, not %v", r.Memory, protocol.ByteSize(q.Memory))
		lack(q.Disk > 0 && r.Disk > protocol.ByteSize(q.Disk), "%v of disk, not %v", r.Disk, protocol.ByteSize(q.Disk))
		lack(q.Walltime > 0 && r.Walltime.Duration() > time.Duration(q.Walltime), "%v, not %v", r.Walltime.Duration(), time.Duration(q.Walltime))
		if len(lacks) > 0 {
			return b, fmt.Errorf("task %s asks for %s: the batch job would be too small; change it in %s", t.Name, strings.Join(lacks, ", "), d.file(runSiteFile))
		}
		b.Cores, b.GPUs = max(b.Cores, r.Cores, 1), max(b.GPUs, r.GPUs)
		b.Memory, b.Disk = max(b.Memory, r.Memory), max(b.Disk, r.Disk)
		b.Walltime += r.Walltime.Duration()
		timed = timed && r.Walltime > 0
	}
	if b.Walltime += filesTime; !timed {
		b.Walltime = 0
	}
	set := func(there bool, f func()) {
		if there {
			f()
		}
	}
	set(q.Cores > 0, func() { b.Cores = q.Cores })
	set(q.GPUs > 0, func() { b.GPUs = q.GPUs })
	set(q.Memory > 0, func() { b.Memory = protocol.ByteSize(q.Memory) })
	set(q.Disk > 0, func() { b.Disk = protocol.ByteSize(q.Disk) })
	set(q.Walltime > 0, func() { b.Walltime = time.Duration(q.Walltime) })
	return b, nil
}

// classOf is what a task of a job asks for.
func classOf(t *steering.PlannedTask, job protocol.JobIndex) protocol.Requirements {
	for _, c := range t.Classes {
		for _, r := range c.Jobs {
			if r.First <= job && job <= r.Last {
				return c.Requirements
			}
		}
	}
	return t.Classes[0].Requirements
}
