package water

import (
	"crypto/sha256"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"floe/protocol"
	"floe/protocol/steering"
)

var whole = flag.Bool("whole", false, "run the example through a cluster, with Debian's GROMACS")

// needs skips a test on machines without a program.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// run runs a program of the example and returns what it printed and its exit code.
func run(t *testing.T, command *exec.Cmd) (string, int) {
	t.Helper()
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), command.ProcessState.ExitCode()
}

// water.yaml is a dataset floe accepts without a word; its jobs take turns at the
// temperatures, each with a seed of its own.
func TestSteering(t *testing.T) {
	content, err := os.ReadFile("water.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, problems := steering.Parse("water.yaml", content)
	if len(problems) > 0 {
		t.Fatalf("problems:\n%v", problems)
	}
	if problems := steering.Lint(doc, steering.CompileInput{Dataset: 1, JobCount: 1000}, nil); len(problems) > 0 {
		t.Errorf("problems:\n%v", problems)
	}
	var got []string
	for i := range doc.Tasks {
		got = append(got, fmt.Sprintf("%s after %d", doc.Tasks[i].Name, len(doc.Tasks[i].Depends)))
	}
	if want := "prepare after 0, equilibrate after 1, produce after 1, analyse after 2"; strings.Join(got, ", ") != want {
		t.Errorf("tasks are %s, want %s", strings.Join(got, ", "), want)
	}
	for job, want := range []string{"300 700001 10 60", "325 700002 10 60", "350 700003 10 60", "300 700004 10 60"} {
		task, problems := steering.ExpandTask(doc, steering.ExpandInput{Dataset: 7, Job: protocol.JobIndex(job), JobCount: 6}, 0)
		if len(problems) > 0 {
			t.Fatalf("job %d: problems:\n%v", job, problems)
		}
		if got := task.Trays[0].Modules[0].Args; got != want {
			t.Errorf("job %d: water-prepare %s, want %s", job, got, want)
		}
	}
}

// The whole example: a cluster, pilots that are drained, and a report that agrees
// with what is published.
func TestWhole(t *testing.T) {
	if !*whole {
		t.Skip("fetches and runs GROMACS for minutes: scripts/test --all, or -whole")
	}
	needs(t, "apt-get", "dpkg-deb", "python3")
	out, code := run(t, exec.Command("./run"))
	t.Log(out)
	if code != 0 {
		t.Errorf("run: exit %d", code)
	}
	for _, want := range []string{"drained pilot", "went on from a checkpoint", "standard errors of what is published"} {
		if !strings.Contains(out, want) {
			t.Errorf("run does not say %q", want)
		}
	}
}

// water-mdrun tells a run that was stopped from one that is complete and from one
// that failed. In the place of GROMACS stands a script that ends as gmx mdrun does.
func TestMdrun(t *testing.T) {
	for _, c := range []struct {
		name, gmx string
		signal    bool
		code      int
	}{
		{"complete", `touch run.cpt run.gro`, false, 0},
		{"stopped by -maxh", `touch run.cpt`, false, 75},
		{"asked to leave", `trap 'touch run.cpt; exit 1' TERM; touch ready; while :; do sleep 0.01; done`, true, 75},
		{"asked before it began", `trap 'exit 1' TERM; touch ready; while :; do sleep 0.01; done`, true, 1},
		{"complete as it is asked", `trap 'touch run.cpt run.gro; exit 0' TERM; touch ready; while :; do sleep 0.01; done`, true, 0},
		{"fatal error", `touch run.cpt; exit 1`, false, 1},
		{"no checkpoint and no result", `:`, false, 70},
		{"killed", `kill -9 $$`, false, 137},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "gmx"), []byte("#!/bin/sh\necho \"$@\" > arguments\n"+c.gmx+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "floe-task"), []byte("#!/bin/sh\n[ \"$1\" = remaining ] && echo 900 || echo \"$@\" > told\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			program, err := filepath.Abs("software/bin/water-mdrun")
			if err != nil {
				t.Fatal(err)
			}
			command := exec.Command(program, "run")
			command.Dir = dir
			command.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "FLOE_CORES=3")
			command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			if c.signal {
				for !exists(filepath.Join(dir, "ready")) {
					if err := syscall.Kill(command.Process.Pid, 0); err != nil {
						t.Fatal(err)
					}
				}
				if err := syscall.Kill(-command.Process.Pid, syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			_ = command.Wait()
			if got := command.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit %d, want %d", got, c.code)
			}
			arguments, err := os.ReadFile(filepath.Join(dir, "arguments"))
			if err != nil {
				t.Fatal(err)
			}
			if told, _ := os.ReadFile(filepath.Join(dir, "told")); (string(told) == "checkpoint saved\n") != (c.code == 75) {
				t.Errorf("exit %d, told the pilot %q", c.code, told)
			}
			for _, want := range []string{"-cpi run.cpt", "-maxh 0.25000", "-ntomp 3"} {
				if !strings.Contains(string(arguments), want) {
					t.Errorf("gmx %s: want %s in it", arguments, want)
				}
			}
		})
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// water-analyse finds the top of a peak that lies between the points of a curve.
func TestPeak(t *testing.T) {
	needs(t, "python3")
	const script = `
import importlib.machinery, importlib.util, math, sys
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader('analyse', 'software/bin/water-analyse')
analyse = importlib.util.module_from_spec(importlib.util.spec_from_loader('analyse', loader))
loader.exec_module(analyse)
curve = [(i * 0.002, 1 + 2.1 * math.exp(-((i * 0.002 - 0.2753) / 0.03) ** 2)) for i in range(500)]
print('%.4f %.2f' % analyse.peak(curve))
print('%.4f' % analyse.of_blocks([i % 2 for i in range(80)] + [7]))
print('%.4f' % analyse.error([1, 2, 3, 4]))
`
	out, code := run(t, exec.Command("python3", "-c", script))
	if want := "0.2753 3.10\n0.0000\n0.6455\n"; code != 0 || out != want {
		t.Errorf("exit %d, output %q, want %q", code, out, want)
	}
}

// box is what a job of the example leaves.
func box(temperature, density, peak, height float64) map[string]any {
	rdf := [][2]float64{}
	for r := 0.2; r < 0.8; r += 0.002 {
		rdf = append(rdf, [2]float64{r, 1 + (height-1)*math.Exp(-math.Pow((r-peak)/0.03, 2))})
	}
	return map[string]any{
		"temperature": temperature, "seed": 1, "picoseconds": 60, "density": density, "density_error": 2,
		"peak": peak, "peak_error": 0.0002, "height": height, "height_error": 0.02, "rdf": rdf,
	}
}

// report.py agrees with boxes as they are published, and says what is wrong with
// others.
func TestReport(t *testing.T) {
	needs(t, "python3")
	good := func() []map[string]any {
		return []map[string]any{box(300, 995, 0.276, 3.05), box(325, 981, 0.277, 2.9), box(350, 966, 0.278, 2.7), box(300, 1001, 0.276, 3.1)}
	}
	for _, c := range []struct {
		name   string
		change func(boxes []map[string]any) []map[string]any
		kept   int
		code   int
		want   string
	}{
		{"as published", nil, 1_800_000, 0, "all within 4 standard errors"},
		{"hours", nil, 1_800_000, 0, "1.1250 core-hours used; checkpoints saved 1.0000 (47 %) against restarting"},
		{"attempts", nil, 1_800_000, 0, "4 tasks took 5 attempts: 1 were interrupted, 1 went on from a checkpoint, 1 of these on another pilot"},
		{"another liquid", func(b []map[string]any) []map[string]any { b[1]["density"] = 965.0; return b }, 1, 1, "WRONG: the density at 325 K is -7.9 standard errors"},
		{"another structure", func(b []map[string]any) []map[string]any { b[0]["peak"], b[3]["peak"] = 0.285, 0.285; return b }, 1, 1, "WRONG: the first peak at 300 K is at 0.2850 nm"},
		{"heating makes it denser", func(b []map[string]any) []map[string]any {
			b[0]["density"], b[3]["density"], b[1]["density"] = 986.0, 986.0, 987.0
			return b
		}, 1, 1, "WRONG: the density does not fall from 300 to 325 K"},
		{"heating gives it order", func(b []map[string]any) []map[string]any { b[2]["height"] = 2.95; return b }, 1, 1, "WRONG: the first peak does not fall from 325 to 350 K"},
		{"a temperature of no reference", func([]map[string]any) []map[string]any { return []map[string]any{box(310, 992, 0.276, 3)} }, 1, 1, "WRONG: no temperature has a published density"},
		{"nothing resumed", nil, 0, 1, "WRONG: no task went on from a checkpoint on another pilot"},
		{"other bytes", func(b []map[string]any) []map[string]any { b[2]["replaced"] = true; return b }, 1, 1, "recorded is sha256:"},
		{"no results", func([]map[string]any) []map[string]any { return nil }, 1, 1, "no results yet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			boxes := good()
			if c.change != nil {
				boxes = c.change(boxes)
			}
			outputs := []map[string]any{{"job": 0, "task": "produce", "url": "file:///nothing", "digest": ""}}
			for i, b := range boxes {
				content := write(t, filepath.Join(dir, fmt.Sprintf("%d.json", i)), b)
				if b["replaced"] == true {
					content = nil
				}
				outputs = append(outputs, map[string]any{
					"job": i, "task": "analyse", "url": "file://" + filepath.Join(dir, fmt.Sprintf("%d.json", i)),
					"digest": fmt.Sprintf("sha256:%x", sha256.Sum256(content)),
				})
				attempts := []map[string]any{{"pilot": "p-b", "verdict": "ok", "accepted": true, "usage": map[string]any{"wall_ms": 450_000, "cores": 1}}}
				if i == 0 {
					first := map[string]any{"pilot": "p-a", "verdict": "preempted", "accepted": false, "usage": map[string]any{"wall_ms": 450_000, "cores": 2}}
					attempts = []map[string]any{first, {"pilot": "p-b", "verdict": "ok", "accepted": true, "usage": map[string]any{"wall_ms": 900_000, "cores": 2, "kept_ms": c.kept}}}
				}
				write(t, filepath.Join(dir, "tasks", fmt.Sprintf("%d.produce.json", i)), map[string]any{"attempts": attempts})
			}
			write(t, filepath.Join(dir, "outputs.json"), outputs)
			out, code := run(t, exec.Command("./report.py", dir))
			if code != c.code || !strings.Contains(out, c.want) {
				t.Fatalf("exit %d, want %d, and %q in\n%s", code, c.code, c.want, out)
			}
			if c.name != "as published" {
				return
			}
			picture, code := run(t, exec.Command("./figure.py", filepath.Join(dir, "report.json")))
			if code != 0 || strings.Count(picture, "<polyline") != 3 {
				t.Errorf("figure: exit %d\n%s", code, picture)
			}
			for d := xml.NewDecoder(strings.NewReader(picture)); ; {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("figure: %v", err)
				}
			}
		})
	}
}

// write writes a value as JSON and returns its bytes.
func write(t *testing.T, file string, v any) []byte {
	t.Helper()
	content, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return content
}

// debian.py says what it needs, and leaves alone what is there.
func TestDebianRefuses(t *testing.T) {
	needs(t, "python3")
	python, code := run(t, exec.Command("python3", "-c", "import sys; print(sys.executable)"))
	if code != 0 {
		t.Fatalf("python3: exit %d: %s", code, python)
	}
	fresh := filepath.Join(t.TempDir(), "fresh")
	for _, c := range []struct{ name, dir, want string }{
		{"a directory that is there", t.TempDir(), "is there already"},
		{"no Debian", fresh, "apt-get: No such file or directory; this needs Debian"},
	} {
		command := exec.Command(strings.TrimSpace(python), "debian.py", c.dir, "--program", "usr/bin/gmx", "gromacs")
		command.Env = []string{"PATH=" + t.TempDir()}
		if out, code := run(t, command); code != 1 || !strings.Contains(out, c.want) || exists(fresh) {
			t.Errorf("%s: exit %d, output %s; want %q", c.name, code, out, c.want)
		}
	}
}
