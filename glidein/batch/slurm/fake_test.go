package slurm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch/batchtest"
)

func TestMain(m *testing.M) { batchtest.Main(m, dialect) }

// dialect speaks as Slurm 22.05 was recorded to.
var dialect = batchtest.Dialect{
	Tools:  map[string]batchtest.Tool{"sbatch": sbatch, "squeue": squeue, "scancel": scancel},
	Submit: "sbatch", Status: "squeue", Remove: "scancel",
	Down: func(tool string) (string, int) {
		if tool == "sbatch" {
			return "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", 1
		}
		return "slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1
	},
}

func sbatch(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	if len(args) != 2 || args[0] != "--parsable" {
		fmt.Fprintf(stderr, "sbatch: error: unexpected arguments %q\n", args)
		return 1
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		fmt.Fprintf(stderr, "sbatch: error: Unable to open file %s\n", args[1])
		return 1
	}
	j := batchtest.Job{Script: string(text), Dir: filepath.Dir(args[1]), Output: "slurm.out", Asked: map[string]string{}}
	lines := bufio.NewScanner(strings.NewReader(j.Script))
	for lines.Scan() {
		option, ours := strings.CutPrefix(lines.Text(), "#SBATCH --")
		if !ours {
			continue
		}
		name, value, _ := strings.Cut(option, "=")
		if v, ok := strings.CutPrefix(value, `"`); ok {
			value = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(strings.TrimSuffix(v, `"`))
		}
		j.Asked[name] = value
	}
	if j.Asked["partition"] == "nope" {
		fmt.Fprintln(stderr, "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified")
		return 1
	}
	j.Name, j.Output = j.Asked["job-name"], strings.ReplaceAll(j.Asked["output"], "%%", "%")
	if a := j.Asked["array"]; a != "" {
		last, _ := strconv.Atoi(strings.TrimPrefix(a, "0-"))
		j.Array = last + 1
	}
	number := f.Submit(j)
	for _, one := range f.Find(number, -1) {
		one.Env = []string{fmt.Sprintf("SLURM_JOB_ID=%d", number)}
		if one.Array > 0 {
			one.Env = append(one.Env, fmt.Sprintf("SLURM_ARRAY_TASK_ID=%d", one.Index))
		}
	}
	fmt.Fprintln(stdout, number)
	return 0
}

func squeue(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	format := ""
	for _, a := range args {
		format, _ = strings.CutPrefix(a, "--format=")
	}
	state := map[batchtest.JobState]string{batchtest.Queued: "PENDING", batchtest.Running: "RUNNING", batchtest.Held: "PENDING"}
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return "N/A"
		}
		return t.Format("2006-01-02T15:04:05")
	}
	for _, j := range f.List() {
		index, why := "N/A", j.Reason
		if j.Array > 0 {
			index = strconv.Itoa(j.Index)
		}
		if why == "" {
			why = map[batchtest.JobState]string{batchtest.Queued: "Resources", batchtest.Running: "None"}[j.State]
		}
		fmt.Fprintln(stdout, strings.NewReplacer(
			"%F", strconv.Itoa(j.Number), "%K", index, "%T", state[j.State], "%V", stamp(j.Submitted), "%S", stamp(j.Started), "%r", why, "%j", j.Name,
		).Replace(format))
	}
	return 0
}

func scancel(f *batchtest.Fake, args []string, _ io.Reader, _, _ io.Writer) int {
	number, index, array := strings.Cut(args[0], "_")
	n, _ := strconv.Atoi(number)
	i := -1
	if array {
		i, _ = strconv.Atoi(index)
	}
	for _, j := range f.Find(n, i) {
		f.Remove(j)
	}
	return 0 // also for a job that never was
}
