package ssh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/glidein/batch/local"
	"floe/glidein/batch/slurm"
	"floe/glidein/batch/ssh/sshtest"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// TestMain runs the tests, or is the agent that they have copied.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "agent" {
		if err := Serve(context.Background(), os.Stdin, os.Stdout, open); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func open(directory string, queue json.RawMessage) (batch.System, error) {
	switch string(queue) {
	case `"local"`:
		return local.New(filepath.Join(directory, "local"), 2*time.Second)
	case `"slurm"`:
		return slurm.New(batch.Tool{}), nil
	}
	return nil, fmt.Errorf("no batch system %s", queue)
}

// reach is a batch system of a name through a server, which keeps its things there.
func reach(t *testing.T, s *sshtest.Server, name, there string, options ...string) *System {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	y := New(batch.Tool{}, Config{
		Host: sshtest.Host, There: strings.TrimPrefix(there, "~/"), Directory: sshtest.Short(t), Floe: self, Agent: []string{"agent"},
		Queue: json.RawMessage(`"` + name + `"`), Name: name, Mirror: []string{"cluster.json"}, Spool: "spool", Options: append(options, s.Options...),
	})
	t.Cleanup(func() { y.Disconnect(context.Background()) })
	return y
}

// TestLocal is the machine itself, reached by ssh.
func TestLocal(t *testing.T) {
	s, there := sshtest.Serve(t, ""), sshtest.Short(t)
	batchtest.Run(t, func(t *testing.T) batchtest.Target {
		return batchtest.Target{System: reach(t, s, "local", there), NeverID: "floe-never"}
	})
	if left, err := filepath.Glob(filepath.Join(there, "bin", "*")); err != nil || len(left) != 1 {
		t.Errorf("programs there: %q, %v; want one, copied once", left, err)
	}
}

// TestSlurm is a real one behind a login node.
func TestSlurm(t *testing.T) {
	batchtest.Start(t, "slurm")
	s, there := sshtest.Serve(t, "SetEnv SLURM_CONF="+os.Getenv("SLURM_CONF")+"\n"), sshtest.Short(t)
	batchtest.Run(t, func(t *testing.T) batchtest.Target {
		return batchtest.Target{
			System: reach(t, s, "slurm", there), Queue: "short", BadQueue: "nope", NeverID: "999999", Wait: 2 * time.Minute,
		}
	})
}

// TestChattyLogin is a login that prints before all else, by a shell that is not sh.
func TestChattyLogin(t *testing.T) {
	s := sshtest.Serve(t, `ForceCommand echo "floe-machine: none of your business"; printf 'no newline at its end'; eval "$SSH_ORIGINAL_COMMAND"`)
	y := reach(t, s, "local", sshtest.Short(t))
	if entries, err := y.Status(t.Context(), nil); err != nil || len(entries) != 0 {
		t.Errorf("status: %v, %v; want an empty list", entries, err)
	}
}

func TestProgramsComeOnce(t *testing.T) {
	s, there := sshtest.Serve(t, ""), sshtest.Short(t)
	y := reach(t, s, "local", there)
	pilot := filepath.Join(sshtest.Short(t), "floe-pilot")
	sshtest.Write(t, pilot, "#!/bin/sh\n")
	y.config.Pilot = pilot
	p := y.Properties()
	want := batch.Properties{Name: "local", Lists: true, GPUs: true, Directory: there, Pilot: p.Pilot}
	if d := cmp.Diff(want, p); d != "" {
		t.Errorf("properties (-want +got):\n%s", d)
	}
	if got := sshtest.Read(t, p.Pilot); got != "#!/bin/sh\n" || filepath.Dir(p.Pilot) != filepath.Join(there, "bin") {
		t.Errorf("pilot at %s: %q", p.Pilot, got)
	}
	if info, err := os.Stat(p.Pilot); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("pilot: %v, %v; want mode 0700", info, err)
	}
	mark := time.Unix(1e9, 0)
	if err := os.Chtimes(p.Pilot, mark, mark); err != nil {
		t.Fatal(err)
	}
	again := reach(t, s, "local", there)
	again.config.Pilot = pilot
	if q := again.Properties(); q.Pilot != p.Pilot {
		t.Errorf("second pass: pilot at %s, want %s", q.Pilot, p.Pilot)
	}
	if info, err := os.Stat(p.Pilot); err != nil || !info.ModTime().Equal(mark) {
		t.Errorf("the second pass copied the pilot again: %v, %v", info, err)
	}
}

func TestHostKeys(t *testing.T) {
	s := sshtest.Serve(t, "")
	sshtest.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.Dir, "other"))
	for name, c := range map[string]struct {
		key, want string
		is        error
	}{
		"changed":      {"other.pub", "another key than before", ErrHostKey},
		"unknown":      {"", "connect once by hand", ErrHostKey},
		"not accepted": {"host.pub", "none of our keys is accepted", batch.ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			s.Know(t, c.key)
			if name == "not accepted" {
				sshtest.Write(t, filepath.Join(s.Dir, "id.pub"), sshtest.Read(t, filepath.Join(s.Dir, "other.pub")))
			}
			y := reach(t, s, "local", sshtest.Short(t))
			err := y.Remove(t.Context(), "1")
			if !errors.Is(err, c.is) || !errors.Is(err, batch.ErrRefused) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "cluster") {
				t.Errorf("remove: %v, want ErrRefused, %v, and %q", err, c.is, c.want)
			}
			if entries, err := y.Status(t.Context(), nil); !errors.Is(err, batch.ErrTransient) || !errors.Is(err, c.is) || len(entries) != 0 {
				t.Errorf("status: %v, %v; want ErrTransient and %v", entries, err, c.is)
			}
		})
	}
}

// prepare makes a job that waits until it is removed.
func prepare(t *testing.T, launch protocol.LaunchID) batch.Job {
	t.Helper()
	dir := filepath.Join(t.TempDir(), batch.JobName(launch))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	sshtest.Write(t, filepath.Join(dir, "pilot.sh"), "exec sleep 600\n")
	sshtest.Write(t, filepath.Join(dir, "ticket"), strings.Repeat("t", 20_000)) // so that there is something to cut
	return batch.Job{Launch: launch, Directory: dir, Script: filepath.Join(dir, "pilot.sh"), Files: []string{"ticket"}}
}

// TestConnectionIsLost cuts the wire after so many bytes, one way or the other,
// while a job is submitted. Whatever is said must be true afterwards.
func TestConnectionIsLost(t *testing.T) {
	s, there := sshtest.Serve(t, ""), sshtest.Short(t)
	reach(t, s, "local", there).Properties() // all is there
	t.Cleanup(func() {
		s.Wire.Limit(-1, -1)
		y := reach(t, s, "local", there)
		entries, err := y.Status(context.Background(), nil)
		for _, e := range entries {
			err = errors.Join(err, y.Remove(context.Background(), e.ID))
		}
		if err != nil {
			t.Error(err)
		}
	})
	submitted, lost := 0, 0
	for n, cut := range []struct{ up, down int64 }{
		{0, -1},
		{5000, -1},
		{8000, -1},
		{12_000, -1},
		{60_000, -1},
		{-1, 500},
		{-1, 3500},
		{-1, 5000},
		{-1, 8000},
		{-1, 60_000},
	} {
		launch := protocol.LaunchID(fmt.Sprintf("cut%d", n))
		j := prepare(t, launch)
		s.Wire.Limit(cut.up, cut.down)
		y := reach(t, s, "local", there)
		file, err := y.WriteSubmitFile([]batch.Job{j})
		var ids []batch.JobID
		if err == nil {
			ids, err = y.Submit(t.Context(), []batch.Job{j}, file)
		}
		if err != nil {
			lost++
			if !errors.Is(err, batch.ErrTransient) || errors.Is(err, batch.ErrRefused) {
				t.Errorf("after %d bytes up, %d down: %v, want ErrTransient", cut.up, cut.down, err)
			}
		}
		s.Wire.Limit(-1, -1)
		entries, err := reach(t, s, "local", there).Status(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		known := len(entries)
		found := 0
		for _, e := range entries {
			if e.Launch == launch && e.State == batch.Running {
				found++
			}
		}
		if n%3 == 1 {
			ask(t, s, cut.up, cut.down, there, known)
		}
		if submitted += found; found > 1 || len(ids) == 1 && found != 1 {
			t.Errorf("after %d bytes up, %d down: ids %q, %d jobs there", cut.up, cut.down, ids, found)
		}
	}
	t.Logf("%d of them got through, %d were told that the connection was lost", submitted, lost)
	if submitted == 0 || lost == 0 {
		t.Errorf("%d submitted, %d lost: the cuts are not where they were meant to be", submitted, lost)
	}
}

// ask tries the other verbs over a wire that is cut: a list is whole or unknown, and
// nothing is refused.
func ask(t *testing.T, s *sshtest.Server, up, down int64, there string, known int) {
	t.Helper()
	s.Wire.Limit(up, down)
	defer s.Wire.Limit(-1, -1)
	y := reach(t, s, "local", there)
	entries, err := y.Status(t.Context(), nil)
	if err != nil && (!errors.Is(err, batch.ErrTransient) || len(entries) != 0) || err == nil && len(entries) != known {
		t.Errorf("status after %d bytes up, %d down: %d jobs, %v; want %d or ErrTransient", up, down, len(entries), err, known)
	}
	for verb, err := range map[string]error{"remove": y.Remove(t.Context(), "floe-never"), "clean": y.Clean(t.Context(), "floe-never", "")} {
		if err != nil && !errors.Is(err, batch.ErrTransient) && !errors.Is(err, batch.ErrUnknownJob) {
			t.Errorf("%s after %d bytes up, %d down: %v, want ErrTransient", verb, up, down, err)
		}
	}
}

// TestCutProgram: half a program is never run.
func TestCutProgram(t *testing.T) {
	s, there := sshtest.Serve(t, ""), sshtest.Short(t)
	s.Wire.Limit(1<<20, -1)
	if _, err := reach(t, s, "local", there).Status(t.Context(), nil); !errors.Is(err, batch.ErrTransient) {
		t.Errorf("status: %v, want ErrTransient", err)
	}
	s.Wire.Limit(-1, -1)
	if whole, err := filepath.Glob(filepath.Join(there, "bin", "floe-"+strings.Repeat("?", 64))); err != nil || len(whole) != 0 {
		t.Errorf("programs there: %q, %v; want none", whole, err)
	}
	if _, err := reach(t, s, "local", there).Status(t.Context(), nil); err != nil {
		t.Errorf("status, with the wire whole: %v", err)
	}
}

// TestWhatComesBack: reports that nobody delivers, and the output of what has ended.
func TestWhatComesBack(t *testing.T) {
	s, there := sshtest.Serve(t, ""), sshtest.Short(t)
	y := reach(t, s, "local", there)
	sshtest.Write(t, filepath.Join(y.config.Directory, "cluster.json"), "{}")
	spool := filepath.Join(there, "spool")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-ownTime - time.Minute)
	for _, name := range []string{"1.report", "2.report", "3.bad"} {
		sshtest.Write(t, filepath.Join(spool, name), "report "+name)
		if name != "2.report" {
			if err := os.Chtimes(filepath.Join(spool, name), long, long); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(spool, "4.report")); err != nil {
		t.Fatal(err)
	}
	known := []batch.Known{{ID: "floe-gone", Launch: "gone"}, {Launch: "gone", Index: 1}}
	entries, err := y.Status(t.Context(), known)
	want := []batch.Entry{{ID: "floe-gone", Launch: "gone", State: batch.Ended}, {Launch: "gone", Index: 1, State: batch.Ended}}
	if d := cmp.Diff(want, entries); err != nil || d != "" {
		t.Errorf("status: %v (-want +got):\n%s", err, d)
	}
	if got := sshtest.Read(t, filepath.Join(y.config.Directory, "spool", "1.report")); got != "report 1.report" {
		t.Errorf("the report here is %q", got)
	}
	if got := sshtest.Read(t, filepath.Join(there, "cluster.json")); got != "{}" {
		t.Errorf("cluster.json there is %q", got)
	}
	left, err := filepath.Glob(filepath.Join(spool, "*"))
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if d := cmp.Diff([]string{"2.report", "3.bad", "4.report"}, left); err != nil || d != "" {
		t.Errorf("left there: %v (-want +got):\n%s", err, d)
	}

	for _, id := range []batch.JobID{"floe-gone", ""} {
		dir, far := filepath.Join(t.TempDir(), "floe-gone"), filepath.Join(there, "jobs", "floe-gone")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.MkdirAll(far, 0o700)); err != nil {
			t.Fatal(err)
		}
		sshtest.Write(t, filepath.Join(far, batch.Output), strings.Repeat("x", maxFetched)+"the end\n")
		sshtest.Write(t, filepath.Join(far, "ticket"), "secret")
		if err := y.Clean(t.Context(), id, dir); err != nil {
			t.Errorf("clean %q: %v", id, err)
		}
		out := sshtest.Read(t, filepath.Join(dir, batch.Output))
		if !strings.HasPrefix(out, "(floe: 8 bytes before this were not fetched)\nxxx") || !strings.HasSuffix(out, "the end\n") {
			t.Errorf("clean %q: output of %d bytes begins %.60q", id, len(out), out)
		}
		if _, err := os.Stat(far); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("clean %q: the job's directory there: %v, want it gone", id, err)
		}
	}
}

// TestOrdersStayBelow is about what the two ends believe of each other.
func TestOrdersStayBelow(t *testing.T) {
	dir := t.TempDir()
	for _, o := range []order{
		{Directory: "relative"},
		{Directory: dir, Place: []file{{Name: "../x"}}},
		{Directory: dir, Place: []file{{Name: "/x"}}},
		{Directory: dir, Fetch: []string{"../../etc/passwd"}},
		{Directory: dir, Drop: []string{""}},
		{Directory: dir, Drop: []string{".."}},
		{Directory: dir, Spool: "../spool"},
		{Directory: dir, Queue: json.RawMessage(`"none"`), Request: json.RawMessage(`{}`)},
	} {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := Serve(t.Context(), bytes.NewReader(text), &out, open); err != nil {
			t.Fatal(err)
		}
		if r, err := parse(out.Bytes()); err != nil || r.Exit == 0 || r.Said == "" || len(r.Files) > 0 {
			t.Errorf("order %s: %+v, %v; want it refused", text, r, err)
		}
	}
	if err := Serve(t.Context(), strings.NewReader("{"), new(bytes.Buffer), open); err == nil {
		t.Error("an order that is cut: no error")
	}
	// A job that still runs keeps its directory.
	if err := os.MkdirAll(filepath.Join(dir, "jobs", "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := obey(t.Context(), &order{Directory: dir, Queue: json.RawMessage(`"local"`), Request: json.RawMessage(`{"version": 1, "verb": "none"}`), Drop: []string{"jobs/a"}}, open); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "jobs", "a")); err != nil {
		t.Errorf("dropped after a request that failed: %v", err)
	}
	y := New(batch.Tool{}, Config{Host: "h", Directory: dir, Spool: "spool"})
	for _, name := range []string{"../1.report", "1.report/../../2.report", "site.key"} {
		if err := y.collect(t.Context(), &there{}, []file{{Name: name}}); err == nil {
			t.Errorf("a report of the name %s is taken", name)
		}
	}
}

func TestOtherMachine(t *testing.T) {
	for text, want := range map[string]string{
		"Welcome\nfloe-directory: /home/it's/floe\nfloe-machine: Linux aarch64\nfloe-has: bin/*\n": "Linux aarch64",
		"Welcome\n": "",
		"floe-directory: here\nfloe-machine: Linux x86_64\n": "",
		"floe-directory: /h\n":                               "",
	} {
		got, err := parseProbe([]byte(text))
		if (err != nil) != (want == "") || err == nil && got.machine != want {
			t.Errorf("probe %q: %+v, %v; want %q", text, got, err, want)
		}
	}
}

func FuzzOutcome(f *testing.F) {
	f.Add([]byte("Welcome\n" + mark + `{"exit":0,"answer":{"jobs":[]},"files":[{"name":"a","mode":384,"data":"eA=="}]}` + "\n"))
	f.Add([]byte(mark + `{"exit":3,"said":"no"}` + "\n" + mark + "{}"))
	f.Add([]byte("floe-directory: /h\nfloe-machine: Linux x86_64\nfloe-has: bin/floe\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if o, err := parse(text); (o == nil) != (err != nil) {
			t.Fatalf("%v beside %v", o, err)
		}
		if p, err := parseProbe(text); err == nil && (!filepath.IsAbs(p.directory) || p.machine == "") {
			t.Fatalf("probe %+v", p)
		}
	})
}
