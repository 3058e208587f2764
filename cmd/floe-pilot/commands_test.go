package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/pilot/hardware"
	"floe/pilot/payload"
	"floe/protocol"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestMain(m *testing.M) {
	payload.Keep()
	os.Exit(m.Run())
}

// run runs floe-pilot's command tree.
func run(t *testing.T, args ...string) (code int, out string, err error) {
	t.Helper()
	var b bytes.Buffer
	c := newRoot()
	c.SetArgs(args)
	c.SetOut(&b)
	c.SetErr(&b)
	err = c.ExecuteContext(t.Context())
	return exitCode(err), b.String(), err
}

// TestEveryCommandIsDocumented compares the command tree with docs/commands.md.
func TestEveryCommandIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	root := newRoot()
	for _, c := range append([]*cobra.Command{root}, root.Commands()...) {
		if c.Hidden {
			continue
		}
		_, section, found := strings.Cut(string(page), "\n### "+c.CommandPath()+"\n")
		if !found {
			t.Errorf("docs/commands.md has no section ### %s", c.CommandPath())
			continue
		}
		section, _, _ = strings.Cut(section, "\n### ")
		c.Flags().VisitAll(func(f *pflag.Flag) {
			name := "--" + f.Name
			if f.Shorthand != "" {
				name = "-" + f.Shorthand
			}
			if f.Name != "help" && !strings.Contains(section, name) {
				t.Errorf("docs/commands.md: section %s lacks %s", c.CommandPath(), name)
			}
		})
	}
}

func TestMistakesAreToldBeforeAnythingIsDone(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	pin := protocol.DigestOf([]byte("root"))
	ticket := protocol.NewToken(protocol.TokenPilot, pin, "demo", "localhost:1").Text()
	person := protocol.NewToken(protocol.TokenUser, pin, "demo", "localhost:1").Text()
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no ticket", nil, exitUsage, "--ticket-file is missing"},
		{"unknown flag", []string{"--tickets"}, exitUsage, "unknown flag"},
		{"unknown command", []string{"detect"}, exitUsage, `"detect"`},
		{"unknown level", []string{"--log-level", "loud"}, exitUsage, `"loud"`},
		{"unknown output", []string{"hwdetect", "-o", "yaml"}, exitUsage, "text or json"},
		{"argument too many", []string{"hwdetect", "here"}, exitUsage, `"here"`},
		{"unknown isolation", []string{"--isolation", "some"}, exitUsage, "auto, none or require"},
		{"no such file", []string{"--ticket-file", "/nonexistent"}, exitFailure, "/nonexistent"},
		{"others can read it", []string{"--ticket-file", write("ticket", ticket, 0o644)}, exitFailure, "chmod 600"},
		{"nonsense", []string{"--ticket-file", write("ticket", "hello", 0o600)}, exitFailure, "ticket "},
		{"of a person", []string{"--ticket-file", write("ticket", person, 0o600)}, exitFailure, "it is for a user"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, _, err := run(t, test.args...)
			if code != test.code || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("floe-pilot %v = %d, %v; want %d and %q", test.args, code, err, test.code, test.want)
			}
		})
	}
}

func TestHardwareIsShown(t *testing.T) {
	code, out, err := run(t, "hwdetect", "--scratch", t.TempDir(), "-o", "json")
	var shown struct {
		Resources protocol.Resources
		Report    hardware.Report
		Isolation string
	}
	if code != 0 {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil || shown.Resources.Cores < 1 || len(shown.Report.Comparisons) < 3 {
		t.Errorf("floe-pilot hwdetect -o json: %d cores, comparisons %v, %v", shown.Resources.Cores, shown.Report.Comparisons, err)
	}
	if shown.Isolation != "user, mount, pid and ipc namespaces" && !strings.HasPrefix(shown.Isolation, "none: ") {
		t.Errorf("floe-pilot hwdetect -o json: isolation %q", shown.Isolation)
	}
	if code, out, err = run(t, "hwdetect", "--scratch", t.TempDir()); code != 0 || !strings.Contains(out, "cores ") || !strings.Contains(out, "promised") || !strings.Contains(out, "isolation ") {
		t.Errorf("floe-pilot hwdetect = %d, %v:\n%s", code, err, out)
	}
}
