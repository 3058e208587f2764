package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"floe/protocol"
)

// diskMatrix runs every call, error, file and role instead of a few.
var diskMatrix = flag.Bool("disk-matrix", false, "run every case of a failing disk")

// diskFault is a way in which the disk of a coordinator fails.
type diskFault struct {
	call   string // that fails
	inject string // what strace makes of it
	file   string // below the coordinator's directory
	leader bool   // whether it strikes the leader
}

func (f *diskFault) String() string {
	return fmt.Sprintf("%s %s %s %s", map[bool]string{true: "leader", false: "follower"}[f.leader], filepath.Base(f.file), f.call, f.inject)
}

// diskFaults are all of them: bolt writes with pwrite64 and syncs with fdatasync.
func diskFaults() (all []diskFault) {
	for _, leader := range []bool{true, false} {
		for _, call := range []string{"pwrite64", "fdatasync"} {
			for _, inject := range []string{"error=EIO", "error=ENOSPC", "delay_enter=9000000"} {
				for _, file := range []string{"record/log.db", "history/journal.db"} {
					if strings.HasPrefix(inject, "delay") && file != "record/log.db" {
						continue // the ledger may be late: the log waits for it, not the other way round
					}
					all = append(all, diskFault{call, inject, file, leader})
				}
			}
		}
	}
	return all
}

// aFew are the cases of an ordinary test run. A sync that takes 9 s is longer than a
// write may take (I-23).
var aFew = []diskFault{
	{"fdatasync", "error=EIO", "record/log.db", true},
	{"fdatasync", "delay_enter=9000000", "record/log.db", true},
	{"pwrite64", "error=ENOSPC", "history/journal.db", true},
}

// TestSystemDiskFails has the disk of one of three coordinators fail while people
// submit. It ends with its named exit code, another leads, nothing that was
// acknowledged is lost, and it comes back when its disk is well again.
func TestSystemDiskFails(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("no strace (Debian package strace), with which disks are made to fail")
	}
	faults := aFew
	if *diskMatrix {
		faults = diskFaults()
	}
	t.Parallel()
	w := newTrio(t)
	for i := range faults {
		t.Run(faults[i].String(), func(t *testing.T) {
			whole := w // what is started lives as long as the whole test
			w := w.within(t)
			f := &faults[i]
			victim := w.member(f.leader)
			stop := w.submitAll()
			w.inject(victim, f)
			w.goesOnWithout(victim)
			w.until(victim+" ends", func() bool {
				select {
				case <-w.nodes[victim].process.ended:
					return true
				default:
					return false
				}
			})
			if code := w.nodes[victim].process.state.ExitCode(); code != exitCorrupt {
				t.Errorf("%s ended with %v, want exit code %d: %s", victim, w.nodes[victim].process.state, exitCorrupt, tailOf(w.log(victim)))
			}
			whole.startNode(victim)
			w.agrees(stop())
		})
	}
}

// TestSystemDiskFull fills the disk of the leader: a file system of its own.
func TestSystemDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	t.Parallel()
	w := newTrio(t)
	dir := w.nodes["c3"].dir
	w.nodes["c3"].process.end(patience)
	smallDisk(t, dir)
	w.startNode("c3")
	w.until("c3 leads", func() bool {
		w.floe("cluster", "transfer-leader", "--to", "c3")
		return w.leader() == "c3"
	})
	stop := w.submitAll()
	fillDisk(t, dir)
	w.goesOnWithout("c3")
	select {
	case <-w.nodes["c3"].process.ended:
		if code := w.nodes["c3"].process.state.ExitCode(); code != exitCorrupt {
			t.Errorf("c3 ended with %v, want exit code %d: %s", w.nodes["c3"].process.state, exitCorrupt, tailOf(w.log("c3")))
		}
	default: // it handed leadership over in time, and follows
		w.nodes["c3"].process.end(patience)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "filler")), os.Remove(filepath.Join(dir, "filler-2"))); err != nil {
		t.Fatal(err)
	}
	w.startNode("c3")
	w.agrees(stop())
}

// fillDisk leaves nothing of a disk: most of it at once, and the rest by writing.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		args []string
		want string
	}{
		{"fallocate", []string{"-l", fmt.Sprint(int64(s.Bavail)*s.Bsize - 16<<20), filepath.Join(dir, "filler")}, ""},
		{"dd", []string{"if=/dev/zero", "of=" + filepath.Join(dir, "filler-2"), "bs=64k"}, "No space left"},
	} {
		if out, err := exec.Command(step.name, step.args...).CombinedOutput(); (err == nil) != (step.want == "") || !bytes.Contains(out, []byte(step.want)) {
			t.Fatalf("%s: %v: %s", step.name, err, out)
		}
	}
}

// smallDisk moves a directory onto a file system of its own that has room for
// little more. Nothing is written for most of it: the image has holes.
func smallDisk(t *testing.T, dir string) {
	t.Helper()
	image, mounted := filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "mounted")
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Skipf("no small disk here: %s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	}
	if err := os.Mkdir(mounted, 0o700); err != nil {
		t.Fatal(err)
	}
	run("truncate", "-s", "3G", image)
	run("mkfs.ext4", "-q", "-m", "0", image)
	run("mount", "-o", "loop", image, mounted)
	run("cp", "-a", dir+"/.", mounted)
	run("umount", mounted)
	if err := os.Rename(dir, dir+".before"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	run("mount", "-o", "loop", image, dir)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v: %s", dir, err, out)
		}
	})
}

// newTrio is a world with three coordinators that vote and know each other.
func newTrio(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	for _, name := range []string{"c2", "c3"} {
		w.join(name)
	}
	w.until("all three vote", func() bool {
		voters := 0
		for _, m := range ask[protocol.ClusterReply](w, "cluster", "status").Members {
			if m.Voter {
				voters++
			}
		}
		return voters == 3
	})
	w.env = append(w.env, "FLOE_TOKEN="+strings.TrimSpace(w.ok("token", "create", "admin", "three")))
	return w
}

// within is the world as a part of a test sees it: its failures are the part's.
func (w *world) within(t *testing.T) *world {
	part := *w
	part.t = t
	return &part
}

// leader is who leads by what anybody says, if anybody answers.
func (w *world) leader() string {
	r := w.floe("cluster", "status", "-o", "json")
	if r.code != exitOK {
		return ""
	}
	return string(decode[protocol.ClusterReply](w, r.out).Leader)
}

// member is the leader, or one of the others.
func (w *world) member(leader bool) string {
	w.t.Helper()
	var now string
	w.until("a leader", func() bool { now = w.leader(); return now != "" })
	if leader {
		return now
	}
	names := []string{"c1", "c2", "c3"}
	return slices.DeleteFunc(names, func(n string) bool { return n == now })[0]
}

// inject makes a running coordinator's calls fail from now on.
func (w *world) inject(name string, f *diskFault) {
	w.t.Helper()
	n := w.nodes[name]
	tracer := exec.Command("strace", "-f", "-qq", "-o", filepath.Join(w.dir, "strace"), "-p", fmt.Sprint(n.process.Pid),
		"-P", filepath.Join(n.dir, f.file), "-e", "trace="+f.call, "-e", "inject="+f.call+":"+f.inject)
	log, err := os.Create(filepath.Join(w.dir, "strace.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	p := w.watch(tracer, log)
	w.t.Cleanup(func() { p.end(10 * time.Second) })
}

// submitting is somebody who submits datasets as long as a test wants, and keeps
// what was acknowledged.
type submitting struct {
	mu    sync.Mutex
	known []protocol.DatasetID
}

func (s *submitting) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.known)
}

// submitAll submits until the function it returns is called, which returns what was
// acknowledged. Each submission is repeated by the client until it is answered.
func (w *world) submitAll() func() []protocol.DatasetID {
	w.t.Helper()
	file := w.write("disk.yaml", "version: 3\ntasks: [{name: never, requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}, trays: [{modules: [{src: "+w.dir+"/never.sh}]}]}]\n")
	s := &submitting{}
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ending:
				return
			default:
			}
			c := exec.Command(filepath.Join(programs.dir, "floe"), "submit", file, "--jobs", "3", "-o", "json")
			c.Env, c.Dir = w.env, w.dir
			out, err := c.Output()
			if err != nil {
				continue // not acknowledged
			}
			s.mu.Lock()
			s.known = append(s.known, decode[protocol.SubmitReply](w, string(out)).Dataset)
			s.mu.Unlock()
		}
	}()
	w.submitting = s
	var once sync.Once
	stop := func() []protocol.DatasetID {
		once.Do(func() { close(ending) })
		<-ended
		return s.known
	}
	w.t.Cleanup(func() { stop() })
	w.until("something is acknowledged", func() bool { return s.count() > 0 })
	return stop
}

// goesOnWithout waits until another leads and takes submissions, and logs how long
// that took. It says nothing of a follower, without which all goes on at once.
func (w *world) goesOnWithout(victim string) {
	w.t.Helper()
	began := time.Now()
	w.until("another leads", func() bool { l := w.leader(); return l != "" && l != victim })
	led := time.Since(began)
	before := w.submitting.count()
	w.until("submissions go on", func() bool { return w.submitting.count() >= before+3 })
	w.t.Logf("another leads after %v, three more submissions were acknowledged after %v", led.Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond))
}

// agrees waits until all three have the same log and history, and then asks each for
// everything that was acknowledged.
func (w *world) agrees(known []protocol.DatasetID) {
	w.t.Helper()
	w.until("all three agree", func() bool {
		var first protocol.ClusterReply
		for _, name := range []string{"c1", "c2", "c3"} {
			r := w.onlyNode(name).floe("cluster", "status", "-o", "json")
			if r.code != exitOK {
				return false
			}
			s := decode[protocol.ClusterReply](w, r.out)
			if name == "c1" {
				first = s
			}
			if string(s.Node) != name || s.Applied != first.Applied || s.History != s.Applied {
				return false
			}
		}
		return true
	})
	slices.Sort(known)
	if len(slices.Compact(slices.Clone(known))) != len(known) {
		w.t.Errorf("two submissions were acknowledged as one dataset: %v", known)
	}
	for _, id := range known {
		if d := w.dataset(id); d.Jobs != 3 {
			w.t.Errorf("dataset %d was acknowledged with 3 jobs and has %d", id, d.Jobs)
		}
	}
}

func tailOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "\n")
}
