package pbs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
)

// fakeDialect is the variable that says which of the two the fake's tools speak.
const fakeDialect = "FLOE_FAKE_PBS"

func TestMain(m *testing.M) { batchtest.Main(m, fakes[torqueOr(OpenPBS)]) }

func torqueOr(other string) string {
	if os.Getenv(fakeDialect) == Torque {
		return Torque
	}
	return other
}

// fakes speak as OpenPBS 23.06 was recorded to, and as Torque 6.1 does by its sources.
var fakes = map[string]batchtest.Dialect{
	OpenPBS: {
		Tools:  map[string]batchtest.Tool{"qsub": qsub, "qselect": qselect, "qstat": qstat, "qdel": qdel},
		Submit: "qsub", Status: "qselect", Remove: "qdel",
		Down: func(tool string) (string, int) {
			if tool == "qdel" {
				return "Connection refused\nCouldn't connect to cluster: vm", 162
			}
			return "Connection refused\n" + tool + ": cannot connect to server vm (errno=15010)", 162
		},
	},
	Torque: {
		Tools:  map[string]batchtest.Tool{"qsub": qsub, "qselect": qselect, "qstat": qstat, "qdel": qdel},
		Submit: "qsub", Status: "qselect", Remove: "qdel",
		Down: func(tool string) (string, int) {
			return tool + ": cannot connect to server vm (errno=111) Connection refused", 111
		},
	},
}

func qsub(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	refuse := func(exit int, text string) int {
		fmt.Fprintln(stderr, "qsub: "+text)
		return exit
	}
	text, err := os.ReadFile(args[len(args)-1])
	if err != nil || len(args) != 1 {
		return refuse(1, "script file:: No such file or directory")
	}
	torque := torqueOr(OpenPBS) == Torque
	j := batchtest.Job{Script: string(text), Dir: "/", Asked: map[string]string{}} // a job starts at home
	lines := bufio.NewScanner(strings.NewReader(j.Script))
	for lines.Scan() {
		option, ours := strings.CutPrefix(lines.Text(), "#PBS -")
		if !ours {
			continue
		}
		name, value, _ := strings.Cut(option, " ")
		if strings.Contains(value, " ") || name == "J" && torque || name == "t" && !torque {
			return refuse(1, "directive error: -"+option)
		}
		j.Asked[name] = value
	}
	array := j.Asked["J"] + j.Asked["t"]
	switch {
	case len(j.Asked["N"]) > maxName:
		return refuse(1, "illegal -N value")
	case j.Asked["r"] == "n" && j.Asked["J"] != "":
		return refuse(1, "cannot submit non-rerunable Array Job")
	case j.Asked["q"] == "nope" && torque:
		return refuse(170, "submit error (Unknown queue MSG=requested queue not found)")
	case j.Asked["q"] == "nope":
		return refuse(170, "Unknown queue")
	case j.Asked["q"] == "off":
		return refuse(173, "Queue is not enabled")
	}
	j.Name, j.Output = j.Asked["N"], j.Asked["o"]
	if array != "" {
		last, _ := strconv.Atoi(strings.TrimPrefix(array, "0-"))
		j.Array = last + 1
	}
	number := f.Submit(j)
	for _, one := range f.Find(number, -1) {
		one.Env = []string{"PBS_JOBID=" + id(one)}
		if one.Array > 0 {
			one.Env = append(one.Env, fmt.Sprintf("%s=%d", dialects[torqueOr(OpenPBS)].index, one.Index))
			one.Output = strings.ReplaceAll(one.Output, "^array_index^", strconv.Itoa(one.Index))
		}
	}
	fmt.Fprintln(stdout, whole(f.Find(number, -1)[0]))
	return 0
}

// id is a job's, whole that of its array, if it is in one.
func id(j *batchtest.Job) string {
	if j.Array > 0 {
		return fmt.Sprintf("%d[%d].vm", j.Number, j.Index)
	}
	return whole(j)
}

func whole(j *batchtest.Job) string {
	if j.Array > 0 {
		return fmt.Sprintf("%d[].vm", j.Number)
	}
	return fmt.Sprintf("%d.vm", j.Number)
}

func qselect(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	if len(args) != 2 || args[0] != "-u" {
		fmt.Fprintln(stderr, "qselect: illegal option")
		return 2
	}
	last := ""
	for _, j := range f.List() {
		if now := whole(j); now != last {
			fmt.Fprintln(stdout, now)
			last = now
		}
	}
	return 0
}

// find are the jobs of an id such as 7.vm, 7[].vm or 7[2].vm, of whatever state.
func find(f *batchtest.Fake, id string) []*batchtest.Job {
	m := jobID.FindStringSubmatch(id)
	if m == nil {
		return nil
	}
	n, _ := strconv.Atoi(m[1])
	index := -1
	if m[3] != "" {
		index, _ = strconv.Atoi(m[3])
	}
	return f.Find(n, index)
}

func qstat(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	torque := torqueOr(OpenPBS) == Torque
	if args[0] == "--version" {
		if torque {
			fmt.Fprintln(stderr, "Version: 6.1.3\nCommit: fbf2ff4")
		} else {
			fmt.Fprintln(stdout, "pbs_version = 23.06.06")
		}
		return 0
	}
	if strings.Join(args[:2], " ") != "-f -t" {
		fmt.Fprintln(stderr, "qstat: illegal option")
		return 2
	}
	exit := 0
	for _, asked := range args[2:] {
		jobs := find(f, asked)
		if f.Fault == batchtest.Twice {
			jobs = append(jobs, jobs...)
		}
		known := false
		for _, j := range jobs {
			if j.State == batchtest.Ended {
				continue
			}
			if j.Array > 0 && !known && !torque {
				describe(stdout, j, whole(j), "B")
			}
			describe(stdout, j, id(j), letters[j.State])
			known = true
		}
		if !known {
			exit = 153
			if torque {
				fmt.Fprintf(stderr, "qstat: Unknown Job Id Error %s\n", asked)
			} else {
				fmt.Fprintf(stderr, "qstat: Unknown Job Id %s\n", asked)
			}
		}
	}
	return exit
}

// launchOf is what the variables of a job hold. The suite fills a fake with jobs that
// have long names and were never submitted.
func launchOf(j *batchtest.Job) string {
	if v, ours := strings.CutPrefix(j.Asked["v"], launchVariable+"="); ours {
		return v
	}
	l, _ := batch.LaunchOf(j.Name)
	return string(l)
}

var letters = map[batchtest.JobState]string{batchtest.Queued: "Q", batchtest.Running: "R", batchtest.Held: "H"}

// describe prints a job as qstat -f does, its lines folded.
func describe(w io.Writer, j *batchtest.Job, id, state string) {
	start := "stime"
	if torqueOr(OpenPBS) == Torque {
		start = "start_time"
	}
	fmt.Fprintf(w, "Job Id: %s\n    Job_Name = %s\n    Job_Owner = root@vm\n    job_state = %s\n    queue = workq\n    qtime = %s\n",
		id, j.Name, state, j.Submitted.Format(time.ANSIC))
	if state == "R" {
		fmt.Fprintf(w, "    %s = %s\n", start, j.Started.Format(time.ANSIC))
	}
	variables := "PBS_O_HOME=/root,PBS_O_LANG=C.UTF-8,PBS_O_PATH=/usr/local/bin:/usr/bin:/bin"
	if l := launchOf(j); l != "" {
		variables += "," + launchVariable + "=" + l
	}
	variables += ",PBS_O_HOST=vm"
	const width = 60
	fmt.Fprint(w, "    Variable_List = ")
	for ; len(variables) > width; variables = variables[width:] {
		fmt.Fprint(w, variables[:width]+"\n\t")
	}
	fmt.Fprintf(w, "%s\n    comment = %s\n\n", variables, j.Reason)
}

func qdel(f *batchtest.Fake, args []string, _ io.Reader, _, stderr io.Writer) int {
	torque := torqueOr(OpenPBS) == Torque
	jobs := find(f, args[0])
	switch {
	case len(jobs) == 0 && torque:
		fmt.Fprintf(stderr, "qdel: nonexistent job id: %s\n", args[0])
		return 153
	case len(jobs) == 0:
		fmt.Fprintf(stderr, "qdel: Unknown Job Id %s\n", args[0])
		return 153
	}
	for _, j := range jobs {
		switch {
		case j.State != batchtest.Ended:
			f.Remove(j)
		case torque:
			fmt.Fprintf(stderr, "qdel: Request invalid for state of job %s\n", args[0])
			return 168
		case j.Array > 0:
			fmt.Fprintf(stderr, "qdel: Request invalid for finished array subjob %s\n", args[0])
			return 55
		default:
			fmt.Fprintf(stderr, "qdel: Job has finished %s\n", args[0])
			return 35
		}
	}
	return 0
}
