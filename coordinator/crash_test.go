//go:build linux

package coordinator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"floe/coordinator/history"
	"floe/coordinator/replica"
	"floe/coordinator/state"
)

var (
	crashPoints = flag.Int("points", 24, "how many losses of power and damages the crash tests try")
	crashSeed   = flag.Uint64("seed", 0, "of the crash tests; 0 draws one")
	crashKeep   = flag.String("keep", "", "directory to keep the images of crash tests that fail in")
)

// crashRole makes this test binary a process of its own: it runs the workload in a
// directory, or opens directories that it is told of.
const crashRole = "FLOE_TEST_CRASH"

// TestCrashChild is what the processes of the crash tests run; by itself it is
// nothing.
func TestCrashChild(t *testing.T) {
	role, dir, _ := strings.Cut(os.Getenv(crashRole), " ")
	switch role {
	case "workload":
		if err := crashWorkload(dir); err != nil {
			t.Fatal(err)
		}
	case "judge":
		crashJudge()
	default:
		t.Skip("run by TestPowerLoss and TestDamagedDisk")
	}
}

// crashWorkload runs the workload and prints the tale.
func crashWorkload(dir string) error {
	s, err := openStores(filepath.Join(dir, "coordinator"))
	if err != nil {
		return err
	}
	told, err := os.OpenFile(filepath.Join(dir, ackFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(s.workload(14, told), told.Close(), s.end(), s.close()); err != nil {
		return err
	}
	b, err := json.Marshal(s.tale)
	fmt.Printf("\ntale %s\n", b)
	return err
}

// question is a directory to open, answer what came of it.
type question struct {
	Dir   string
	Blobs []int // that must be there
}

type answer struct {
	Err    string // why it was not opened, or ended
	Code   int    // exit code that goes with it
	Named  bool
	Index  uint64
	Facts  facts
	Blobs  []string // of those asked for, what is wrong
	Served bool     // it took a further command and ended well
}

// crashJudge answers questions, one a line.
func crashJudge() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			panic(err)
		}
		b, err := json.Marshal(reopen(q))
		if err != nil {
			panic(err)
		}
		fmt.Printf("\nanswer %s\n", b)
	}
}

// reopen opens a directory as a starting coordinator does.
func reopen(q question) (a answer) {
	fail := func(err error) answer {
		var damage *history.DamageError
		a.Err, a.Code = err.Error(), replica.ExitCode(err)
		a.Named = a.Code == 74 || a.Code == 78 || errors.As(err, &damage) || errors.Is(err, errSealDamaged)
		return a
	}
	s, err := openStores(q.Dir)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if a.Index, a.Facts, err = s.tell(ctx); err != nil {
		return fail(errors.Join(err, s.end(), s.close()))
	}
	for _, n := range q.Blobs {
		if err := s.checkBlob(n); err != nil {
			a.Blobs = append(a.Blobs, err.Error())
		}
	}
	_, err = s.record.Propose(ctx, &state.PutSite{Site: "afterwards"})
	if err := errors.Join(err, s.record.replica.Snapshot(ctx), s.end(), s.close()); err != nil {
		return fail(err)
	}
	a.Served = true
	return a
}

// recording is one run of the workload: what was done to the disk, and the tale.
type recording struct {
	ops   []op
	tale  map[uint64]facts
	first int // things done before the first was acknowledged
}

var recorded struct {
	sync.Once
	*recording
}

// recordWorkload runs the workload on a recorder, once for all tests.
func recordWorkload(t *testing.T) *recording {
	t.Helper()
	recorded.Do(func() {
		r, dir, unmount := mountRecorder(t)
		defer unmount()
		c := childCommand("workload " + dir)
		out, err := c.Output()
		if err != nil {
			t.Fatalf("workload: %v\n%s", err, out)
		}
		rec := &recording{tale: map[uint64]facts{}}
		for line := range bytes.Lines(out) {
			if text, ok := bytes.CutPrefix(line, []byte("tale ")); ok {
				if err := json.Unmarshal(text, &rec.tale); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		rec.ops = r.ops
		rec.first = slices.IndexFunc(rec.ops, func(o op) bool { return o.kind == opAck })
		if len(rec.tale) == 0 || rec.first < 0 {
			t.Fatalf("the workload told nothing:\n%s", out)
		}
		recorded.recording = rec
	})
	if recorded.recording == nil {
		t.Skip("no recording; an earlier test says why")
	}
	return recorded.recording
}

func childCommand(role string) *exec.Cmd {
	c := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	c.Env = append(os.Environ(), crashRole+"="+role)
	return c
}

// judging is a process that opens directories.
type judging struct {
	c    *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	errs *bytes.Buffer
}

func newJudging(t *testing.T) *judging {
	t.Helper()
	j := &judging{c: childCommand("judge"), errs: new(bytes.Buffer)}
	var err error
	if j.in, err = j.c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := j.c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	j.c.Stderr = j.errs
	j.out = bufio.NewScanner(out)
	j.out.Buffer(nil, 1<<20)
	if err := j.c.Start(); err != nil {
		t.Fatal(err)
	}
	return j
}

// ask asks one question; an error says how the process died of it.
func (j *judging) ask(q question) (a answer, err error) {
	b, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	if _, err := j.in.Write(append(b, '\n')); err != nil {
		return a, err
	}
	timer := time.AfterFunc(2*time.Minute, func() { _ = j.c.Process.Kill() })
	defer timer.Stop()
	for j.out.Scan() {
		if text, ok := bytes.CutPrefix(j.out.Bytes(), []byte("answer ")); ok {
			return a, json.Unmarshal(text, &a)
		}
	}
	ended := j.c.Wait()
	said := j.errs.String()
	return a, fmt.Errorf("the process died: %w: %s", ended, said[:min(len(said), 3000)])
}

func (j *judging) end() {
	_ = j.in.Close()
	_ = j.c.Wait()
}

// trial is one directory to be judged.
type trial struct {
	what  string
	build func(dir string) (required uint64, blobs []int, err error)
	// damaged says that the disk itself is to blame: a named refusal is right, too.
	damaged bool
}

// try judges all trials and returns how often each outcome came.
func try(t *testing.T, rec *recording, trials []trial) {
	t.Helper()
	var mu sync.Mutex
	outcomes := map[string]int{}
	next := make(chan trial)
	var work sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		work.Go(func() {
			j := newJudging(t)
			defer func() { j.end() }()
			for x := range next {
				dir, err := os.MkdirTemp(t.TempDir(), "image-")
				if err != nil {
					t.Error(err)
					return
				}
				required, blobs, err := x.build(dir)
				if err != nil {
					t.Errorf("%s: %v", x.what, err)
					continue
				}
				a, died := j.ask(question{Dir: filepath.Join(dir, "coordinator"), Blobs: blobs})
				outcome, wrong := x.outcome(rec, &a, died, required)
				mu.Lock()
				outcomes[outcome]++
				mu.Unlock()
				if died != nil {
					j.end()
					j = newJudging(t)
				}
				if wrong != "" {
					t.Errorf("%s: %s", x.what, wrong)
					if *crashKeep != "" {
						_, _, _ = x.build(filepath.Join(*crashKeep, strings.Map(fileName, x.what)))
					}
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, x := range trials {
		next <- x
	}
	close(next)
	work.Wait()
	for _, o := range slices.Sorted(maps.Keys(outcomes)) {
		t.Logf("%5d %s", outcomes[o], o)
	}
}

func fileName(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' {
		return r
	}
	return '-'
}

// outcome says in a word what came of a trial, and what is wrong with it.
func (x *trial) outcome(rec *recording, a *answer, died error, required uint64) (outcome, wrong string) {
	switch {
	case died != nil:
		return "died", died.Error()
	case a.Err != "" && x.damaged && a.Named:
		return fmt.Sprintf("refused by name, exit code %d", a.Code), ""
	case a.Err != "":
		return "refused", fmt.Sprintf("exit code %d, named: %v: %s", a.Code, a.Named, a.Err)
	case a.Index < required:
		return "lost", fmt.Sprintf("it knows entries up to %d; %d was acknowledged", a.Index, required)
	case a.Index > 0 && a.Facts != rec.tale[a.Index]:
		return "wrong", fmt.Sprintf("at index %d it has %+v, want %+v", a.Index, a.Facts, rec.tale[a.Index])
	case len(a.Blobs) > 0 && !x.damaged:
		return "blobs lost", fmt.Sprintf("blobs: %q", a.Blobs)
	case !a.Served:
		return "stuck", "it takes no further command"
	case len(a.Blobs) > 0:
		return "started right, with blobs known to be missing", ""
	}
	return "started right", ""
}

// required reads what was acknowledged: the newest index, and blobs that must be there.
func (d *disk) required() (index uint64, blobs []int) {
	have := map[int]bool{}
	for _, word := range d.acks {
		n, err := strconv.ParseUint(word[1:], 10, 64)
		if err != nil {
			panic(word)
		}
		switch word[0] {
		case 'i':
			index = max(index, n)
		case 'b':
			have[int(n)] = true
		case 'r':
			delete(have, int(n))
		}
	}
	return index, slices.Sorted(maps.Keys(have))
}

func theSeed(t *testing.T) uint64 {
	t.Helper()
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64() >> 32
	}
	t.Logf("seed %d; again: go test ./coordinator -run '^%s$' -points %d -seed %d", seed, t.Name(), *crashPoints, seed)
	return seed
}

// TestPowerLoss cuts the power at many points of a coordinator's life. What was not
// synced is lost, or arrives in part, in any order, or torn; what was acknowledged
// must be there, with the state that belongs to it, and its ledger and blobs.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	rec := recordWorkload(t)
	r := rand.New(rand.NewPCG(theSeed(t), 1))
	cut := func(at int, f fate, seed uint64) trial {
		return trial{
			what: fmt.Sprintf("power lost after %d of %d writes, %v", at, len(rec.ops), f),
			build: func(dir string) (uint64, []int, error) {
				d := replay(rec.ops[:at])
				required, blobs := d.required()
				d.lose(rand.New(rand.NewPCG(seed, 2)), f)
				return required, blobs, d.build(dir)
			},
		}
	}
	trials := []trial{cut(rec.first+1, fateDropped, 0)} // the files are new, and so are their names
	for i := range *crashPoints {
		// Half of them strike just before a sync, where most is at stake.
		at := r.IntN(len(rec.ops) + 1)
		if i%2 == 0 {
			if next := slices.IndexFunc(rec.ops[at:], func(o op) bool { return o.kind == opSync }); next >= 0 {
				at += next
			}
		}
		trials = append(trials, cut(at, fate(r.IntN(int(fates))), r.Uint64()))
	}
	try(t, rec, trials)
}
