package iceprod

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"floe/glidein"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden has one file with all that such files have, right and wrong.
func TestGolden(t *testing.T) {
	old, err := os.ReadFile("testdata/site.cfg")
	if err != nil {
		t.Fatal(err)
	}
	made := Read(string(old), "site.cfg")
	var report strings.Builder
	for _, l := range made.Lines {
		to := "-"
		if l.To != "" {
			to = l.To
		}
		fmt.Fprintf(&report, "%03d [%s] %s > %s", l.Line, l.Section, l.Key, to)
		if l.Why != "" {
			report.WriteString(": " + l.Why)
		}
		report.WriteString("\n")
	}
	for file, got := range map[string]string{"testdata/site.toml": made.TOML, "testdata/report.txt": report.String()} {
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
	}
	if made.Mistakes != "" {
		t.Errorf("what was made is wrong: %s", made.Mistakes)
	}
}

func TestNoTypeIsAMistake(t *testing.T) {
	made := Read("[queue]\nbatchsystem = cray\n", "x")
	if !strings.Contains(made.Mistakes, `queue.type "": want one of`) || !strings.Contains(made.Lines[0].Why, `batch system "cray"`) {
		t.Errorf("import = %+v", made)
	}
}

func TestSpans(t *testing.T) {
	for in, want := range map[string]string{
		"48:00:00": "48h0m0s", "2-12:00:00": "60h0m0s", "1:00:00:30": "24h0m30s", "30h": "30h", "90m": "90m", "90 min": "90m", "2d": "48h", "2 days": "48h",
		"3600": "", "": "", "x:y:z": "", "-1:00:00": "", "0:0:0": "", "12 parsecs": "",
	} {
		if got, ok := span(in); got != want && ok || ok != (want != "") {
			t.Errorf("span(%q) = %q, %v, want %q", in, got, ok, want)
		}
	}
}

// FuzzRead: whatever comes in, what goes out is TOML of known keys, and each key of
// the old file is told of once.
func FuzzRead(f *testing.F) {
	old, err := os.ReadFile("testdata/site.cfg")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(old))
	f.Add("[env]\nA = %(a)s\na = %(A)s\n")
	f.Add("[system]\nx = %%(y)s%\n y\n[x\n]=1\n[queue]\n: 3\nqueue")
	f.Add("[DEFAULT]\na=%(b)s%(b)s\nb=%(c)s%(c)s\nc=%(d)s%(d)s\nd=x\n[env]\nz=%(a)s")
	f.Fuzz(func(t *testing.T, text string) {
		made := Read(text, "old.ini")
		var any map[string]any
		if err := toml.Unmarshal([]byte(made.TOML), &any); err != nil {
			t.Fatalf("not TOML: %v\n%s", err, made.TOML)
		}
		if strings.Contains(made.Mistakes, "unknown key") || strings.Contains(made.Mistakes, "unknown section") {
			t.Fatalf("%s\n%s", made.Mistakes, made.TOML)
		}
		entries, mistakes := parseINI(text)
		if len(made.Lines) != len(entries)+len(mistakes) {
			t.Fatalf("%d lines are told of, of %d", len(made.Lines), len(entries)+len(mistakes))
		}
		for _, l := range made.Lines {
			if l.To == "" && l.Why == "" {
				t.Fatalf("no word of why: %+v", l)
			}
		}
	})
}

func TestKeysAreThoseOfTheConfiguration(t *testing.T) {
	for old, to := range queueKeys {
		if to != "" && !slices.Contains(glidein.Keys(), "queue."+to) {
			t.Errorf("%s becomes queue.%s, which is no key", old, to)
		}
	}
	for _, to := range types {
		if !slices.Contains(glidein.Types, to) {
			t.Errorf("%s is no batch system", to)
		}
	}
}
