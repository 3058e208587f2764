package payload

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"floe/protocol"
)

// saving is an attempt whose checkpoints are gathered.
func saving(t *testing.T, isolation *Isolation, modules ...Module) (*attempt, *[]Checkpoint) {
	t.Helper()
	a := speaking(t, isolation, modules...)
	var all []Checkpoint
	a.options.Saved = func(c Checkpoint) { all = append(all, c) }
	a.limits.Grace = 10 * time.Second
	return a, &all
}

// counting counts to 5: at 4 it waits to be told to stop, and goes on from there.
const counting = `
	if [ -n "$FLOE_CHECKPOINT" ]; then
		test "$FLOE_CHECKPOINT" = "$PWD/state" -a -s more/part || exit 4
		floe-task statistic counted $(($(cat state) + 1))
		exit
	fi
	save() {
		echo 4 >state; mkdir more; echo x >more/part
		floe-task checkpoint saved SAVED || exit 3
		exit CODE
	}
	trap save SIGNAL
	mkfifo wait; echo 4 >counted
	while :; do read x <wait & wait $!; done`

func countsToFive(saved, signal, code string) Module {
	return script(strings.NewReplacer("SAVED", saved, "SIGNAL", signal, "CODE", code).Replace(counting))
}

func TestAnotherAttemptGoesOn(t *testing.T) { bothWays(t, anotherAttemptGoesOn) }

func anotherAttemptGoesOn(t *testing.T, isolation *Isolation) {
	prepare := Module{Name: "prepare", Src: "/bin/sh", Args: raw([]string{"-c", "echo first >input; test -z \"$FLOE_CHECKPOINT\""})}
	for _, test := range []struct {
		name   string
		module Module
		saving *Saving
		edit   func(a *attempt, end context.CancelCauseFunc)
		why    string
	}{
		{
			"drained", countsToFive("state more", "TERM", "1"), nil,
			func(a *attempt, end context.CancelCauseFunc) {
				go func() {
					a.await("counted")
					end(ErrDrain)
				}()
			}, "the pilot drains",
		},
		{
			"walltime, another signal, declared files", countsToFive("", "USR1", "85"), &Saving{Signal: syscall.SIGUSR1, Grace: time.Hour, Files: []string{"state", "mor[e]"}, Exit: 85},
			func(a *attempt, _ context.CancelCauseFunc) { a.limits.Walltime = 4 * time.Second }, "was asked to end 2s before the walltime limit of 4s",
		},
		{
			"the slot ends", countsToFive("state more", "TERM", "1"), &Saving{Grace: 20 * time.Second},
			func(a *attempt, _ context.CancelCauseFunc) { a.options.End = time.Now().Add(21 * time.Second) }, "the batch slot ends",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.module.Checkpoint = test.saving
			a, saved := saving(t, isolation, prepare, test.module)
			ctx, end := context.WithCancelCause(t.Context())
			defer end(nil)
			test.edit(a, end)
			out := a.run(ctx)
			if out.Verdict != protocol.VerdictPreempted || !strings.Contains(out.Evidence, test.why) || !strings.Contains(out.Evidence, "its checkpoint keeps ") {
				t.Fatalf("the first attempt: %v (%s), want preempted, because %s", out.Verdict, out.Evidence, test.why)
			}
			if len(*saved) != 1 || !(*saved)[0].Asked || (*saved)[0].Kept <= 0 || out.Usage.KeptMillis != 0 {
				t.Fatalf("saved %+v", *saved)
			}

			b, _ := saving(t, isolation, prepare, test.module)
			b.options.Resume = (*saved)[0].File
			out = b.run(t.Context())
			if out.Verdict != protocol.VerdictOK || len(out.Statistics) != 1 || out.Statistics[0].Value != 5 {
				t.Fatalf("the second attempt: %v (%s), %v", out.Verdict, out.Evidence, out.Statistics)
			}
			if out.Usage.KeptMillis != (*saved)[0].Kept.Milliseconds() {
				t.Errorf("the second attempt was spared %d ms, want %v", out.Usage.KeptMillis, (*saved)[0].Kept)
			}
		})
	}
}

// A signal that only asks is followed by SIGTERM when the work is saved: many
// programs save and go on.
func TestWhoSavesAndGoesOnIsEnded(t *testing.T) {
	m := script(`trap 'echo 1 >state; floe-task checkpoint saved state' USR1
		echo >ready
		while :; do read x <wait & wait $!; done`)
	m.Checkpoint = &Saving{Signal: syscall.SIGUSR1}
	a, saved := saving(t, nil, m)
	a.limits.Grace = time.Hour
	if err := syscall.Mkfifo(filepath.Join(a.dir.Work(), "wait"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancelCause(t.Context())
	defer end(nil)
	go func() {
		a.await("ready")
		end(ErrDrain)
	}()
	if out := a.run(ctx); out.Verdict != protocol.VerdictPreempted || out.Signal != int(syscall.SIGTERM) || len(*saved) != 1 {
		t.Errorf("%v (%s), signal %d, saved %v", out.Verdict, out.Evidence, out.Signal, *saved)
	}
}

// A module that saved and does not end is killed, and gone on from all the same; one
// that saved nothing has used up its walltime.
func TestWhoDoesNotEndIsKilled(t *testing.T) {
	for _, test := range []struct {
		name, trap string
		want       protocol.Verdict
	}{
		{"saved", "echo 1 >state; floe-task checkpoint saved state", protocol.VerdictPreempted},
		{"saved nothing", "echo", protocol.VerdictWalltime},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := script(`trap '` + test.trap + `' TERM; while :; do read x <wait & wait $!; done`)
			m.Checkpoint = &Saving{Grace: time.Second}
			a, _ := saving(t, nil, m)
			if err := syscall.Mkfifo(filepath.Join(a.dir.Work(), "wait"), 0o600); err != nil {
				t.Fatal(err)
			}
			a.limits.Walltime = 2 * time.Second
			if out := a.run(t.Context()); out.Verdict != test.want || out.Signal != int(syscall.SIGKILL) {
				t.Errorf("%v (%s), signal %d; want %v", out.Verdict, out.Evidence, out.Signal, test.want)
			}
		})
	}
}

// An exit code that asks to be run again is believed of a module that has worked, and
// saved something.
func TestWhoAsksToRunAgain(t *testing.T) {
	m := script("echo 1 >state; floe-task checkpoint saved state; exit 85")
	m.Checkpoint = &Saving{Exit: 85}
	a, saved := saving(t, nil, m)
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictPayload || len(*saved) != 1 {
		t.Errorf("at once: %v (%s)", out.Verdict, out.Evidence)
	}
	for _, test := range []struct {
		f    facts
		want protocol.Verdict
	}{
		{facts{exit: 85, again: true, saved: true}, protocol.VerdictPreempted},
		{facts{exit: 85, again: true}, protocol.VerdictPayload},
		{facts{exit: 85, saved: true}, protocol.VerdictPayload},
		{facts{exit: 1, saved: true, stopped: stopSlot}, protocol.VerdictPreempted},
		{facts{exit: 1, stopped: stopSlot}, protocol.VerdictPreempted},
		{facts{exit: 1, saved: true, stopped: stopMemory}, protocol.VerdictMemory},
	} {
		test.f.free = protocol.GB
		if got, why := judge(&test.f); got != test.want {
			t.Errorf("judge(%+v) = %v (%s), want %v", test.f, got, why, test.want)
		}
	}
}

// A program that knows nothing of floe saves its work when it is told to end; the
// steering file says where.
func TestWhatIsDeclaredIsSaved(t *testing.T) {
	for _, test := range []struct {
		name, onTerm string
		saved        bool
	}{
		{"it ends by itself", "echo 4 >state; exit 1", true},
		{"it is killed", "echo 4 >state", false},
		{"by a signal", "echo 4 >state; trap - TERM; kill $$", false},
		{"it left nothing", "exit 1", false},
		{"it is done", "echo 4 >state; exit 0", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := script("trap '" + test.onTerm + "' TERM; mkfifo wait; echo >ready; while :; do read x <wait & wait $!; done")
			m.Checkpoint = &Saving{Files: []string{"stat*"}}
			a, saved := saving(t, nil, m)
			a.limits.Grace = 300 * time.Millisecond
			ctx, end := context.WithCancelCause(t.Context())
			defer end(nil)
			go func() {
				a.await("ready")
				end(ErrDrain)
			}()
			out := a.run(ctx)
			if test.saved != (len(*saved) == 1) || test.saved != strings.Contains(out.Evidence, "its checkpoint keeps") {
				t.Fatalf("%v (%s), saved %v", out.Verdict, out.Evidence, *saved)
			}
			if !test.saved {
				return
			}
			b, _ := saving(t, nil, script(`test "$(cat "$FLOE_CHECKPOINT")" = 4`))
			b.options.Resume = (*saved)[0].File
			if out := b.run(t.Context()); out.Verdict != protocol.VerdictOK {
				t.Errorf("the next attempt: %v (%s)", out.Verdict, out.Evidence)
			}
		})
	}
}

// What cannot be gone on from is no failure.
func TestAUselessCheckpointStartsAnew(t *testing.T) {
	a, saved := saving(t, nil, script("mkdir d; echo 1 >d/state; floe-task checkpoint saved d"))
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK || len(*saved) != 1 {
		t.Fatalf("%v (%s), saved %v", out.Verdict, out.Evidence, *saved)
	}
	whole, err := os.ReadFile((*saved)[0].File)
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(string(whole))
	flipped[len(flipped)/2] ^= 0x10
	for name, content := range map[string][]byte{"cut": whole[:len(whole)/2], "empty": {}, "no tarball": []byte("hello"), "one bit": flipped, "missing": nil} {
		t.Run(name, func(t *testing.T) {
			b, _ := saving(t, nil, script(`test -z "$FLOE_CHECKPOINT" && test ! -e d`))
			b.options.Resume = filepath.Join(t.TempDir(), "checkpoint")
			if content != nil {
				if err := os.WriteFile(b.options.Resume, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out := b.run(t.Context())
			if out.Verdict != protocol.VerdictOK || out.Usage.KeptMillis != 0 || !strings.Contains(b.log(), "of no use, the task starts anew") {
				t.Errorf("%v (%s), spared %d ms", out.Verdict, out.Evidence, out.Usage.KeptMillis)
			}
		})
	}
}

// Nothing outside the work directory gets into a checkpoint, nothing holds the pilot
// up, and what is refused is told by name.
func TestHostileCheckpoints(t *testing.T) { bothWays(t, hostileCheckpoints) }

func hostileCheckpoints(t *testing.T, isolation *Isolation) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, saved := saving(t, isolation, script(`
		refused() { why=$1; shift; if floe-task checkpoint saved "$@" 2>said; then echo "saved $*" >>bad; elif ! grep -q "^floe-task: $why: " said; then cat said >>bad; fi; }
		ln -s `+outside+` link; ln -s .. up; mkfifo fifo; mkdir d; ln -s /etc d/etc
		mknod device c 1 3 2>/dev/null
		truncate -s 3000000 large
		refused path ../log
		refused path /etc/passwd
		refused path `+outside+`
		refused path link
		refused path up/log
		refused path fifo
		refused path d
		refused path nothing
		refused path .
		refused path
		refused too-large large
		truncate -s 50000000 sparse; refused too-large sparse
		refused too-many $(seq 65)
		test ! -e bad || { cat bad; exit 1; }
		rm -rf link up fifo d device large sparse said; echo 1 >state; ln -s state inner
		floe-task checkpoint saved "$PWD/state" inner`))
	a.limits.Disk = 2 * protocol.MB
	a.options.Poll = time.Hour // the disk is not what is tried here: the large files have holes only
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK || len(*saved) != 1 {
		t.Fatalf("%v (%s), saved %v", out.Verdict, out.Evidence, *saved)
	}
	if left, err := filepath.Glob(filepath.Join(string(a.dir), "checkpoint-*")); err != nil || len(left) != 1 {
		t.Errorf("beside the one that was kept: %v, %v", left, err)
	}
}

// A module that runs before the one that is restored cannot have files put, or
// removed, outside of the attempt's directory.
func TestRestoringFollowsNoLinkOutside(t *testing.T) {
	second := script("test -n \"$FLOE_CHECKPOINT\" || { mkdir d; echo 1 >d/state; floe-task checkpoint saved d/state; }")
	a, saved := saving(t, nil, script("true"), second)
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK || len(*saved) != 1 {
		t.Fatalf("%v (%s), saved %v", out.Verdict, out.Evidence, *saved)
	}
	outside := t.TempDir()
	precious := filepath.Join(outside, "state")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, _ := saving(t, nil, script("ln -s "+outside+" d"), script("test -z \"$FLOE_CHECKPOINT\""))
	b.options.Resume = (*saved)[0].File
	out := b.run(t.Context())
	if got, err := os.ReadFile(precious); err != nil || string(got) != "precious" {
		t.Errorf("a file outside is now %q, %v", got, err)
	}
	if out.Verdict != protocol.VerdictOK || !strings.Contains(b.log(), "starts anew") {
		t.Errorf("%v (%s)", out.Verdict, out.Evidence)
	}
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"step":2,"module":"mdrun","paths":["state.cpt","a/b"],"kept_ms":5000}`))
	f.Add([]byte(`{"step":1,"paths":["../etc"],"kept_ms":-1}`))
	f.Add([]byte(`{"step":1e99}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := parseNote(text)
		if err != nil {
			return
		}
		if n.Step < 1 || time.Duration(n.KeptMillis)*time.Millisecond < 0 {
			t.Errorf("%s is taken as %+v", text, n)
		}
		for _, p := range n.Paths {
			if !filepath.IsLocal(p) {
				t.Errorf("%s leads to %q", text, p)
			}
		}
	})
}
