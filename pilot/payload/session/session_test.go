package session

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) {
	Speak()
	os.Exit(m.Run())
}

// open opens a session in which a module runs.
func open(t *testing.T, c Config) *Session {
	t.Helper()
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "s") // t.TempDir holds the test's name, and sockets want short paths
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		c.Dir = dir
	}
	c.Logger = slog.New(slog.DiscardHandler)
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Begin(map[string]any{"cores": 4, "task": "generate"})
	return s
}

// say sends lines over one connection and returns the answers.
func say(t *testing.T, s *Session, lines ...string) []string {
	t.Helper()
	c, err := net.Dial("unix", s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	var answers []string
	for _, line := range lines {
		if _, err := io.WriteString(c, line+"\n"); err != nil {
			t.Fatal(err)
		}
		a, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("after %.80q: %v", line, err)
		}
		answers = append(answers, strings.TrimSuffix(a, "\n"))
	}
	return answers
}

func TestRequestsAreAnsweredByName(t *testing.T) {
	var saved [][]string
	s := open(t, Config{
		End: func() (time.Time, bool) { return time.Now().Add(time.Hour + time.Second/2), true },
		Save: func(paths []string) (protocol.ByteSize, error) {
			saved = append(saved, paths)
			if len(paths) > 1 {
				return 0, Errorf(CodePath, "no\nsuch file")
			}
			return 17, nil
		},
	})
	for _, test := range []struct{ ask, want string }{
		{"statistic set events 10", "ok"},
		{"statistic add events 2.5", "ok 12.5"},
		{"statistic add new 1", "ok 1"},
		{"statistic set two words 3", "ok"},
		{"statistic set events NaN", "error not-finite statistic events: NaN is not a finite number"},
		{"statistic set events -inf", "error not-finite statistic events: -inf is not a finite number"},
		{"statistic set events 1e999", "error not-finite statistic events: 1e999 is not a finite number"},
		{"statistic set events 0x10", `error not-finite statistic events: "0x10" is no number`},
		{"statistic set events", "error syntax statistic: want a name and a number"},
		{"statistic set  5", `error name statistic "": a name has 1 to 128 bytes`},
		{"statistic put events 1", `error syntax statistic "put": want set or add`},
		{"statistic set " + strings.Repeat("x", 129) + " 1", `error name statistic "` + strings.Repeat("x", 40) + `": a name has 1 to 128 bytes`},
		{"progress 0.25 step 3 of 12", "ok"},
		{"progress 1.01", "error range progress 1.01: want 0 to 1"},
		{"progress nan", "error not-finite progress: nan is not a finite number"},
		{"progress 0.5 " + strings.Repeat("x", 201), "error too-long progress: text of 201 bytes, limit 200"},
		{"checkpoint saved", "ok 17"},
		{"checkpoint saved a file", "ok 17"},
		{"checkpoint saved a\tb", "error path no such file"},
		{"checkpoint lost", `error syntax checkpoint "lost": want saved`},
		{"remaining", "ok 3600"},
		{"remaining 600", "ok 3000"},
		{"remaining 7200", "ok 0"},
		{"remaining -1", "error range margin -1: want 0 to 31622400 seconds"},
		{"attempt cores", "ok 4"},
		{"attempt", `ok {"cores":4,"task":"generate"}`},
		{"attempt size", `error syntax attempt "size": want one of cores task`},
		{"", `error syntax "": want statistic, progress, checkpoint, remaining or attempt`},
		{"GET / HTTP/1.1", `error syntax "GET": want statistic, progress, checkpoint, remaining or attempt`},
		{"progress 0.5 \xff", "error syntax not UTF-8"},
	} {
		if got := say(t, s, test.ask)[0]; got != test.want {
			t.Errorf("%.60q = %q, want %q", test.ask, got, test.want)
		}
	}
	if want := [][]string{nil, {"a file"}, {"a", "b"}}; !cmp.Equal(saved, want) {
		t.Errorf("saved %q, want %q", saved, want)
	}
	p, spoken := s.Progress()
	if want := []protocol.Statistic{{Name: "events", Value: 12.5}, {Name: "new", Value: 1}, {Name: "two_words", Value: 3}}; !spoken || p.Fraction != 0.25 || p.Text != "step 3 of 12" || !cmp.Equal(p.Statistics, want) {
		t.Errorf("progress %+v, %v", p, spoken)
	}
	if got, want := s.End(), []protocol.Statistic{{Name: "events", Value: 12.5}, {Name: "new", Value: 1}, {Name: "two_words", Value: 3}}; !cmp.Equal(got, want) {
		t.Errorf("End() = %v, want %v", got, want)
	}
	if got := say(t, s, "statistic set late 1", "attempt", "checkpoint saved"); got[0] != "error no-module no module runs" || got[1] != got[0] || got[2] != got[0] {
		t.Errorf("between modules: %q", got)
	}
}

func TestNothingLimitsTheTask(t *testing.T) {
	s := open(t, Config{})
	if got := say(t, s, "remaining", "checkpoint saved"); got[0] != "error no-limit nothing limits the time of this task" || got[1] != "error refused checkpoints are not kept here" {
		t.Errorf("answers %q", got)
	}
}

// A payload may say what it wants, as often as it wants: what is kept is bounded.
func TestAMillionStatistics(t *testing.T) {
	s := open(t, Config{})
	refused := 0
	for i := range 1_000_000 {
		_, err := s.do(fmt.Sprintf("statistic set x%d %d", i, i))
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Code != CodeTooMany) {
			t.Fatal(err)
		}
		if err != nil {
			refused++
		}
	}
	if n := len(s.End()); n != protocol.MaxStatistics || refused != 1_000_000-protocol.MaxStatistics {
		t.Errorf("%d statistics kept, %d refused by name", n, refused)
	}
	s.Begin(map[string]any{})
	for range 1000 {
		if _, err := s.do("statistic add huge 1e308"); err != nil {
			var e *Error
			if errors.As(err, &e) && e.Code == CodeNotFinite {
				break
			}
			t.Fatal(err)
		}
	}
	if got := s.End(); len(got) != 1 || math.IsInf(got[0].Value, 0) {
		t.Errorf("a sum beyond all numbers: %v", got)
	}
}

// Those who connect and never speak keep nobody from being heard.
func TestSilentConnections(t *testing.T) {
	s := open(t, Config{})
	for i := range 2000 {
		c, err := net.Dial("unix", s.Path())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		if i%3 == 0 {
			_, _ = io.WriteString(c, "statistic set half") // and never goes on
		}
	}
	if got := say(t, s, "statistic set heard 1"); got[0] != "ok" {
		t.Errorf("answer %q", got)
	}
	s.mu.Lock()
	n := len(s.connections)
	s.mu.Unlock()
	if n > maxConnections {
		t.Errorf("%d connections are kept, limit %d", n, maxConnections)
	}
}

func TestALineWithoutEndIsRefusedAndEndsItsConnection(t *testing.T) {
	s := open(t, Config{})
	c, err := net.Dial("unix", s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { _, _ = c.Write(bytes.Repeat([]byte("x"), 1<<20)) }()
	got, _ := bufio.NewReader(c).ReadString('\n')
	if !strings.HasPrefix(got, "error too-long ") {
		t.Errorf("answer %q", got)
	}
	if got := say(t, s, "statistic set still 1"); got[0] != "ok" {
		t.Errorf("afterwards: %q", got)
	}
}

// One who asks and never reads is given up; Close does not wait for anybody.
func TestOneWhoNeverReads(t *testing.T) {
	s := open(t, Config{})
	c, err := net.Dial("unix", s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for range 1 << 16 {
			if _, err := io.WriteString(c, "attempt\n"); err != nil {
				return
			}
		}
	}()
	if got := say(t, s, "attempt task"); got[0] != "ok generate" {
		t.Errorf("answer beside it: %q", got)
	}
	s.Close()
	<-wrote
}

func TestASocketInADeepDirectory(t *testing.T) {
	short := t.TempDir()
	deep := filepath.Join(short, strings.Repeat("a", 100))
	if err := os.Mkdir(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: deep}); err == nil || !strings.Contains(err.Error(), "limit 107") {
		t.Errorf("without a short place: %v", err)
	}
	// The short place itself lies deep, and payloads see it elsewhere.
	s, err := Open(Config{Dir: deep, Short: deep, ShortSeen: "/tmp", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Path() != "/tmp/floe-socket" {
		t.Errorf("path %s", s.Path())
	}
	if info, err := os.Stat(filepath.Join(deep, "floe-socket")); err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("socket %v, %v", info, err)
	}
}

func TestTheCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bin")
	if err := Install(dir); err != nil {
		t.Fatal(err)
	}
	s := open(t, Config{
		End:  func() (time.Time, bool) { return time.Now().Add(100*time.Second + time.Second/2), true },
		Save: func(paths []string) (protocol.ByteSize, error) { return protocol.ByteSize(len(paths)), nil },
	})
	run := func(socket, script string) (string, int) {
		c := exec.Command("/bin/sh", "-c", script)
		c.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", Variable + "=" + socket}
		out, _ := c.CombinedOutput()
		return string(out), c.ProcessState.ExitCode()
	}
	for _, test := range []struct {
		script, want string
		code         int
	}{
		{"floe-task statistic events 5 && floe-task statistic --add events 2", "7\n", 0},
		{"floe-task progress 0.5 half of it", "", 0},
		{"floe-task checkpoint saved 'a b' c", "2\n", 0},
		{"floe-task checkpoint saved", "0\n", 0},
		{"floe-task remaining --margin 40", "60\n", 0},
		{"floe-task attempt task", "generate\n", 0},
		{"floe-task statistic events many", "floe-task: not-finite: statistic events: \"many\" is no number\n", 1},
		{"floe-task statistic events", "floe-task: want statistic [--add] NAME VALUE\n", 2},
		{"floe-task progres 1", "floe-task: \"progres\": want statistic, progress, checkpoint, remaining or attempt; see floe-task --help\n", 2},
		{"floe-task", usage, 0},
	} {
		if out, code := run(s.Path(), test.script); out != test.want || code != test.code {
			t.Errorf("%s: exit code %d, %q; want %d, %q", test.script, code, out, test.code, test.want)
		}
	}
	if out, code := run("", "floe-task attempt"); code != 3 || !strings.Contains(out, "FLOE_SOCKET") {
		t.Errorf("without a pilot: exit code %d, %q", code, out)
	}
	if out, code := run("/nonexistent", "floe-task attempt"); code != 3 {
		t.Errorf("with a pilot that is gone: exit code %d, %q", code, out)
	}
	if p, _ := s.Progress(); p.Fraction != 0.5 || p.Text != "half of it" {
		t.Errorf("progress %+v", p)
	}
}

func FuzzRequest(f *testing.F) {
	for _, line := range []string{
		"statistic set a 1", "statistic add a b 1e308", "statistic set  NaN", "progress 0.5 \x1b[31m", "progress 1e-400",
		"checkpoint saved a\tb", "checkpoint saved \t", "remaining 1e9", "attempt", "\x00", "statistic set \xff 1", "checkpoint saved ../../etc",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s := &Session{config: Config{Save: func([]string) (protocol.ByteSize, error) { return 0, nil }}}
		s.Begin(map[string]any{"cores": 1})
		value, err := s.do(line)
		reply := answer(value, err)
		if strings.Count(reply, "\n") != 1 || !strings.HasSuffix(reply, "\n") {
			t.Errorf("%q is answered by %q, which is not one line", line, reply)
		}
		if p, spoken := s.Progress(); spoken && p.Check() != nil {
			t.Errorf("%q leads to progress that coordinators refuse: %v", line, p.Check())
		}
		for _, x := range s.End() {
			if err := protocol.CheckStatistic(x); err != nil {
				t.Errorf("%q leads to a statistic that no report may hold: %v", line, err)
			}
		}
		if _, err := json.Marshal(reply); err != nil {
			t.Error(err)
		}
	})
}
