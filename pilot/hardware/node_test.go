package hardware

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

var update = flag.Bool("update", false, "rewrite what testdata/nodes want; read the difference before committing")

// section is one part of a node's description.
type section struct{ name, text string }

// readSections splits a file at its lines "-- NAME --".
func readSections(text string) (before string, sections []section) {
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(name, " --") {
			sections = append(sections, section{name: strings.TrimSuffix(name, " --")})
		} else if last := len(sections) - 1; last >= 0 {
			sections[last].text += line
		} else {
			before += line
		}
	}
	return before, sections
}

// readNode makes a node of a description: variables, files, and the answers of its
// tools, "!" before the output of one that fails.
func readNode(sections []section) *recorded {
	node := &recorded{affinity: 1, arch: "x86_64", free: 1, env: map[string]string{}, files: map[string]string{}, commands: map[string]string{}}
	for _, s := range sections {
		switch kind, rest, _ := strings.Cut(s.name, " "); kind {
		case "env":
			for line := range strings.Lines(s.text) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
				node.env[name] = value
			}
		case "kernel":
			for line := range strings.Lines(s.text) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
				n, _ := strconv.ParseInt(value, 10, 64)
				switch name {
				case "arch":
					node.arch = value
				case "affinity":
					node.affinity = int(n)
				case "free":
					node.free = protocol.ByteSize(n)
				case "address_space":
					node.vmem = protocol.ByteSize(n)
				}
			}
		case "file":
			node.files[strings.TrimPrefix(rest, "/")] = s.text
		case "$":
			node.commands[rest] = strings.TrimSuffix(s.text, "\n")
		}
	}
	return node
}

// TestNodes measures described nodes, mostly broken ones, and compares what is
// offered and what is said about it.
func TestNodes(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "nodes", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no nodes: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, sections := readSections(string(text))
			want := &sections[len(sections)-1]
			if want.name != "want" {
				t.Fatalf("%s: its last section is %q, not want", file, want.name)
			}
			got, report := Measure(t.Context(), readNode(sections[:len(sections)-1]).options())
			var b strings.Builder
			for _, g := range got.GPUs {
				fmt.Fprintf(&b, "%s %q %v %d tested=%v\n", g.ID, g.Model, g.Memory, g.Capability, g.Tested)
			}
			fmt.Fprintf(&b, "tags %s\n", strings.Join(got.Tags, " "))
			for _, f := range report.Findings {
				switch {
				case f.What == "gpu" && f.Value == "none":
					fmt.Fprintf(&b, "none %s\n", f.Source)
				case f.What == "gpu test" && !strings.Contains(f.Source, "no Python"):
					fmt.Fprintf(&b, "test %s %s\n", f.Value, f.Source)
				}
			}
			for _, c := range report.Comparisons {
				fmt.Fprintf(&b, "%s promised=%s found=%s offered=%s\n", c.What, dash(c.Promised), dash(c.Found), c.Offered)
				if c.Warning != "" {
					fmt.Fprintf(&b, "warning %s\n", c.Warning)
				}
			}
			for _, c := range report.Containers {
				fmt.Fprintf(&b, "container %s %s usable=%v: %s\n", c.Name, dash(c.Version), c.Usable, c.Reason)
			}
			for _, p := range report.Problems {
				fmt.Fprintf(&b, "problem %s\n", p)
			}
			if *update {
				changed := strings.TrimSuffix(string(text), want.text) + b.String()
				if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(want.text, b.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s\nreport:\n%s", file, diff, report.String())
			}
		})
	}
}
