package glidein

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/glidein/batch"
	"floe/protocol"
)

func (p *Pass) jobDir(l protocol.LaunchID) string {
	return filepath.Join(p.Config.Directory, "jobs", batch.JobName(l))
}

// knownDir is the directory of a pilot job, empty when this site did not make it.
func (p *Pass) knownDir(l protocol.LaunchID) string {
	if _, err := os.Stat(p.jobDir(l)); err != nil {
		return ""
	}
	return p.jobDir(l)
}

// keptEnded is how many directories of ended pilot jobs stay for people to look at.
const keptEnded = 50

// retire takes the directory of a pilot job that has ended out of the way, without
// its ticket, and forgets those that ended long before.
func (p *Pass) retire(l protocol.LaunchID) error {
	dir := p.knownDir(l)
	if dir == "" {
		return nil
	}
	ended := filepath.Join(p.Config.Directory, "ended")
	if err := os.MkdirAll(ended, 0o700); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, ticketFile)), os.RemoveAll(filepath.Join(dir, relayPassFile))); err != nil {
		return err
	}
	to := filepath.Join(ended, batch.JobName(l))
	if err := errors.Join(os.RemoveAll(to), os.Rename(dir, to), os.Chtimes(to, time.Now(), time.Now())); err != nil {
		return err
	}
	all, err := os.ReadDir(ended)
	if err != nil || len(all) <= keptEnded {
		return err
	}
	when := func(e os.DirEntry) time.Time {
		info, err := e.Info()
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(all, func(a, b os.DirEntry) int { return when(a).Compare(when(b)) })
	for _, e := range all[:len(all)-keptEnded] {
		err = errors.Join(err, os.RemoveAll(filepath.Join(ended, e.Name())))
	}
	return err
}

// ticketFile is the ticket, beside the script.
const ticketFile = "ticket"

// prepare makes the directory of a pilot job: the ticket, readable by the owner
// alone, and the script that becomes the pilot.
func (p *Pass) prepare(q *line, g protocol.LaunchGrant) (batch.Job, error) {
	dir := p.jobDir(g.Launch)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return batch.Job{}, err
	}
	if err := os.WriteFile(filepath.Join(dir, ticketFile), []byte(g.Ticket+"\n"), 0o600); err != nil {
		return batch.Job{}, err
	}
	if err := WritePolicy(dir, p.policy); err != nil {
		return batch.Job{}, err
	}
	secrets, err := p.relayPass(dir, g.Launch, q.Walltime)
	if err != nil {
		return batch.Job{}, err
	}
	script := filepath.Join(dir, "pilot.sh")
	if err := os.WriteFile(script, []byte(p.script(q, g.Launch)), 0o700); err != nil {
		return batch.Job{}, err
	}
	return batch.Job{
		Launch: g.Launch, Directory: dir, Script: script, Files: append(secrets, ticketFile, PolicyFile),
		Cores: q.Cores, Memory: protocol.ByteSize(q.Memory), Disk: protocol.ByteSize(q.Disk), GPUs: q.GPUs,
		Walltime: time.Duration(q.Walltime), Priority: q.Priority,
		Queue: q.Name, Account: q.Account, Directives: q.Directives,
	}, nil
}

// script is what the batch system runs: plain sh, nothing else needed.
func (p *Pass) script(q *line, launch protocol.LaunchID) string {
	c := p.Config
	var b strings.Builder
	fmt.Fprintf(&b, "#!/bin/sh\n# floe pilot job %s\numask 077\n", launch)
	names := make([]string, 0, len(c.Env))
	for name := range c.Env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%s=%s\nexport %s\n", name, batch.Quote(c.Env[name]), name)
	}
	properties := q.system.Properties()
	// What lies in our directory is in one of their own where jobs do not see it.
	there := func(path string) string {
		below, err := filepath.Rel(c.Directory, path)
		if properties.Directory == "" || err != nil || !filepath.IsLocal(below) {
			return path
		}
		return filepath.Join(properties.Directory, below)
	}
	args := []string{
		"--ticket-file", ticketFile, // the job starts where it is
		"--launch", string(launch),
		"--scratch", there(c.System.Scratch),
		"--cache", there(c.System.Cache),
		"--spool", there(p.SpoolDir()),
		"--site-addresses", there(filepath.Join(c.Directory, addressesFile)),
		"--cores", fmt.Sprint(q.Cores),
		"--idle", time.Duration(c.System.Idle).String(),
		"--isolation", c.System.Isolation,
		"--hide", there(c.Directory), // the site's identity is in it
		// That of the site's directory may change; where nodes do not see it, this is it.
		"--policy", there(filepath.Join(c.Directory, PolicyFile)), "--policy", PolicyFile,
		"--site-log", there(c.SiteLog()),
	}
	if n := p.networkShare(); n > 0 {
		args = append(args, "--network", fmt.Sprint(int64(n)))
	}
	if c.System.CacheQuota > 0 {
		args = append(args, "--cache-quota", fmt.Sprint(int64(c.System.CacheQuota)))
	}
	if c.System.CacheShare {
		args = append(args, "--cache-share")
	}
	for _, d := range c.System.CacheFrom {
		args = append(args, "--cache-from", d)
	}
	if c.System.SiteCache != "" {
		args = append(args, "--site-cache", c.System.SiteCache)
	}
	args = append(args, c.System.relayArgs()...)
	for _, d := range c.System.Writable {
		args = append(args, "--writable", d)
	}
	for _, key := range c.System.Publishers {
		args = append(args, "--publisher", key)
	}
	args = append(args, valueArguments(c.SystemValues(q.Queue))...)
	if c.System.Workstation {
		args = append(args, "--workstation")
	}
	if q.Memory > 0 {
		args = append(args, "--memory", fmt.Sprint(int64(q.Memory)))
	}
	if q.MaxOutput > 0 {
		args = append(args, "--max-output", fmt.Sprint(int64(q.MaxOutput)))
	}
	if q.Disk > 0 {
		args = append(args, "--disk", fmt.Sprint(int64(q.Disk)))
	}
	for _, tag := range q.Tags {
		args = append(args, "--tag", tag)
	}
	if c.System.GPUTest != "" {
		args = append(args, "--gpu-test", c.System.GPUTest)
	}
	for _, card := range c.System.Cards {
		args = append(args, "--card", card)
	}
	if p.trial {
		args = append(args, "--trial")
	}
	// A batch system that enforces its walltime tells the pilot itself.
	if !properties.Walltime {
		args = append(args, "--walltime", time.Duration(q.Walltime).String())
	}
	fmt.Fprintf(&b, "exec %s", batch.Quote(cmp.Or(properties.Pilot, there(cmp.Or(q.program, c.System.Pilot)))))
	for _, a := range args {
		b.WriteString(" " + batch.Quote(a))
	}
	b.WriteString("\n")
	return b.String()
}

// SpoolDir is where pilots of this site leave reports they could not deliver.
func (p *Pass) SpoolDir() string { return filepath.Join(p.Config.Directory, "spool") }

// dryRun writes the submit files of jobs that are not submitted, one for each queue.
func (p *Pass) dryRun(stations []*station, result *Result) error {
	room, bound := p.siteRoom(result)
	if bound != "" {
		result.Reasons = append(result.Reasons, fmt.Sprintf("room for %d more pilot jobs in all, by %s", room, bound))
	}
	for _, s := range stations {
		for _, l := range s.lines {
			name := protocol.LaunchID("dry-run")
			if l.Label != "" {
				name += "-" + protocol.LaunchID(l.Label)
			}
			job, err := p.prepare(l, protocol.LaunchGrant{Launch: name, Shape: l.Shape(), Ticket: "(a ticket comes with a launch lease)"})
			if err != nil {
				return err
			}
			file, err := l.system.WriteSubmitFile([]batch.Job{job})
			if err != nil {
				return err
			}
			result.SubmitFiles = append(result.SubmitFiles, file)
			result.Reasons = append(result.Reasons, fmt.Sprintf("room for %d more pilot jobs of shape %s, by %s", l.result.Room, l.Shape(), l.result.Bound))
		}
	}
	return nil
}

// offer is the shape of one pilot job.
func (l *line) offer() protocol.Resources {
	q := l.Queue
	o := protocol.Resources{
		Cores: q.Cores, Memory: protocol.ByteSize(q.Memory), Disk: protocol.ByteSize(q.Disk),
		Remaining: protocol.SecondsOf(time.Duration(q.Walltime)),
	}
	o.OS, o.Tags = q.OS, q.Tags
	for i := range q.GPUs {
		// Whether a card is sound, the pilot finds out on the node.
		o.GPUs = append(o.GPUs, protocol.GPU{ID: fmt.Sprint(i), Memory: protocol.ByteSize(q.GPUMemory), Capability: q.GPUCapability, Tested: true})
	}
	return o
}
