package payload

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"floe/protocol"
)

// TestAPauseStopsTheWholeTree: the first process, its child, and a daemon in a session
// of its own; then they go on to their end.
func TestAPauseStopsTheWholeTree(t *testing.T) {
	bothWays(t, func(t *testing.T, isolation *Isolation) {
		a := newAttempt(t, script(`count() { i=0; while ! test -e stop; do i=$((i+1)); echo $i >$1.new; mv $1.new $1; sleep 0.005; done; touch $1.done; }
count child & setsid sh -c '(i=0; while ! test -e stop; do i=$((i+1)); echo $i >daemon.new; mv daemon.new daemon; sleep 0.005; done; touch daemon.done) &'
count first; wait; while ! test -e daemon.done -a -e child.done; do sleep 0.01; done`))
		a.options.Isolation, a.options.Pause = isolation, NewPause()
		done := make(chan Outcome, 1)
		go func() { done <- Run(t.Context(), a.task, a.limits, a.dir, a.options) }()
		counts := func() string {
			var all []string
			for _, name := range []string{"first", "child", "daemon"} {
				b, _ := os.ReadFile(filepath.Join(a.dir.Work(), name))
				all = append(all, strings.TrimSpace(string(b)))
			}
			return strings.Join(all, " ")
		}
		until := func(what string, holds func() bool) {
			t.Helper()
			late := time.NewTimer(time.Minute)
			defer late.Stop()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for !holds() {
				select {
				case <-tick.C:
				case out := <-done:
					t.Fatalf("waiting until %s: it ended: %v, %s", what, out.Verdict, out.Evidence)
				case <-late.C:
					t.Fatalf("waited a minute until %s; counts %s", what, counts())
				}
			}
		}
		until("all count", func() bool {
			a.await("first")
			f := strings.Fields(counts())
			return len(f) == 3
		})
		a.options.Pause.Set(true)
		until("all stand still", func() bool { return stopped(t, a.dir.Work()) })
		before := counts()
		a.options.Pause.Set(false)
		until("they go on", func() bool {
			now := strings.Fields(counts())
			for i, was := range strings.Fields(before) {
				x, _ := strconv.Atoi(was)
				if y, err := strconv.Atoi(now[i]); err != nil || y <= x {
					return false
				}
			}
			return true
		})
		a.file("stop", "")
		if out := <-done; out.Verdict != protocol.VerdictOK {
			t.Errorf("Run = %v, %s", out.Verdict, out.Evidence)
		}
	})
}

// stopped tells whether every process of the attempt with a work directory is stopped,
// three at least. Who has just made a child by vfork, as shells do, sleeps without
// hearing signals until the child executes: with a child that is stopped, it stands
// still, too.
func stopped(t *testing.T, work string) bool {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	var asleep []process
	halted := map[int]bool{} // parents of what is stopped
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(file))
		if err != nil || !hasVariable(pid, "FLOE_SCRATCH="+work) {
			continue
		}
		p, ok := readProcess(pid)
		switch {
		case !ok, p.state == 'Z':
			continue
		case p.state == 'T':
			halted[p.parent] = true
		case p.state == 'D':
			asleep = append(asleep, p)
		default:
			return false
		}
		n++
	}
	for _, p := range asleep {
		if !halted[p.pid] {
			return false
		}
	}
	return n >= 3
}

// TestWhatIsPausedIsNotCharged: the walltime passes while it stands still.
func TestWhatIsPausedIsNotCharged(t *testing.T) {
	a := newAttempt(t, script("sleep 60"))
	a.options.Pause, a.limits.Walltime = NewPause(), 400*time.Millisecond
	a.options.Pause.Set(true)
	out := a.run(t.Context())
	if out.Verdict != protocol.VerdictPreempted || !strings.Contains(out.Evidence, "stand still") {
		t.Errorf("Run = %v, %s; want preempted", out.Verdict, out.Evidence)
	}
}
