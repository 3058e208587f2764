package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"floe/pilot/library"
	"floe/pilot/payload"
	"floe/pilot/payload/session"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// The whole-system tests start what a user starts: coordinators, glidein passes
// and pilots as processes, talking over loopback. They and nothing else use real
// time and sockets. Every one has a cluster of its own in a directory of its own.

// TestMain lets the test binary be floe when it is called so: the system under
// test is the code under test, without a second build.
func TestMain(m *testing.M) {
	session.Speak()
	payload.Keep()
	if len(os.Args) > 1 && os.Args[1] == crowdCommand {
		if err := crowd(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitFailure)
		}
		os.Exit(exitOK)
	}
	// On login nodes the name of floe ends in its digest.
	if name := filepath.Base(os.Args[0]); name == "floe" || strings.HasPrefix(name, "floe-") || len(os.Args) > 1 && os.Args[1] == library.Command {
		main()
	}
	// What these tests do most is wait: for leases to lapse, for silence to be noticed.
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" || f.Name == "test.cpu" })
	if !chosen {
		_ = flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))) // a flag of every test binary
	}
	code := m.Run()
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

// programs is the directory that holds floe and floe-pilot.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

// bin makes the programs once: a link to this binary, and the pilot.
func bin(t *testing.T) string {
	t.Helper()
	p := &programs
	p.once.Do(func() {
		if p.dir, p.err = os.MkdirTemp("", "floe-system"); p.err != nil {
			return
		}
		self, err := os.Executable()
		if err == nil {
			err = os.Symlink(self, filepath.Join(p.dir, "floe"))
		}
		build := exec.Command("go", "build", "-o", filepath.Join(p.dir, "floe-pilot"), "floe/cmd/floe-pilot")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, buildErr := build.CombinedOutput()
		if buildErr != nil {
			buildErr = fmt.Errorf("build floe-pilot: %w: %s", buildErr, out)
		}
		p.err = errors.Join(err, buildErr)
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.dir
}

// patience is how long a test waits for what must happen. It is far more than is
// needed: nothing here asserts how long something takes.
const patience = 90 * time.Second

// world is a cluster, a site and their files.
type world struct {
	t     *testing.T
	dir   string // everything; out and scripts are in it, too
	token string // file of the administrator's token
	site  string // the site's directory
	env   []string
	nodes map[string]*node
	// isolation is that of the site's payloads; none, unless said otherwise, because
	// most tell of themselves by files beside their attempts.
	isolation string
	// space is the network namespace in which commands run; empty is the machine's.
	space string
	// far is the one in which pilots run; empty is space.
	far string
	// idle is how long pilots of the site stay without work.
	idle string

	submitting *submitting // nil unless somebody submits all the time
}

// node is one coordinator.
type node struct {
	dir     string
	address string
	args    []string
	process *process
}

// newWorld founds a cluster of one coordinator, c1, and starts it.
func newWorld(t *testing.T, flags ...string) *world {
	t.Helper()
	w := emptyWorld(t, t.TempDir())
	c1 := w.place("c1", flags)
	w.found(c1)
	return w
}

// emptyWorld has no coordinators yet.
func emptyWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{t: t, dir: dir, nodes: map[string]*node{}, isolation: "none", idle: "60s"}
	w.site = filepath.Join(w.dir, "site")
	if os.Getenv("FLOE_TEST_LOG") != "" {
		t.Cleanup(func() { t.Log(w.story()) })
	}
	for _, d := range []string{"out", "gate", "tmp"} {
		if err := os.Mkdir(filepath.Join(w.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.token = filepath.Join(w.dir, "c1", founderTokenFile)
	w.env = []string{
		"FLOE_TOKEN_FILE=" + w.token, "PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "TMPDIR=" + filepath.Join(w.dir, "tmp"),
	}
	return w
}

// found founds the cluster with its first coordinator, c1, and starts it.
func (w *world) found(c1 *node) {
	w.t.Helper()
	w.ok("init", c1.dir, "--name", "test", "--address", c1.address)
	w.startNode("c1")
}

// command is floe, in the world's namespace and environment.
func (w *world) command(args ...string) *exec.Cmd {
	program := filepath.Join(bin(w.t), "floe")
	c := exec.Command(program, args...)
	if w.space != "" {
		c = exec.Command("nsenter", append([]string{"--net=/run/netns/" + w.space, program}, args...)...)
	}
	c.Env, c.Dir = w.env, w.dir
	return c
}

// pilotProgram is what a site's pass starts as a pilot.
func (w *world) pilotProgram() string {
	program := filepath.Join(bin(w.t), "floe-pilot")
	if w.far == "" {
		return program
	}
	return w.write("pilot-"+w.far, fmt.Sprintf("#!/bin/sh\nexec nsenter --net=/run/netns/%s %s \"$@\"\n", w.far, program))
}

// place chooses where a coordinator lives.
func (w *world) place(name string, flags []string) *node {
	return w.placeAt(name, net.JoinHostPort("localhost", strconv.Itoa(freePorts(w.t))), flags)
}

// placeAt says where a coordinator lives.
func (w *world) placeAt(name, address string, flags []string) *node {
	n := &node{dir: filepath.Join(w.dir, name), address: address}
	n.args = append([]string{"coordinator", n.dir, "--address", n.address, "--timing", "loopback", "--lease", "10s"}, flags...)
	w.nodes[name] = n
	return n
}

// startNode starts a coordinator, also one that was killed.
func (w *world) startNode(name string, more ...string) {
	w.t.Helper()
	n := w.nodes[name]
	n.process = w.start(name, slices.Concat(n.args, more)...)
	w.until(name+" serves", func() bool {
		select {
		case <-n.process.ended:
			w.t.Fatalf("%s ended: %s", name, w.log(name))
		default:
		}
		return strings.Contains(w.log(name), "msg=serving")
	})
}

// join adds a coordinator to the cluster.
func (w *world) join(name string) {
	w.t.Helper()
	w.joinAt(w.place(name, nil), name)
}

// joinAt is join for one that has its place.
func (w *world) joinAt(_ *node, name string) {
	w.t.Helper()
	w.startNode(name, "--join", strings.TrimSpace(w.ok("token", "create", "coordinator", name)))
}

// freePorts finds a port that is free for TCP and UDP, and the one after it for TCP.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 200 {
		port := 20000 + rand.IntN(12000)
		var held []io.Closer
		free := true
		for _, p := range []int{port, port + 1} {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
			if free = free && err == nil; err == nil {
				held = append(held, l)
			}
		}
		u, err := net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if free = free && err == nil; err == nil {
			held = append(held, u)
		}
		for _, h := range held {
			_ = h.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no free ports")
	return 0
}

// process is one of ours, until it has ended.
type process struct {
	*os.Process
	ended chan struct{} // closed when it was waited for
	state *os.ProcessState
}

// start starts floe, writing to a log of that name, and ends it with the test.
func (w *world) start(name string, args ...string) *process {
	w.t.Helper()
	log, err := os.OpenFile(filepath.Join(w.dir, name+".log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.command(args...)
	c.Stdout, c.Stderr = log, log
	return w.watch(c, log)
}

// watch starts a command and waits for it on a thread that lives as long: the
// kernel ends the command if this process dies before its clean-up.
func (w *world) watch(c *exec.Cmd, files ...io.Closer) *process {
	w.t.Helper()
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &process{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.Start()
		p.Process = c.Process
		for _, f := range files {
			_ = f.Close()
		}
		started <- err
		if err == nil {
			_ = c.Wait()
			p.state = c.ProcessState
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.end(20 * time.Second) })
	return p
}

// end asks a process to end, and ends it.
func (p *process) end(grace time.Duration) {
	_ = p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.kill()
	}
}

// kill is kill -9, and returns when the process is gone.
func (p *process) kill() {
	_ = p.Kill()
	<-p.ended
}

// log is what a process has said so far.
func (w *world) log(name string) string {
	b, _ := os.ReadFile(filepath.Join(w.dir, name+".log"))
	return string(b)
}

// result is how a command went.
type result struct {
	code     int
	out, err string
}

// floe runs a command to its end.
func (w *world) floe(args ...string) result { return w.floeWith(nil, "", args...) }

// floeWith is the same with more environment and standard input.
func (w *world) floeWith(env []string, in string, args ...string) result {
	w.t.Helper()
	c := w.command(args...)
	var out, errs bytes.Buffer
	c.Env, c.Stdin, c.Stdout, c.Stderr = append(slices.Clone(w.env), env...), strings.NewReader(in), &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// ok runs a command that must succeed, and returns what it printed.
func (w *world) ok(args ...string) string {
	w.t.Helper()
	r := w.floe(args...)
	if r.code != 0 {
		w.t.Fatalf("floe %s: exit %d: %s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// ask runs a command with -o json and decodes its answer, all of it.
func ask[T any](w *world, args ...string) T {
	w.t.Helper()
	return decode[T](w, w.ok(append(args, "-o", "json")...))
}

// decode reads what a command printed with -o json, all of it.
func decode[T any](w *world, text string) (v T) {
	w.t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		w.t.Fatalf("%T: %v in %s", v, err, text)
	}
	return v
}

// until waits for a condition, looking a few times a second.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-late.C:
			w.t.Fatalf("waited in vain: %s\n%s", what, w.story())
		}
	}
}

// story is what all processes said last.
func (w *world) story() string {
	var b strings.Builder
	logs, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	outputs, _ := filepath.Glob(filepath.Join(w.site, "jobs", "*", "output"))
	for _, file := range append(logs, outputs...) {
		text, _ := os.ReadFile(file)
		fmt.Fprintf(&b, "--- %s\n", file)
		lines := strings.SplitAfter(string(text), "\n")
		for _, line := range lines[max(0, len(lines)-60):] {
			b.WriteString(line)
		}
	}
	return b.String()
}

// joinSite makes this machine a site and has passes made until the test ends, as
// cron would.
func (w *world) joinSite(pilots, cores int) { w.joinSiteAs("here", pilots, cores, "", "") }

// joinSiteAs is joinSite for a site of another name, with more of its configuration.
func (w *world) joinSiteAs(name string, pilots, cores int, queue, system string) {
	w.t.Helper()
	w.ok("site", "join", strings.TrimSpace(w.ok("token", "create", "site", name)), "--dir", w.site)
	config := fmt.Sprintf(`[queue]
type = "local"
max_pilots = %d
cores = %d
memory = "1GB"
disk = "1GB"
walltime = "1h"
%s
[system]
pilot = %q
cache = %q
idle = %q
isolation = %q
%s
`, pilots, cores, queue, w.pilotProgram(), filepath.Join(w.dir, "cache"), w.idle, w.isolation, system)
	w.write(filepath.Join(filepath.Base(w.site), "site.toml"), config)
	w.t.Cleanup(w.endPilots)
	stop, stopped := make(chan struct{}), make(chan struct{})
	w.t.Cleanup(func() { close(stop); <-stopped })
	log, err := os.Create(filepath.Join(w.dir, filepath.Base(w.site)+"-passes.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(stopped)
		defer log.Close()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			c := w.command("glidein", "--config", filepath.Join(w.site, "site.toml"), "--timeout", "20s")
			c.Stdout, c.Stderr = log, log
			_ = c.Run() // what went wrong is in the log; the next pass is soon
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
}

// besides is the same cluster with a second site, whose directory has another name.
func (w *world) besides(name string) *world {
	second := *w
	second.site = filepath.Join(w.dir, name)
	return &second
}

// pilotPIDs are the pilots of the site that live, by what its batch system keeps.
func (w *world) pilotPIDs() []int {
	records, _ := filepath.Glob(filepath.Join(w.site, "local", "*", "process"))
	var pids []int
	for _, file := range records {
		b, _ := os.ReadFile(file)
		var pid int
		var start string
		if _, err := fmt.Sscan(string(b), &pid, &start); err == nil && startOf(pid) == start {
			pids = append(pids, pid)
		}
	}
	return pids
}

// startOf tells when a process started, or nothing if it is gone.
func startOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// endPilots drains the site's pilots, and ends those that do not leave.
func (w *world) endPilots() {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for _, pid := range w.pilotPIDs() {
			_ = syscall.Kill(-pid, signal)
		}
		tick := time.NewTicker(50 * time.Millisecond)
		late := time.NewTimer(10 * time.Second)
		for waiting := true; waiting && len(w.pilotPIDs()) > 0; {
			select {
			case <-tick.C:
			case <-late.C:
				waiting = false
			}
		}
		tick.Stop()
		late.Stop()
	}
}

// write writes a file of the world.
func (w *world) write(name, text string) string {
	w.t.Helper()
	file := filepath.Join(w.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// exists tells whether a file of the world is there.
func (w *world) exists(name string) bool {
	_, err := os.Stat(filepath.Join(w.dir, name))
	return err == nil
}

// submit submits a document in which DIR is the world's directory.
func (w *world) submit(document string, jobs int, more ...string) protocol.DatasetID {
	w.t.Helper()
	file := w.write("dataset.yaml", strings.ReplaceAll(document, "DIR", w.dir))
	args := append([]string{"submit", file, "--jobs", strconv.Itoa(jobs)}, more...)
	return ask[protocol.SubmitReply](w, args...).Dataset
}

// dataset, task and statistics are what the command line says of them.
func (w *world) dataset(id protocol.DatasetID) protocol.Dataset {
	w.t.Helper()
	return ask[protocol.Dataset](w, "dataset", "show", fmt.Sprint(id))
}

func (w *world) task(id protocol.DatasetID, name string) protocol.Task {
	w.t.Helper()
	return ask[protocol.Task](w, "tasks", fmt.Sprintf("%d.%s", id, name))
}

// finish waits for a dataset as a person would, and returns wait's exit code.
func (w *world) finish(id protocol.DatasetID) int {
	w.t.Helper()
	r := w.floe("wait", fmt.Sprint(id), "--timeout", patience.String())
	if r.code == exitTimeout {
		w.t.Fatalf("wait: %s\n%s", r.err, w.story())
	}
	return r.code
}

// count is a statistic of a dataset as how many values and their sum.
type count struct {
	Values uint64
	Sum    float64
}

// counts are the statistics of a dataset by task/name. Those over the whole
// dataset must be what the tasks' come to.
func (w *world) counts(id protocol.DatasetID) map[string]count {
	w.t.Helper()
	all, whole, sums := map[string]count{}, map[string]count{}, map[string]count{}
	for _, s := range ask[protocol.StatisticsReply](w, "statistics", fmt.Sprint(id)).Statistics {
		c := count{s.Count, s.Sum}
		if s.Task == "" {
			whole[s.Name] = c
			continue
		}
		all[s.Task+"/"+s.Name] = c
		sums[s.Name] = count{sums[s.Name].Values + c.Values, sums[s.Name].Sum + c.Sum}
	}
	if d := cmp.Diff(sums, whole); d != "" {
		w.t.Errorf("statistics of dataset %d (-tasks together +dataset):\n%s", id, d)
	}
	return all
}

// fates are the verdicts of a task's attempts in order.
func fates(t *protocol.Task) string {
	var words []string
	for _, a := range t.Attempts {
		words = append(words, a.Verdict.String())
	}
	return strings.Join(words, " ")
}
