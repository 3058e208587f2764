package payload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

var isolationHere = sync.OnceValues(func() (*Isolation, error) { return FindIsolation(os.TempDir(), Places{}) })

// bothWays runs a test of payloads without and, where this machine allows it, with
// isolation.
func bothWays(t *testing.T, test func(t *testing.T, isolation *Isolation)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { test(t, nil) })
	t.Run("isolated", func(t *testing.T) {
		isolation, err := isolationHere()
		if errors.Is(err, ErrNoIsolation) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		test(t, isolation)
	})
}

// secret is what payloads are after.
const secret = "the-passkey-of-another"

// hostile is a payload that tries what it should not be able to do. What it
// achieves it writes down.
const hostile = `
other=$SCRATCH/p-1/2.1/work
got() { name=$1; shift; if "$@" >>stolen 2>>errors; then echo $name; fi; }
holds() { tr '\0' '\n' <$1 | grep -a ` + secret + `; }
become_root() { unshare --user --map-root-user --mount sh -c 'umount "$1"; umount -l "$1"; grep -r ` + secret + ` "$1"' sh $1; }
{
got "reads another attempt" holds $other/input
got "writes to another attempt" sh -c "echo x >$other/planted"
got "reads the spool" holds $SCRATCH/spool/report
got "reads the ticket" holds $SITE/ticket
got "uncovers what is hidden" become_root $SCRATCH
got "takes away what hides" umount $SCRATCH
got "writes into the home directory" sh -c "echo x >$SITE/planted"
got "reads what others of its user left in /tmp" holds $SHARED
got "sees the pilot" grep -q . /proc/$PILOT/stat
got "reads the pilot's environment" holds /proc/$PILOT/environ
got "opens the pilot's memory" sh -c ": </proc/$PILOT/mem"
got "reads the pilot's files through it" sh -c "ls /proc/$PILOT/root/"
got "stops the pilot" kill -0 $PILOT
got "sees the keeper's secrets" holds /proc/1/environ
} >achieved
grep -E '^(NoNewPrivs|CapEff|CapBnd):' /proc/self/status >power
`

// victims is a node of one user: a scratch directory with another attempt, and
// what belongs to the pilot.
func victims(t *testing.T) (a *attempt, script string, hidden []string) {
	t.Helper()
	root := t.TempDir()
	scratch, site := filepath.Join(root, "scratch"), filepath.Join(root, "site")
	for _, file := range []string{filepath.Join("scratch/p-1/2.1/work", "input"), "scratch/spool/report", "site/ticket"} {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	credential, err := os.MkdirTemp("/tmp", "credential")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(credential) })
	shared := filepath.Join(credential, "proxy")
	if err := os.WriteFile(shared, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := MakeDir(filepath.Join(scratch, "p-1", "1.1"))
	if err != nil {
		t.Fatal(err)
	}
	giveAway(t, filepath.Dir(root))
	giveAway(t, credential)
	prefix := "SCRATCH=" + scratch + " SITE=" + site + " SHARED=" + shared + "\n"
	return &attempt{t: t, dir: dir}, prefix + hostile, []string{scratch, filepath.Join(site, "ticket")}
}

// giveAway makes a tree the test pilot's own.
func giveAway(t *testing.T, root string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// achieved is what a hostile payload did achieve.
func achieved(t *testing.T, isolated bool) ([]string, string) {
	t.Helper()
	a, script, hidden := victims(t)
	spec := pilotSpec{Dir: a.dir, Script: script, Isolated: isolated, Hidden: hidden}
	said, err := spec.pilot(t).Output()
	if err != nil || !strings.HasPrefix(string(said), "ok") {
		t.Fatalf("pilot: %v, %s\n%s", err, said, a.log())
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(a.dir.Work(), name))
		if err != nil {
			t.Fatalf("%v\n%s", err, a.log())
		}
		return string(b)
	}
	all := strings.FieldsFunc(read("achieved"), func(c rune) bool { return c == '\n' })
	return all, read("power")
}

func TestHostilePayloadAchievesNothing(t *testing.T) {
	if _, err := isolationHere(); err != nil {
		t.Skip(err)
	}
	got, power := achieved(t, true)
	if len(got) > 0 {
		t.Errorf("an isolated payload %s", strings.Join(got, "; "))
	}
	for line := range strings.Lines(power) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if want := map[string]string{"NoNewPrivs": "1"}[name]; strings.TrimLeft(strings.TrimSpace(value), "0") != want {
			t.Errorf("%s is %s, want %s", name, value, want)
		}
	}
}

// TestHostilePayloadWithoutIsolation is what docs/pilot.md says of nodes that do not
// allow it: only the pilot's memory and environment are kept.
func TestHostilePayloadWithoutIsolation(t *testing.T) {
	got, _ := achieved(t, false)
	for _, kept := range []string{"reads the pilot's environment", "opens the pilot's memory", "reads the pilot's files through it"} {
		if slices.Contains(got, kept) {
			t.Errorf("a payload %s", kept)
		}
	}
	want := []string{
		"reads another attempt", "writes to another attempt", "reads the spool", "reads the ticket",
		"writes into the home directory", "reads what others of its user left in /tmp", "sees the pilot", "stops the pilot",
	}
	for _, open := range want {
		if !slices.Contains(got, open) {
			t.Errorf("a payload no longer %s: docs/pilot.md says it does", open)
		}
	}
}

// forkBomb stands at whatever bounds it: a shell that cannot fork ends, and leaves
// fewer processes than its limit.
const forkBomb = `exec python3 -c '
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.1)
'`

func TestForkBombEndsAsAVerdict(t *testing.T) {
	if _, err := isolationHere(); err != nil {
		t.Skip(err)
	}
	if !kernelCountsByNamespace() {
		t.Skip("this kernel does not bound the processes of a namespace: the bomb could take the machine")
	}
	a := newAttempt(t)
	giveAway(t, filepath.Dir(filepath.Dir(string(a.dir))))
	spec := pilotSpec{Dir: a.dir, Isolated: true, Processes: 40, Script: forkBomb}
	out, err := spec.pilot(t).Output()
	if err != nil {
		t.Fatal(err)
	}
	if text := string(out); !strings.HasPrefix(text, protocol.VerdictPayload.String()) || !strings.Contains(text, "limit 40") {
		t.Errorf("a fork bomb = %s, want the payload verdict with the limit", text)
	}
}

// TestForkBombUnderControlGroup: what bounds the processes of root, and of a payload
// that is not isolated.
func TestForkBombUnderControlGroup(t *testing.T) {
	groups := FindGroups()
	if groups == nil || groups.pids == "" {
		t.Skip("no control group that counts processes: the bomb could take the machine")
	}
	bothWays(t, func(t *testing.T, isolation *Isolation) {
		a := newAttempt(t, script(forkBomb))
		a.options.Isolation, a.options.Groups, a.limits.Processes = isolation, groups, 40
		out := a.run(t.Context())
		if out.Verdict != protocol.VerdictPayload || !strings.Contains(out.Evidence, "limit 40") {
			t.Errorf("a fork bomb = %v, %s; want the payload verdict with the limit", out.Verdict, out.Evidence)
		}
	})
	left, err := filepath.Glob(filepath.Join(groups.pids, fmt.Sprintf("floe-%d-*", os.Getpid())))
	if err != nil || len(left) > 0 {
		t.Errorf("groups %v are left, %v", left, err)
	}
}

func TestWorldShowsWhatATaskNames(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"scratch/a", "cache/tree", "cache/other", "data"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(root, name) }
	i := &Isolation{hidden: []string{at("scratch"), at("cache")}, writable: []string{at("data")}}
	software := []string{at("cache/tree"), "/usr"}
	got := i.world(Dir(at("scratch/a")), software, []string{at("cache/other")}, []string{"/dev/nvidia1"}, 5)
	want := world{
		Hidden: append(i.hidden, "/dev/nvidia1"), Temp: at("scratch/a/tmp"), Shared: 5,
		Shown: []shown{{Path: at("scratch/a"), Writable: true}, {Path: at("data"), Writable: true}, {Path: at("cache/tree")}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("world (-want +got):\n%s", diff)
	}
	for path, hidden := range map[string]bool{
		"scratch": true, "scratch/a": false, "cache/other": true, "cache/tree": false, "data": false, "cache/missing": false,
	} {
		if got := i.hides(at(path), Dir(at("scratch/a")), software); got != hidden {
			t.Errorf("hides(%s) = %v, want %v", path, got, hidden)
		}
	}
}

func TestPlacesThatContradictEachOther(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "site"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		places Places
		want   string
	}{
		{Places{Hidden: []string{filepath.Join(root, "site")}, Writable: []string{root}}, "which payloads may not see"},
		{Places{Writable: []string{filepath.Join(root, "data")}}, "no such directory"},
	} {
		if _, err := FindIsolation(root, x.places); err == nil || errors.Is(err, ErrNoIsolation) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("FindIsolation(%+v) = %v, want %q", x.places, err, x.want)
		}
	}
}

func TestIsolationModes(t *testing.T) {
	for _, m := range []IsolationMode{IsolationNone, IsolationAuto, IsolationRequire} {
		if got, err := ParseIsolationMode(m.String()); err != nil || got != m {
			t.Errorf("ParseIsolationMode(%v) = %v, %v", m, got, err)
		}
	}
	if _, err := ParseIsolationMode("maybe"); err == nil {
		t.Error("maybe is taken for a mode")
	}
}

func FuzzParseMount(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Add(`30 1 0:27 / /home/a\040b ro,nosuid,nodev,relatime shared:2 - nfs4 server:/a rw`)
	f.Add(`30 1 0:27 / /home/\4 ro - nfs4 x rw`)
	f.Fuzz(func(t *testing.T, line string) {
		path, _, kind, ok := parseMount(line)
		if ok && (path == "" || path[0] != '/' || kind == "") {
			t.Errorf("parseMount(%q) = %q, %q", line, path, kind)
		}
	})
}

func TestParseMount(t *testing.T) {
	path, flags, kind, ok := parseMount(`30 1 0:27 / /home/a\040b ro,nosuid,nodev,relatime shared:2 - nfs4 server:/a rw`)
	if path != "/home/a b" || kind != "nfs4" || !ok || flags != mountFlags["nosuid"]|mountFlags["nodev"]|mountFlags["relatime"] {
		t.Errorf("parseMount = %q, %x, %q, %v", path, flags, kind, ok)
	}
}
