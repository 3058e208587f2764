package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// recorded is a result as it is kept in docs/benchmarks, one file per bench.
type recorded struct {
	Bench    string   `json:"bench"`
	Value    float64  `json:"value"`
	Unit     string   `json:"unit"`
	Target   float64  `json:"target"`
	AtMost   bool     `json:"at_most,omitempty"`
	Peer     float64  `json:"limit_or_peer"`
	PeerIs   string   `json:"limit_or_peer_is"`
	Ratio    float64  `json:"ratio"`
	Pass     bool     `json:"pass"`
	Problems []string `json:"problems,omitempty"`
	Notes    []string `json:"notes,omitempty"`
	Quick    bool     `json:"quick"`
	Machine  machine  `json:"machine"`
}

// machine is where and when a result came about.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Disk   string `json:"disk"`
	Go     string `json:"go"`
	Commit string `json:"commit"`
	Date   string `json:"date"`
}

// record writes a result below docs/benchmarks and draws the table anew.
func record(ctx context.Context, dir string, r *result, quick bool) error {
	entry := recorded{
		Bench: r.bench, Value: rounded(r.Value), Unit: r.Unit, Target: r.Target, AtMost: r.AtMost,
		Peer: rounded(r.peer()), PeerIs: r.PeerIs, Ratio: rounded(r.ratio()), Pass: r.pass(),
		Problems: r.Problems, Notes: r.Notes, Quick: quick, Machine: thisMachine(ctx),
	}
	if entry.PeerIs == "" {
		entry.PeerIs = "the target"
	}
	text, err := json.MarshalIndent(entry, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, r.bench+".json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return drawTable(dir)
}

// The table stands between these lines of docs/benchmarks/README.md.
const (
	tableBegins = "<!-- The table is written by scripts/bench NAME --record. -->\n"
	tableEnds   = "<!-- The table ends. -->\n"
)

// drawTable writes the table of all recorded results, in the order of the list.
func drawTable(dir string) error {
	page := filepath.Join(dir, "README.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), tableBegins)
	_, tail, ends := strings.Cut(rest, tableEnds)
	if !ok || !ends {
		return fmt.Errorf("%s: the lines between which the table stands are missing", page)
	}
	var b strings.Builder
	b.WriteString(head + tableBegins + "\n")
	b.WriteString("| bench | figure | target | | limit or peer of the same run | ratio | on | notes |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, x := range benches {
		raw, err := os.ReadFile(filepath.Join(dir, x.name+".json"))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		var e recorded
		if err := json.Unmarshal(raw, &e); err != nil {
			return fmt.Errorf("%s.json: %w", x.name, err)
		}
		b.WriteString(e.row())
	}
	b.WriteString("\n" + tableEnds + tail)
	return os.WriteFile(page, []byte(b.String()), 0o644)
}

func (e *recorded) row() string {
	bound, verdict, form := "≥", "reached", "full"
	if e.AtMost {
		bound = "≤"
	}
	if !e.Pass {
		verdict = "**missed**"
	}
	if e.Quick {
		form = "quick"
	}
	m := e.Machine
	on := fmt.Sprintf("%s, %d × %s, %s, %s, Linux %s, %s, %s at %s", form, m.Cores, m.CPU, m.Memory, m.Disk, m.Kernel, m.Go, m.Date, m.Commit)
	notes := strings.Join(append(e.Problems, e.Notes...), "; ")
	return fmt.Sprintf("| `%s` | %v %s | %s %v | %s | %v: %s | %v | %s | %s |\n",
		e.Bench, e.Value, e.Unit, bound, e.Target, verdict, e.Peer, e.PeerIs, e.Ratio, on, strings.ReplaceAll(notes, "|", `\|`))
}

func thisMachine(ctx context.Context) machine {
	return machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: memoryOf(), Kernel: firstLine("/proc/sys/kernel/osrelease"),
		Disk: output(ctx, "stat", "-f", "-c", "%T", "."), Go: runtime.Version(),
		Commit: output(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12"), Date: time.Now().UTC().Format(time.DateOnly),
	}
}

func memoryOf() string {
	var kib float64
	_, _ = fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kib) // 0 where there is no such file
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

// field is a value of a file of lines such as "model name : value".
func field(file, name string) string {
	text, _ := os.ReadFile(file) // not on every system
	for line := range bytes.Lines(text) {
		key, value, ok := strings.Cut(string(line), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func firstLine(file string) string {
	text, _ := os.ReadFile(file) // not on every system
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// output is what a command prints, or that it could not be asked.
func output(ctx context.Context, name string, args ...string) string {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

// rounded keeps four digits: more would pretend.
func rounded(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	if scale < 1 {
		return math.Round(v)
	}
	return math.Round(v*scale) / scale
}
