package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// site is one namespace in which passes start pilots.
type site struct {
	name    string
	host    *host
	dir     string
	pilots  int // its cap
	trace   *trace
	program string
	env     []string

	mu    sync.Mutex
	most  int // guarded by mu: pilots that were seen at once
	begun int // guarded by mu: passes
}

// siteConfig is a site whose nodes have what the tasks ask for, and no more: the
// pilots share one machine with everything else.
const siteConfig = `[queue]
type = "local"
max_pilots = %[1]d
max_queued = %[1]d
per_pass = 10
cores = 1
memory = "300MB"
disk = "300MB"
walltime = "12h"
[system]
pilot = %[2]q
idle = "5m"
# Runs are counted by what payloads write beside their attempts.
isolation = "none"
[env]
GOMAXPROCS = "1"
`

// configure writes the site's file into the directory that floe site join made.
func (s *site) configure(pilot string) error {
	return os.WriteFile(filepath.Join(s.dir, "site.toml"), fmt.Appendf(nil, siteConfig, s.pilots, pilot), 0o600)
}

// passEvery is cron's interval here.
const passEvery = 3 * time.Second

// run makes passes, as cron would, until ctx ends; a pass under way is let end.
func (s *site) run(ctx context.Context) {
	log, err := os.OpenFile(filepath.Join(s.dir, "passes.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.trace.fail("%s: %v", s.name, err)
		return
	}
	defer log.Close()
	tick := time.NewTicker(passEvery)
	defer tick.Stop()
	for {
		c := exec.Command("ip", "netns", "exec", s.host.name, s.program, "glidein", "--config", filepath.Join(s.dir, "site.toml"), "--timeout", "30s")
		c.Env, c.Stdout, c.Stderr = s.env, log, log
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		_ = c.Run() // what went wrong is in the log; the next pass is soon
		s.count()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// living are the process ids of the site's pilots.
func (s *site) living() []int {
	var pids []int
	for _, pid := range s.host.processes() {
		// What a pilot forks has its name until it has become a payload.
		if command(pid) == "floe-pilot" && command(parent(pid)) != "floe-pilot" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// count notes how many pilots there are: never more than the cap (I-15).
func (s *site) count() {
	n := len(s.living())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun++
	s.most = max(s.most, n)
	if n > s.pilots {
		s.trace.fail("%s has %d pilots; its cap is %d", s.name, n, s.pilots)
	}
}

// end drains the site's pilots, and ends those that do not leave within the grace.
func (s *site) end(grace time.Duration) {
	for _, pid := range s.host.processes() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	for _, pid := range s.living() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	leaving, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	for len(s.living()) > 0 && leaving.Err() == nil {
		pause(leaving, 200*time.Millisecond)
	}
	for _, pid := range s.host.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
