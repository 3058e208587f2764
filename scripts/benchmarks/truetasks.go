package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

// truetasks runs /bin/true as tasks of one job each through one pilot with as many
// slots as there are cores, and one coordinator with fsync on the same cores: leases,
// an attempt's directory, isolation as it is by default, supervision, the log in the
// blob store, signed reports in the spool. Its peer starts /bin/true as often as it
// can, as many at once as there are cores, each in a session and a directory of its
// own, with a log file, and removes the directory.
func truetasks(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "ratio", Target: 0.6, PeerIs: "the bare loop", Peer: 1}
	budget := 20 * time.Second
	if r.quick {
		budget = 6 * time.Second
	}
	bare, err := spawnLoop(ctx, r, budget/4)
	if err != nil {
		return out, fmt.Errorf("bare loop: %w", err)
	}
	fmt.Fprintf(r, "%-40s %8.1f tasks/s %6.2f ms of processor per task\n", "bare loop", bare.rate, millisOf(bare.cpu))
	out.Notes = append(out.Notes, fmt.Sprintf("%d at once; bare loop %.0f tasks/s, %.2f ms CPU", runtime.NumCPU(), bare.rate, millisOf(bare.cpu)))
	for _, isolation := range []string{"none", "auto"} {
		m, err := measureTrue(ctx, r, trueTasks{coordinators: 1, isolation: isolation, budget: budget, name: isolation})
		if err != nil {
			return out, fmt.Errorf("isolation %s: %w", isolation, err)
		}
		// The machine may be slower now than a minute ago.
		again, err := spawnLoop(ctx, r, budget/4)
		if err != nil {
			return out, fmt.Errorf("bare loop: %w", err)
		}
		out.Value = m.rate / again.rate
		fmt.Fprintf(r, "%-40s %8.1f tasks/s %6.2f ms of processor per task: coordinator %.2f, pilot %.2f, payloads %.2f; bare loop then %.1f tasks/s, ratio %.3f\n", "floe, isolation "+isolation,
			m.rate, millisOf(m.coordinators+m.pilot+m.payloads), millisOf(m.coordinators), millisOf(m.pilot), millisOf(m.payloads), again.rate, out.Value)
		out.Notes = append(out.Notes, fmt.Sprintf("isolation %s: %.1f tasks/s, ratio %.3f, CPU per task: coordinator %.2f ms, pilot %.2f, payloads %.2f", isolation,
			m.rate, out.Value, millisOf(m.coordinators), millisOf(m.pilot), millisOf(m.payloads)))
	}
	return out, nil
}

func millisOf(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// spawned is what a loop of bare spawns does.
type spawned struct {
	rate float64
	cpu  time.Duration // of this process and its children, per task
}

// spawnLoop is the peer of truetasks.
func spawnLoop(ctx context.Context, r *run, d time.Duration) (spawned, error) {
	root, err := os.MkdirTemp(r.dir, "bare-")
	if err != nil {
		return spawned{}, err
	}
	defer os.RemoveAll(root)
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var work sync.WaitGroup
	var next atomic.Int64
	errs := make(chan error, runtime.NumCPU())
	before, began := consumed(), time.Now()
	for range runtime.NumCPU() {
		work.Go(func() {
			for ctx.Err() == nil {
				if err := spawn(filepath.Join(root, strconv.FormatInt(next.Add(1), 10))); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	work.Wait()
	select {
	case err := <-errs:
		return spawned{}, err
	default:
	}
	n := next.Load()
	return spawned{rate: float64(n) / time.Since(began).Seconds(), cpu: (consumed() - before) / time.Duration(n)}, nil
}

func spawn(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Dir: dir, Files: []*os.File{nil, log, log}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return err
	}
	if _, err := p.Wait(); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// consumed is the processor time of this process and of its children that have ended.
func consumed() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// trueTasks is how /bin/true is run through floe.
type trueTasks struct {
	coordinators int
	isolation    string
	budget       time.Duration
	name         string // of its files
}

// trueRate is what came of it; times are of the processor, per task.
type trueRate struct {
	rate                          float64
	coordinators, pilot, payloads time.Duration
}

// measureTrue runs tasks of /bin/true through one pilot with as many slots as there
// are cores.
func measureTrue(ctx context.Context, r *run, o trueTasks) (out trueRate, err error) {
	dir := filepath.Join(r.dir, "floe-"+o.isolation)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return out, err
	}
	defer os.RemoveAll(dir)
	r = &run{Writer: r.Writer, quick: r.quick, bin: r.bin, dir: dir, profiles: r.profiles}
	c, err := startCluster(ctx, r, o.coordinators)
	if err != nil {
		return out, err
	}
	defer c.close()
	const jobs = 1_000_000
	dataset, err := c.submit(ctx, trueTask, jobs)
	if err != nil {
		return out, err
	}
	f := &fleet{c: c, site: "site"}
	defer f.close()
	if err := f.join(ctx); err != nil {
		return out, err
	}
	request := protocol.LaunchRequest{Version: protocol.Version, Shapes: []protocol.LaunchShape{{
		Name: "node", Offer: protocol.Resources{Cores: runtime.NumCPU(), Memory: 8 * protocol.GB, Disk: 8 * protocol.GB}, Room: 1,
	}}}
	var reply protocol.LaunchReply
	if err := f.launch.CallCBOR(ctx, http.MethodPost, "/v1/sites/launch", &request, &reply, transport.Idempotent()); err != nil {
		return out, err
	}
	if len(reply.Grants) != 1 {
		return out, fmt.Errorf("no launch lease: %v", reply.Reasons)
	}
	ticket := filepath.Join(r.dir, "ticket")
	if err := os.WriteFile(ticket, []byte(reply.Grants[0].Ticket+"\n"), 0o600); err != nil {
		return out, err
	}
	pilot, err := startProcess(filepath.Join(r.dir, "pilot.log"), nil, filepath.Join(r.bin, "floe-pilot"),
		"--ticket-file", ticket, "--launch", string(reply.Grants[0].Launch), "--scratch", filepath.Join(r.dir, "scratch"), "--log-level", "warn", "--isolation", o.isolation)
	if err != nil {
		return out, err
	}
	defer pilot.end(20 * time.Second)
	count := func(ctx context.Context) (int, error) {
		d, err := c.dataset(ctx, dataset)
		if err != nil {
			return 0, err
		}
		return int(d.TaskCounts[protocol.TaskOK.String()]), nil
	}
	var first, last int
	var before, after [3]time.Duration
	out.rate, err = steady(ctx, func(ctx context.Context) (int, error) {
		n, err := count(ctx)
		now := [3]time.Duration{c.usage().CPU, pilot.usage().CPU, pilot.descendants()}
		if first == 0 && n > 0 {
			first, before = n, now
			c.profile(ctx, "true-"+o.name, o.budget/2)
		}
		last, after = n, now
		return n, err
	}, jobs, o.budget)
	if err != nil {
		return out, fmt.Errorf("%w\n%s%s", err, pilot.said(), c.lastWords())
	}
	per := func(i int) time.Duration { return (after[i] - before[i]) / time.Duration(max(1, last-first)) }
	out.coordinators, out.pilot, out.payloads = per(0), per(1), per(2)
	return out, nil
}
