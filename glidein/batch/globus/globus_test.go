package globus

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

const neverID = "https://vm:22222/16000/1/"

func TestFakeGlobus(t *testing.T) {
	batchtest.Run(t, func(t *testing.T) batchtest.Target {
		f := batchtest.NewFake(t, 2)
		f.Install(t, dialect)
		return batchtest.Target{System: newSystem(t, "vm:2119/jobmanager-fork"), Fake: f, Dialect: dialect, BadQueue: "nope", NeverID: neverID, Slots: 2}
	})
}

// TestRealGlobus runs where scripts/batch-systems/globus.sh can install and start one.
func TestRealGlobus(t *testing.T) {
	batchtest.Start(t, "globus")
	batchtest.Run(t, func(t *testing.T) batchtest.Target {
		return batchtest.Target{System: newSystem(t, os.Getenv("FLOE_GRAM")), NeverID: neverID, Wait: 2 * time.Minute}
	})
}

func newSystem(t *testing.T, contact string) *System {
	t.Helper()
	s, err := New(batch.Tool{}, contact)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSubmitFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"pilot.sh": "exit 0\n", "ticket": "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := newSystem(t, "gram.example.org").WriteSubmitFile([]batch.Job{{
		Launch: "abc", Directory: dir, Script: filepath.Join(dir, "pilot.sh"), Files: []string{"ticket"}, Cores: 4, Memory: 8 * protocol.GB,
		Walltime: 90*time.Minute + time.Second, Queue: "long", Account: "ice", Directives: []string{"(hostCount=1)"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	start := regexp.MustCompile(`FLOE_START "([^"]+)"`).FindSubmatch(b)
	if start == nil {
		t.Fatalf("no start script in\n%s", b)
	}
	script, err := base64.StdEncoding.DecodeString(string(start[1]))
	if err != nil || !strings.Contains(string(script), "put 'ticket' "+base64.StdEncoding.EncodeToString([]byte("secret"))) {
		t.Errorf("the start script lacks the ticket: %v\n%s", err, script)
	}
	want := `&(executable=/bin/sh)
 (arguments="-c" "eval ""$(printf %s ""$FLOE_START"" | base64 -d)""")
 (environment=(FLOE_START "…"))
 (stdout=x-gass-cache://$(GLOBUS_GRAM_JOB_CONTACT)stdout anExtraTag)
 (stderr=x-gass-cache://$(GLOBUS_GRAM_JOB_CONTACT)stderr anExtraTag)
 (jobType=single)
 (count=4)
 (maxMemory="8000")
 (maxWallTime="91")
 (queue="long")
 (project="ice")
 (hostCount=1)
`
	if d := cmp.Diff(want, strings.Replace(string(b), string(start[1]), "…", 1)); d != "" {
		t.Errorf("submit file (-want +got):\n%s", d)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("submit file: %v, %v; want mode 0600, the ticket is in it", info, err)
	}
}

func TestContact(t *testing.T) {
	for _, bad := range []string{"", "-x", "https://gram.example.org", "a b", "gram.example.org/x;y"} {
		if _, err := New(batch.Tool{}, bad); err == nil || !strings.Contains(err.Error(), "jobmanager-pbs") {
			t.Errorf("contact %q: %v, want an example of a right one", bad, err)
		}
	}
}

// TestDoneIsNoProof is the trap of a contact that nobody answers for: with the
// gatekeeper away, jobs are unknown and not done.
func TestDoneIsNoProof(t *testing.T) {
	f := batchtest.NewFake(t, 1)
	f.Install(t, dialect)
	s := newSystem(t, "vm")
	known := []batch.Known{{ID: neverID, Launch: "abc"}}
	entries, err := s.Status(t.Context(), known)
	if err != nil || len(entries) != 1 || entries[0].State != batch.Ended {
		t.Errorf("with a gatekeeper: %+v, %v; want it ended", entries, err)
	}
	f.Break(t, "globusrun", batchtest.Down)
	if entries, err := s.Status(t.Context(), known); !errors.Is(err, batch.ErrTransient) || len(entries) != 0 {
		t.Errorf("without a gatekeeper: %+v, %v; want ErrTransient", entries, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"DONE\n", "PENDING", "warning\nACTIVE\n", "DONE WELL\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := parse(b); s != 0 && s.String() == "invalid state" {
			t.Fatalf("parsed %v", s)
		}
	})
}
