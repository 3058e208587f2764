package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/pilot"
	"floe/pilot/hardware"
	"floe/protocol"
	"floe/protocol/transport"

	"github.com/spf13/cobra"
)

// siteDoctorCommand looks at all that a site needs, and tries it.
func siteDoctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "doctor", Short: "Look at all that a site needs, and try it by a real pilot job", Args: exactArgs(),
		Long: "Look at all that a site needs: its configuration, key and certificate, the ways out to each\n" +
			"coordinator, clocks, disks and quotas, batch commands and queues. Then submit one pilot job to each\n" +
			"queue: its pilot measures the node, runs a task of its own, registers, takes no task, and leaves.\n" +
			"Each line is ok, warn or bad, with what to do about it.\n\n" +
			"Exit code 1 if something is bad.",
		RunE: runDoctor,
	}
	f := c.Flags()
	f.String("config", "site.toml", "the site's configuration")
	f.StringSlice("queue", nil, "try these queues only")
	f.Bool("no-pilot", false, "submit nothing")
	f.Duration("timeout", 10*time.Minute, "how long a pilot job is waited for; then it is removed")
	outputFlag(c)
	return c
}

func runDoctor(c *cobra.Command, _ []string) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	file, _ := c.Flags().GetString("config")
	f := &findings{p: p}
	config, err := glidein.LoadConfig(file)
	if err != nil {
		f.bad("configuration", "mend the file; docs/sites.md has its keys", "%v", err)
	} else {
		f.ok("configuration", "%s", file)
		f.examine(c, config)
	}
	if _, err := p.value(f.all); err != nil {
		return err
	}
	bad, warned := f.count("bad"), f.count("warn")
	verdict := fmt.Sprintf("%d ok, %d to look at, %d bad", f.count("ok"), warned, bad)
	if !p.json {
		p.line("\n%s", verdict)
	}
	if bad > 0 {
		return withExit(exitFailure, errors.New("this site is not well: "+verdict))
	}
	return nil
}

// examine looks at everything, the cheap first.
func (f *findings) examine(c *cobra.Command, config *glidein.Config) {
	ctx := c.Context()
	logger := slog.New(slog.DiscardHandler)
	f.program(ctx, config)
	for _, place := range []struct{ what, dir string }{{"directory", config.Directory}, {"scratch", config.System.Scratch}, {"cache", config.System.Cache}} {
		f.disk(place.what, place.dir, config)
	}
	f.passes(config)
	well := true
	for _, q := range config.InUse() {
		before := f.count("bad")
		f.queue(ctx, config, q)
		f.cron(q)
		well = well && f.count("bad") == before
	}
	site, err := openSite(config.Directory, logger)
	if err != nil {
		f.bad("identity", "floe site join TOKEN --dir "+shellWord(config.Directory), "%v", err)
		return
	}
	defer site.Close()
	f.identity(site)
	if !f.waysOut(ctx, site) {
		return
	}
	f.coordinators(ctx, site)
	if no, _ := c.Flags().GetBool("no-pilot"); no {
		return
	}
	if !well {
		f.warn("pilot job", "mend what is bad above first", "none was submitted")
		return
	}
	pass := &glidein.Pass{Config: config, Coordinator: site, Logger: logger}
	if pass.Programs, err = site.programs(config, logger); err != nil {
		f.bad("pilot job", "mend publishers in site.toml", "%v", err)
		return
	}
	pass.Batch = func(q *glidein.Queue) (batch.System, error) { return newSystem(config, q) }
	limit, _ := c.Flags().GetDuration("timeout")
	names, _ := c.Flags().GetStringSlice("queue")
	queues := config.InUse()
	if len(names) > 0 {
		queues = nil
		for _, name := range names {
			q, err := config.Find(name)
			if err != nil {
				f.bad("pilot job", "", "%v", err)
				continue
			}
			queues = append(queues, q)
		}
	}
	for _, q := range queues {
		f.try(ctx, c.ErrOrStderr(), pass, q, limit)
	}
}

// disk looks at a directory on this machine; the nodes' own may differ.
func (f *findings) disk(what, dir string, config *glidein.Config) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		f.warn(what, "if the nodes have it, all is well: the pilot job says so", "%s cannot be made here: %v", dir, err)
		return
	}
	probe := filepath.Join(dir, ".floe-doctor")
	err := os.WriteFile(probe, []byte("#!/bin/sh\nexit 0\n"), 0o700)
	defer os.Remove(probe)
	if err != nil {
		f.bad(what, "let this user write there", "%s: %v", dir, err)
		return
	}
	if err := exec.Command(probe).Run(); err != nil && what != "cache" {
		f.bad(what, "mount it without noexec, or choose another in site.toml", "programs cannot be run in %s: %v", dir, err)
		return
	}
	free, err := hardware.Free(dir)
	if err != nil {
		f.bad(what, "make room", "%s: %v", dir, err)
		return
	}
	says := fmt.Sprintf("%s, %v free", dir, free)
	if left, bounded := hardware.Quota(dir); bounded {
		says += fmt.Sprintf(", %v left of a quota", left)
	}
	least := protocol.GB
	for _, q := range config.InUse() {
		if what == "scratch" {
			least = max(least, protocol.ByteSize(q.Disk))
		}
	}
	if free < least {
		f.warn(what, "make room, raise the quota, or choose another directory in site.toml", "%s, less than %v", says, least)
		return
	}
	f.ok(what, "%s", says)
}

// passes looks at whether cron makes them.
func (f *findings) passes(config *glidein.Config) {
	const late = 20 * time.Minute
	info, err := os.Stat(filepath.Join(config.Directory, "ledger.json"))
	switch {
	case err != nil:
		f.warn("passes", "add the line that floe site init prints to the crontab", "none was made yet")
	case time.Since(info.ModTime()) > late:
		f.warn("passes", "look at the crontab, and at passes.log in the directory", "the last one was %v ago", time.Since(info.ModTime()).Round(time.Minute))
	default:
		f.ok("passes", "the last one was %v ago", time.Since(info.ModTime()).Round(time.Second))
	}
}

// cron looks at whether a pass that cron makes would find what this shell does.
func (f *findings) cron(q *glidein.Queue) {
	env := cronEnvironment([]string{q.Type})
	if len(env) == 0 || len(batchTools[q.Type]) == 0 {
		return
	}
	var words []string
	for _, name := range append([]string{"PATH"}, batchVariables...) {
		if value := env[name]; value != "" {
			words = append(words, name+"="+shellWord(value))
		}
	}
	f.warn(q.Shape(), "see that the crontab's line begins with it, as floe site init prints it", "cron does not have %s", strings.Join(words, " "))
}

// identity looks at key and certificate.
func (f *findings) identity(site *siteLink) {
	file := filepath.Join(site.dir, siteKeyFile)
	leaf := site.cert.Load().Leaf
	left := time.Until(leaf.NotAfter)
	age := time.Since(leaf.NotBefore)
	info, err := os.Stat(file)
	switch {
	case err != nil:
		f.bad("key", "join again", "%v", err)
		return
	case info.Mode().Perm()&0o077 != 0:
		f.bad("key", "chmod 600 "+shellWord(file)+", and join again if others could read it", "%s: mode %v lets others read it", file, info.Mode().Perm())
	default:
		f.ok("key", "%s, %s old", file, days(time.Since(info.ModTime())))
	}
	switch {
	case left <= 0:
		f.bad("certificate", "ask for a new invitation and join again: floe site join TOKEN --dir "+shellWord(site.dir), "of site %s, it ended %s ago", site.known.Site, days(-left))
	case age < -time.Minute:
		f.bad("certificate", "set this machine's clock", "of site %s, it begins in %s by this clock", site.known.Site, days(-age))
	case left < (left+age)/3:
		f.warn("certificate", "passes renew it when half of its life is over: are there any?", "of site %s, it ends in %s", site.known.Site, days(left))
	default:
		f.ok("certificate", "of site %s, good for %s more", site.known.Site, days(left))
	}
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
}

// waysOut tries each rung of the ladder to each coordinator, and says whether one stood.
func (f *findings) waysOut(ctx context.Context, site *siteLink) (any bool) {
	refused := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("not tried") }
	base := transport.ClientConfig{
		Cluster: site.known.Cluster, Door: transport.DoorSite, Pins: []protocol.Digest{site.known.Pin},
		Certificate: func() (*tls.Certificate, error) { return site.cert.Load(), nil },
		UserAgent:   "floe-doctor/" + protocol.Version, Logger: slog.New(slog.DiscardHandler),
	}
	for _, address := range site.known.Addresses {
		base.Addresses = []string{address}
		quic, tcp, proxied := base, base, base
		quic.DialTCP = refused
		tcp.DisableQUIC, proxied.DisableQUIC = true, true
		proxied.Proxy = http.ProxyFromEnvironment
		ways := []struct {
			name   string
			config transport.ClientConfig
		}{{"QUIC", quic}, {"TCP", tcp}}
		if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: address}}); err == nil && proxy != nil {
			// The proxy alone: no socket to the coordinator itself.
			proxied.DialTCP = func(ctx context.Context, network, to string) (net.Conn, error) {
				if to == address {
					return nil, errors.New("not tried")
				}
				return new(net.Dialer).DialContext(ctx, network, to)
			}
			ways = append(ways, struct {
				name   string
				config transport.ClientConfig
			}{"proxy", proxied})
		}
		var stood, fell []string
		for _, way := range ways {
			if err := reach(ctx, way.config); err != nil {
				fell = append(fell, way.name+": "+err.Error())
			} else {
				stood = append(stood, way.name)
			}
		}
		any = any || len(stood) > 0
		switch {
		case len(stood) == 0:
			f.bad("way out", "let TCP or UDP out to that port, or set https_proxy in [env] and in cron's line", "to %s there is none: %s", address, strings.Join(fell, "; "))
		case len(fell) > 0:
			f.warn("way out", "nothing, unless it should be; the others are slower", "to %s by %s; not by %s", address, strings.Join(stood, ", "), strings.Join(fell, "; "))
		default:
			f.ok("way out", "to %s by %s", address, strings.Join(stood, ", "))
		}
	}
	return any
}

// reachWithin bounds one try of one way.
const reachWithin = 12 * time.Second

// reach makes one request by one way. What a coordinator refuses, it was reached for.
func reach(ctx context.Context, c transport.ClientConfig) error {
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	client, err := transport.NewClient(c)
	if err != nil {
		return err
	}
	defer client.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/openapi.json", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(ctx, r)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// Clocks further apart than this are told of; certificates and leases bear more.
const (
	clockWarn = 5 * time.Second
	clockBad  = 2 * time.Minute
)

// coordinators asks what they know of the site, and what the time is.
func (f *findings) coordinators(ctx context.Context, site *siteLink) {
	before := time.Now()
	reply, err := site.Launch(ctx, &protocol.LaunchRequest{Version: protocol.Version, Preview: true})
	if err != nil {
		f.bad("coordinators", "ask who looks after them", "%v", err)
		return
	}
	after := time.Now()
	f.ok("coordinators", "they run floe %s, this is %s", reply.Version, protocol.Version)
	for _, reason := range reply.Reasons {
		if strings.HasPrefix(reason, "nothing launched") {
			f.warn("coordinators", "ask an operator", "%s", reason)
		}
	}
	off := time.UnixMilli(reply.Now).Sub(before.Add(after.Sub(before) / 2)).Round(time.Millisecond)
	switch {
	case off.Abs() > clockBad:
		f.bad("clock", "set it, and let NTP keep it", "it is %v behind that of the coordinators", off)
	case off.Abs() > clockWarn+after.Sub(before):
		f.warn("clock", "let NTP keep it", "it is %v behind that of the coordinators", off)
	default:
		f.ok("clock", "within %v of that of the coordinators", (off.Abs() + after.Sub(before)/2).Round(time.Millisecond))
	}
}

// try submits a pilot job and follows it to its end.
func (f *findings) try(ctx context.Context, progress io.Writer, pass *glidein.Pass, q *glidein.Queue, limit time.Duration) {
	what := "pilot job"
	if q.Label != "" {
		what = q.Label
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	begun := time.Now()
	t, err := pass.Try(ctx, q)
	if err != nil {
		do := "floe site check --dry-run shows the submit file"
		var refused *protocol.Error
		if errors.As(err, &refused) {
			do = "ask an operator"
		}
		f.bad(what, do, "it could not be submitted: %v", err)
		return
	}
	fmt.Fprintf(progress, "submitted %s to %s; waiting at most %v\n", t.BatchID, q.Shape(), limit)
	last := batch.State(0)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		state, why, err := t.State(ctx)
		if err == nil && state != last {
			last = state
			fmt.Fprintf(progress, "%s: %v %s\n", t.BatchID, state, visible(why))
		}
		if err == nil && state == batch.Ended {
			break
		}
		select {
		case <-ctx.Done():
			removing, done := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer done()
			removed := t.Remove(removing)
			f.bad(what, "look at the queue; a longer --timeout waits for it", "%s is %v after %v, %s; removed%s", t.BatchID, last, limit, firstOf(why, "for no reason that the batch system gives"), because(removed))
			return
		case <-tick.C:
		}
	}
	f.judge(what, t, time.Since(begun))
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return " in vain: " + err.Error()
}

// judge reads what the pilot said.
func (f *findings) judge(what string, t *glidein.Trial, took time.Duration) {
	output, said, err := t.Output()
	var trial pilot.Trial
	if err == nil && said != nil {
		err = json.Unmarshal(said, &trial)
	}
	if err != nil {
		f.bad(what, "", "what %s printed cannot be read: %v", t.BatchID, err)
		return
	}
	if said == nil {
		f.bad(what, "see whether nodes have the pilot, the directory and a way out", "%s ended and its pilot never spoke; it printed: %s", t.BatchID, firstOf(lastLines(output), "nothing"))
		return
	}
	r := &trial.Resources
	node := fmt.Sprintf("%s has %d cores, %v of memory, %v of scratch disk, %d cards, %s", trial.Host, r.Cores, r.Memory, r.Disk, len(r.GPUs), r.OS)
	switch {
	case trial.Verdict != protocol.VerdictOK:
		f.bad(what, "a task of the pilot's own cannot run there: mend the node", "%s; verdict %v: %s", node, trial.Verdict, trial.Evidence)
	case trial.Pilot == "":
		f.bad(what, "let the nodes out to the coordinators, by https_proxy in [env] if need be", "%s; its pilot could not register: %s", node, lastLines(output))
	default:
		f.ok(what, "%s; a task ran, the pilot registered as %s by %s and left; %v in all", node, trial.Site, firstOf(trial.Way, "a way it did not say"), took.Round(time.Second))
	}
	if !trial.Isolated {
		f.warn(what, "allow unprivileged user namespaces on the nodes, or accept it", "payloads there are not isolated from each other")
	}
	for _, note := range trial.Notes {
		f.warn(what, "see docs/pilot.md", "%s", note)
	}
}

// lastLines is the end of an output, in one line.
func lastLines(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}
