package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// trueTask is a dataset whose jobs are one real process each: /bin/true, in an
// attempt's directory, with its log, as any payload is run.
const trueTask = `version: "3"
title: no-op
tasks:
  - name: work
    requirements: {cpu: 1, memory: 0.01, disk: 0.01}
    trays: [{name: tray, modules: [{name: nothing, src: /bin/true}]}]
`

// compare runs /bin/true as tasks through floe (three coordinators with fsync, one
// real pilot), through Work Queue (one manager, nothing on disk, one worker) and
// through Slurm (a job array on one node), one after another on the same cores,
// each with as many slots as there are cores. The peer is the better of the two.
func compare(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "tasks/s", PeerIs: "the best of Work Queue and Slurm"}
	budget := 40 * time.Second
	if r.quick {
		budget = 8 * time.Second
	}
	floe, err := rateOfFloe(ctx, r, budget)
	if err != nil {
		return out, fmt.Errorf("rate of floe: %w", err)
	}
	queue, err := rateOfWorkQueue(ctx, r, budget)
	if err != nil {
		return out, fmt.Errorf("rate of Work Queue: %w", err)
	}
	slurm, err := rateOfSlurm(ctx, r, budget)
	if err != nil {
		return out, fmt.Errorf("rate of Slurm: %w", err)
	}
	spawn, err := rateOfSpawning(ctx, 2*time.Second)
	if err != nil {
		return out, fmt.Errorf("rate of a bare loop: %w", err)
	}
	fmt.Fprintf(r, "%-52s %10.1f tasks/s\n", "floe: three coordinators with fsync, one pilot", floe)
	fmt.Fprintf(r, "%-52s %10.1f tasks/s\n", "Work Queue: one manager in memory, one worker", queue)
	fmt.Fprintf(r, "%-52s %10.1f tasks/s\n", "Slurm: one controller, one node, a job array", slurm)
	fmt.Fprintf(r, "%-52s %10.1f tasks/s\n", "(a bare loop that starts /bin/true)", spawn)
	out.Value, out.Peer = floe, max(queue, slurm)
	out.Target = rounded(out.Peer) // no slower than what one would use instead
	out.Notes = append(out.Notes, fmt.Sprintf("%d slots each; Work Queue %.1f, Slurm %.1f, bare loop %.1f tasks/s", runtime.NumCPU(), queue, slurm, spawn))
	return out, nil
}

// installPeers installs what Debian has of the peers, where it is missing.
func installPeers(ctx context.Context) error {
	if _, err := os.Stat("/usr/include/cctools/work_queue.h"); err != nil {
		if err := installPackages(ctx, "coop-computing-tools", "coop-computing-tools-dev", "zlib1g-dev", "gcc", "libc6-dev"); err != nil {
			return err
		}
	}
	return slurmScript(ctx, "install")
}

func installPackages(ctx context.Context, names ...string) error {
	_ = exec.CommandContext(ctx, "apt-get", "update", "-qq").Run() // an old list may do
	c := exec.CommandContext(ctx, "apt-get", append([]string{"install", "-y", "-qq", "--no-install-recommends"}, names...)...)
	c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("install %s: %w: %s", strings.Join(names, " "), err, lastLine(text))
	}
	return nil
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// countEvery is how often tasks are counted: no person asks more often, and asking
// costs the cores that tasks run on.
const countEvery = time.Second

// progress counts how many tasks are done.
type progress func(context.Context) (int, error)

// steady is the rate between the first task that was seen done and the end of the
// budget, or of the tasks.
func steady(ctx context.Context, done progress, tasks int, budget time.Duration) (float64, error) {
	var first, last int
	var begin, end time.Time
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	late := time.NewTimer(budget + 30*time.Second) // nothing was done at all
	defer late.Stop()
	for begin.IsZero() || end.Sub(begin) < budget && last < tasks {
		select {
		case <-tick.C:
		case <-late.C:
			return 0, fmt.Errorf("%d of %d tasks done", last, tasks)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		n, err := done(ctx)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			continue
		}
		if begin.IsZero() {
			begin, first = time.Now(), n
		}
		if n > last {
			last, end = n, time.Now()
		}
	}
	if last == first {
		return 0, fmt.Errorf("all %d tasks were done at once: too few to measure", tasks)
	}
	return float64(last-first) / end.Sub(begin).Seconds(), nil
}

func rateOfFloe(ctx context.Context, r *run, budget time.Duration) (float64, error) {
	measured, err := measureTrue(ctx, r, trueTasks{coordinators: 3, isolation: "none", budget: budget}) // as its peer does without
	return measured.rate, err
}

func rateOfWorkQueue(ctx context.Context, r *run, budget time.Duration) (float64, error) {
	manager := filepath.Join(r.dir, "workqueue")
	build := exec.CommandContext(ctx, "gcc", "-O2", "-I/usr/include/cctools", "-o", manager, "scripts/benchmarks/peers/workqueue.c",
		"-lwork_queue", "-lchirp", "-ldttools", "-lz", "-lm", "-lpthread")
	if text, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build its manager: %w: %s", err, text)
	}
	m, err := startProcess(filepath.Join(r.dir, "workqueue.log"), nil, manager, fmt.Sprint(budget.Seconds()))
	if err != nil {
		return 0, err
	}
	defer m.kill()
	port := ""
	for port == "" {
		if _, err := fmt.Sscanf(m.said(), "port %s", &port); err != nil {
			pause(ctx, lookEvery)
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	w, err := startProcess(filepath.Join(r.dir, "worker.log"), nil, "work_queue_worker",
		"--cores", strconv.Itoa(runtime.NumCPU()), "--memory", "4000", "--disk", "4000", "--single-shot", "-t", "5", "-s", r.dir, "127.0.0.1", port)
	if err != nil {
		return 0, err
	}
	defer w.end(10 * time.Second)
	select {
	case <-m.ended:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	var done, failed int
	var took float64
	_, line, _ := strings.Cut(m.said(), "\n")
	if _, err := fmt.Sscanf(line, "done %d %f %d", &done, &took, &failed); err != nil || failed > 0 || took == 0 {
		return 0, fmt.Errorf("its manager said %q", m.said())
	}
	return float64(done-1) / took, nil
}

func slurmScript(ctx context.Context, verb string) error {
	c := exec.CommandContext(ctx, "scripts/batch-systems/slurm.sh", verb)
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("slurm.sh %s: %w: %s", verb, err, lastLine(text))
	}
	return nil
}

func rateOfSlurm(ctx context.Context, r *run, budget time.Duration) (rate float64, err error) {
	dir := filepath.Join(r.dir, "slurm")
	for name, value := range map[string]string{"FLOE_SLURM": dir, "FLOE_SLURM_PORT": "27817"} {
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
	}
	if err := slurmScript(ctx, "start"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, slurmScript(context.WithoutCancel(ctx), "stop")) }()
	script := filepath.Join(dir, "true.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n/bin/true\n"), 0o700); err != nil {
		return 0, err
	}
	const tasks = 10_000
	submit := exec.CommandContext(ctx, "sbatch", "--output=/dev/null", fmt.Sprintf("--array=1-%d", tasks), script)
	submit.Env = append(os.Environ(), "SLURM_CONF="+filepath.Join(dir, "slurm.conf"))
	if text, err := submit.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("sbatch: %w: %s", err, text)
	}
	return steady(ctx, func(context.Context) (int, error) {
		text, err := os.ReadFile(filepath.Join(dir, "log", "completed"))
		if err != nil && !os.IsNotExist(err) {
			return 0, err
		}
		return bytes.Count(text, []byte("\n")), nil
	}, tasks, budget)
}

// rateOfSpawning is a loop per core that starts /bin/true and waits for it.
func rateOfSpawning(ctx context.Context, d time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	counts := make(chan int)
	for range runtime.NumCPU() {
		go func() {
			n := 0
			for ; ctx.Err() == nil; n++ {
				_ = exec.CommandContext(ctx, "/bin/true").Run() // the last one is cut off
			}
			counts <- n
		}()
	}
	began, sum := time.Now(), 0
	for range runtime.NumCPU() {
		sum += <-counts
	}
	return float64(sum) / time.Since(began).Seconds(), nil
}
