package sge

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"floe/glidein/batch/batchtest"
)

func TestMain(m *testing.M) { batchtest.Main(m, dialect) }

// dialect speaks as Grid Engine 8.1.9 was recorded to.
var dialect = batchtest.Dialect{
	Tools:  map[string]batchtest.Tool{"qsub": qsub, "qstat": qstat, "qdel": qdel, "qalter": qalter},
	Submit: "qsub", Status: "qstat", Remove: "qdel",
	Down: func(tool string) (string, int) {
		text := "error: commlib error: got select error (Connection refused)"
		if tool == "qsub" {
			text += "\nUnable to run job: unable to send message to qmaster using port 26844 on host \"vm\": got send error\nExiting."
		}
		return text, 1
	},
}

func qsub(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	if len(args) != 2 || args[0] != "-terse" {
		fmt.Fprintf(stderr, "qsub: Unknown option\n")
		return 1
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		fmt.Fprintf(stderr, "Unable to read script file because of error: error opening %s: No such file or directory\n", args[1])
		return 14
	}
	j := batchtest.Job{Script: string(text), Dir: filepath.Dir(args[1]), Asked: map[string]string{}}
	lines := bufio.NewScanner(strings.NewReader(j.Script))
	for lines.Scan() {
		if option, ours := strings.CutPrefix(lines.Text(), "#$ -"); ours {
			name, value, _ := strings.Cut(option, " ")
			j.Asked[name] = strings.Trim(value, `"`)
		}
	}
	if q := j.Asked["q"]; q == "nope.q" {
		fmt.Fprintf(stderr, "Unable to run job: Job was rejected because job requests unknown queue %q\nExiting.\n", q)
		return 1
	}
	j.Name, j.Output = j.Asked["N"], j.Asked["o"]
	if t := j.Asked["t"]; t != "" {
		j.Array, _ = strconv.Atoi(strings.TrimPrefix(t, "1-"))
	}
	number := f.Submit(j)
	for _, one := range f.Find(number, -1) {
		one.Env = []string{fmt.Sprintf("JOB_ID=%d", number), "SGE_TASK_ID=undefined"}
		if one.Array > 0 {
			one.Env[1] = fmt.Sprintf("SGE_TASK_ID=%d", one.Index+1)
		}
	}
	if j.Array > 0 {
		fmt.Fprintf(stdout, "%d.1-%d:1\n", number, j.Array)
	} else {
		fmt.Fprintln(stdout, number)
	}
	return 0
}

func qstat(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	if args[0] == "-j" {
		if jobs := find(f, args[1]); len(jobs) > 0 {
			j := jobs[0]
			fmt.Fprintf(stdout, "==============================================================\njob_number:                 %d\njob_name:                   %s\n", j.Number, j.Name)
			if j.State == batchtest.Held {
				fmt.Fprintf(stdout, "error reason          1:      11/22/2026 06:53:19 [0:6392]: %s\n", j.Reason)
			}
			return 0
		}
		fmt.Fprintf(stderr, "Following jobs do not exist: \n%s\n", args[1])
		return 1
	}
	if strings.Join(args[:3], " ") != "-xml -r -u" {
		fmt.Fprintln(stderr, "qstat: Unknown option")
		return 1
	}
	var running, pending strings.Builder
	list := f.List()
	for i := 0; i < len(list); i++ {
		j := list[i]
		b, kind, state, at := &pending, "pending", "qw", "<JB_submission_time>"+j.Submitted.Format("2006-01-02T15:04:05")+"</JB_submission_time>"
		switch {
		case j.State == batchtest.Running:
			b, kind, state, at = &running, "running", "r", "<JAT_start_time>"+j.Started.Format("2006-01-02T15:04:05")+"</JAT_start_time>"
			if j.Removed {
				state = "dr"
			}
		case j.State == batchtest.Held:
			state = "Eqw"
		}
		tasks := ""
		if j.Array > 0 {
			tasks = strconv.Itoa(j.Index + 1)
			first := i
			for kind == "pending" && i+1 < len(list) && list[i+1].Number == j.Number && list[i+1].State == j.State && list[i+1].Index == list[i].Index+1 {
				i++
			}
			if i > first {
				tasks = fmt.Sprintf("%d-%d:1", j.Index+1, list[i].Index+1)
			}
			tasks = "      <tasks>" + tasks + "</tasks>\n"
		}
		var name strings.Builder
		_ = xml.EscapeText(&name, []byte(j.Name)) // it does not fail
		fmt.Fprintf(b, `    <job_list state="%s">
      <JB_job_number>%d</JB_job_number>
      <JAT_prio>0.25014</JAT_prio>
      <JB_name>%s</JB_name>
      <JB_owner>root</JB_owner>
      <state>%s</state>
      %s
      <queue_name></queue_name>
      <slots>1</slots>
%s      <full_job_name>%s</full_job_name>
    </job_list>
`, kind, j.Number, name.String(), state, at, tasks, name.String())
	}
	fmt.Fprintf(stdout, `<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
%s  </queue_info>
  <job_info>
%s  </job_info>
</job_info>
`, running.String(), pending.String())
	return 0
}

// find are the jobs of an id such as 7 or 7.2.
func find(f *batchtest.Fake, id string) []*batchtest.Job {
	job, task, isTask := strings.Cut(id, ".")
	n, _ := strconv.Atoi(job)
	index := -1
	if isTask {
		i, _ := strconv.Atoi(task)
		index = i - 1
	}
	var there []*batchtest.Job
	for _, j := range f.Find(n, index) {
		if j.State != batchtest.Ended {
			there = append(there, j)
		}
	}
	return there
}

func qdel(f *batchtest.Fake, args []string, _ io.Reader, stdout, _ io.Writer) int {
	jobs := find(f, args[0])
	if len(jobs) == 0 {
		fmt.Fprintf(stdout, "denied: job %q does not exist\n", args[0])
		return 1
	}
	for _, j := range jobs {
		switch {
		case j.Removed:
			fmt.Fprintf(stdout, "job %d is already in deletion\n", j.Number)
		case j.State == batchtest.Running:
			fmt.Fprintf(stdout, "root has registered the job %d for deletion\n", j.Number)
		default:
			fmt.Fprintf(stdout, "root has deleted job %d\n", j.Number)
		}
		s := syscall.SIGKILL
		if _, warned := j.Asked["notify"]; warned {
			s = syscall.SIGUSR2
		}
		f.RemoveBy(j, s)
	}
	return 0
}

func qalter(f *batchtest.Fake, args []string, _ io.Reader, stdout, _ io.Writer) int {
	jobs := find(f, args[2])
	switch {
	case len(jobs) == 0:
		fmt.Fprintf(stdout, "denied: job %q does not exist\n", args[2])
	case strings.HasPrefix(jobs[0].Asked["l"], "gpu="):
		fmt.Fprintf(stdout, "Job %s (-l gpu=7) cannot run at host \"vm\" because it offers only hc:gpu=2.000000\nverification: no suitable queues\n", args[2])
	default:
		fmt.Fprintln(stdout, "verification: found suitable queue(s)")
		return 0
	}
	return 1
}
