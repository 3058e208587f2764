package payload

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"floe/protocol"
)

// treasure is a file of the pilot's user that no payload may change through the pilot.
func treasure(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "treasure")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func untouched(t *testing.T, path string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != secret {
		t.Errorf("the pilot wrote %q through a payload's link (%v)", b, err)
	}
}

// TestHostileFilesInTheLogsPlace: what a payload puts where its log was is not what
// the pilot opens, waits for, or writes to.
func TestHostileFilesInTheLogsPlace(t *testing.T) {
	for name, put := range map[string]string{
		"a link":                  "rm ../log; ln -s TREASURE ../log",
		"a link for what is kept": "ln -s TREASURE ../log.sealed; head -c 200000 /dev/zero | tr '\\0' x",
		"a FIFO":                  "rm ../log; mkfifo ../log",
		"a device":                "rm ../log; ln -s /dev/zero ../log",
		"a directory":             "rm ../log; mkdir -p ../log/full ../log.sealed/full; chmod 500 ..",
		"nothing":                 "rm ../log",
		"a hole":                  "truncate -s 100G ../log",
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, isolation *Isolation) {
				path := treasure(t)
				a := newAttempt(t, script("echo said; "+strings.ReplaceAll(put, "TREASURE", path)))
				a.options.Isolation, a.limits.LogKeep = isolation, 16<<10
				out := a.run(t.Context())
				untouched(t, path)
				info, err := os.Lstat(a.dir.LogPath())
				if err != nil || !info.Mode().IsRegular() || info.Size() != int64(out.Log.Size) || out.Log.Size > 64<<10 || !strings.Contains(a.log(), "said") {
					t.Errorf("the log is %v, %v; its record %+v", info, err, out.Log)
				}
			})
		})
	}
}

// TestHostileFilesInThePilotsPlace: a module prepares what the pilot is to write and
// read for the next one.
func TestHostileFilesInThePilotsPlace(t *testing.T) {
	for name, put := range map[string]string{
		"links to the user's files": "for f in module-2.json module-2.result module-2.statistics work/config.json; do ln -s TREASURE ../$f; done",
		"FIFOs":                     "for f in module-2.json module-2.result module-2.statistics work/config.json; do mkfifo ../$f; done",
		"directories":               "for f in module-2.json module-2.result module-2.statistics work/config.json; do mkdir -p ../$f/full; done",
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, isolation *Isolation) {
				path := treasure(t)
				next := Module{Class: "floe.hello", Configs: []Parameter{{"config.json", []byte(`{"a": 1}`)}}}
				a := newAttempt(t, script(strings.ReplaceAll(put, "TREASURE", path)), next)
				a.options.Isolation = isolation
				if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK {
					t.Errorf("the next module: %v, %s", out.Verdict, out.Evidence)
				}
				untouched(t, path)
			})
		})
	}
	t.Run("a work directory elsewhere", func(t *testing.T) {
		dir := filepath.Dir(treasure(t))
		next := Module{Class: "floe.hello", Configs: []Parameter{{"treasure", []byte(`1`)}}}
		a := newAttempt(t, script("cd ..; rm -rf work; ln -s "+dir+" work"), next)
		out := a.run(t.Context())
		if out.Verdict != protocol.VerdictPayload || !strings.Contains(out.Evidence, "config treasure") {
			t.Errorf("Run = %v, %s", out.Verdict, out.Evidence)
		}
		untouched(t, filepath.Join(dir, "treasure"))
	})
}

// TestHostileStatistics: each is the verdict payload, and says which one.
func TestHostileStatistics(t *testing.T) {
	for _, x := range []struct{ name, script, want string }{
		{"a million", `i=0; (printf '{"a":0'; seq -f ',"s%.0f":1' 1000000; printf '}') >$FLOE_STATISTICS`, "limit 1048576"},
		{"more than a report holds", `(printf '{"a":0'; seq -f ',"s%.0f":1' 300; printf '}') >$FLOE_STATISTICS`, "256"},
		{"not a number", `echo '{"mean": NaN}' >$FLOE_STATISTICS`, `"mean"`},
		{"infinite", `echo '{"mean": -Infinity}' >$FLOE_STATISTICS`, `"mean"`},
		{"too large for a number", `echo '{"mean": 1e999}' >$FLOE_STATISTICS`, `"mean"`},
		{"a FIFO", `mkfifo $FLOE_STATISTICS`, "regular file"},
		{"a link to what the pilot may read", `ln -s /etc/passwd $FLOE_STATISTICS`, "statistics"},
		{"without an end", `ln -s /dev/zero $FLOE_STATISTICS`, "statistics"},
	} {
		t.Run(x.name, func(t *testing.T) {
			a := newAttempt(t, script(x.script))
			out := a.run(t.Context())
			if out.Verdict != protocol.VerdictPayload || !strings.Contains(out.Evidence, x.want) || len(out.Statistics) > 0 {
				t.Errorf("Run = %v, %s; want the payload verdict with %q", out.Verdict, out.Evidence, x.want)
			}
		})
	}
}

// TestAGigabyteOfLog: it is cut while it grows, and passes through nobody's memory.
func TestAGigabyteOfLog(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 1 GB")
	}
	bothWays(t, func(t *testing.T, isolation *Isolation) {
		a := newAttempt(t, script("head -c 1000000000 /dev/zero | tr '\\0' 'x'; echo; echo the end"))
		a.options.Isolation, a.limits.LogKeep = isolation, 1<<20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out := a.run(t.Context())
		runtime.ReadMemStats(&after)
		if out.Verdict != protocol.VerdictOK || out.Log.Size > 3<<20 || out.Log.Size+out.Log.Cut < 1_000_000_000 {
			t.Errorf("Run = %v, %s; log %+v", out.Verdict, out.Evidence, out.Log)
		}
		if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 64<<20 {
			t.Errorf("the pilot allocated %d MB for it", grown>>20)
		}
		if text := a.log(); !strings.Contains(text, "the end") || !strings.Contains(text, "bytes left out here") {
			t.Errorf("the log ends %q", text[max(0, len(text)-200):])
		}
	})
}

// TestTheLogIsDisk: what a log takes counts.
func TestTheLogIsDisk(t *testing.T) {
	a := newAttempt(t, script("while :; do head -c 1000000 /dev/zero; sleep 0.01; done"))
	a.limits.Disk, a.limits.LogKeep = 20<<20, 1<<30
	out := a.run(t.Context())
	if out.Verdict != protocol.VerdictDisk || !strings.Contains(out.Evidence, "scratch disk, limit "+protocol.ByteSize(20<<20).String()) {
		t.Errorf("Run = %v, %s", out.Verdict, out.Evidence)
	}
}

// TestDaemonsEndWithTheirModule: children that forked twice, began sessions of their
// own, closed all they had and took every mark away.
func TestDaemonsEndWithTheirModule(t *testing.T) {
	bothWays(t, func(t *testing.T, isolation *Isolation) {
		var b strings.Builder
		for i := range 4 {
			fmt.Fprintf(&b, "(exec 0<&- 1>&- 2>&-; cd /; exec setsid sh -c 'env -i /bin/setsid /bin/sh -c \"echo \\$\\$ >%s/pid%d; exec /bin/sleep 600\" & sleep 0.2') &\n", "WORK", i)
		}
		fmt.Fprint(&b, "while ! test -s pid0 -a -s pid1 -a -s pid2 -a -s pid3; do sleep 0.02; done")
		a := newAttempt(t)
		a.task.Trays[0].Modules = []Module{script(strings.ReplaceAll(b.String(), "WORK", a.dir.Work()))}
		a.options.Isolation = isolation
		if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK {
			t.Errorf("Run = %v, %s", out.Verdict, out.Evidence)
		}
		for i := range 4 {
			if isolation == nil && a.alive(fmt.Sprintf("pid%d", i)) {
				t.Errorf("daemon %d outlives its module", i)
			}
		}
		if left := with(t, a.dir.Work()); len(left) > 0 {
			t.Errorf("processes %v outlive their module", left)
		}
	})
}

// with are the processes whose command line names a text.
func with(t *testing.T, text string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), text) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
