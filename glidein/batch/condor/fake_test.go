package condor

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"floe/glidein/batch/batchtest"
)

func TestMain(m *testing.M) { batchtest.Main(m, dialect) }

// dialect speaks as HTCondor 23.9 was recorded to.
var dialect = batchtest.Dialect{
	Tools: map[string]batchtest.Tool{
		"condor_submit": submit, "condor_q": query, "condor_rm": remove, "condor_transfer_data": transferData,
	},
	Submit: "condor_submit", Status: "condor_q", Remove: "condor_rm",
	Down: func(tool string) (string, int) {
		switch tool {
		case "condor_submit":
			return "\nERROR: Can't find address of local schedd", 1
		case "condor_q":
			return "Error: (null)\n\nExtra Info: You probably saw this error because the condor_schedd is not \nrunning on the machine you are trying to query.", 1
		}
		return tool + ": (null)", 1
	},
}

// arguments splits what a tool was called with into options and the rest.
func arguments(args []string) (map[string]string, []string) {
	options, rest := map[string]string{}, []string(nil)
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-terse", "-json", "-totals":
			options[args[i]] = "yes"
		case "-remote", "-name", "-pool", "-attributes", "-constraint":
			options[args[i]] = args[i+1]
			i++
		default:
			rest = append(rest, args[i])
		}
	}
	return options, rest
}

// submit reads a submit description of the form that this package writes. The files
// of a job are copied to a directory of its own, where it runs.
func submit(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	options, rest := arguments(args)
	fail := func(format string, args ...any) int {
		fmt.Fprintf(stderr, "\nERROR: "+format+"\n", args...)
		return 1
	}
	description, err := os.ReadFile(rest[0])
	if err != nil {
		return fail("Failed to open command file (%s)", rest[0])
	}
	asked, directories := map[string]string{}, []string(nil)
	head, list, ok := strings.Cut(string(description), "queue floe_directory from (\n")
	if !ok || !strings.HasSuffix(list, "\n)\n") {
		return fail("no queue statement")
	}
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(line, "=")
		asked[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	for line := range strings.Lines(strings.TrimSuffix(list, ")\n")) {
		directories = append(directories, strings.ReplaceAll(strings.TrimSpace(line), "$(DOLLAR)", "$"))
	}
	if asked["+batchqueue"] == `"nope"` {
		return fail("Failed to commit job submission into the queue.\nERROR: there is no such queue here: short is the only one")
	}
	// Arguments of the new syntax: in double quotes, and single ones around blanks.
	words := regexp.MustCompile(`'[^']*'|\S+`).FindAllString(strings.Trim(asked["arguments"], `"`), -1)
	number := f.Submit(batchtest.Job{Name: asked["batch_name"], Array: len(directories), Asked: asked, Script: asked["executable"] + " " + strings.Join(words, " ") + "\n"})
	for i, one := range f.Find(number, -1) {
		one.Dir = filepath.Join(f.Dir, fmt.Sprintf("scratch-%d.%d", number, i))
		if err := os.Mkdir(one.Dir, 0o700); err != nil {
			return fail("%v", err)
		}
		for name := range strings.SplitSeq(asked["transfer_input_files"], ", ") {
			content, err := os.ReadFile(filepath.Join(directories[i], name))
			if err == nil {
				err = os.WriteFile(filepath.Join(one.Dir, name), content, 0o600)
			}
			if err != nil {
				return fail("%v", err)
			}
		}
		one.Output = filepath.Join(directories[i], asked["output"])
		if _, elsewhere := options["-remote"]; elsewhere {
			one.Env = []string{"FAKE_IWD=" + directories[i]} // where output is given back to
			one.Output = filepath.Join(one.Dir, asked["output"])
		}
	}
	fmt.Fprintf(stdout, "%d.0 - %[1]d.%d\n", number, len(directories)-1)
	return 0
}

func query(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	options, _ := arguments(args)
	if options["-constraint"] != ours {
		fmt.Fprintf(stderr, "\n-- Parse error in constraint expression %q\n", options["-constraint"])
		return 1
	}
	jobs := f.List()
	for _, j := range f.Jobs {
		if j.State == batchtest.Ended && len(j.Env) > 0 && !j.Removed {
			jobs = append(jobs, j) // a schedd elsewhere keeps it
		}
	}
	jobs = slices.DeleteFunc(jobs, func(j *batchtest.Job) bool { return !strings.HasPrefix(j.Name, "floe-") })
	if options["-totals"] != "" {
		fmt.Fprintf(stdout, "\n\n-- Schedd: floe@vm : <127.0.0.1:26618?... @ 11/26/26 20:44:35\n"+
			"Total for query: %d jobs; 0 completed, 0 removed, 0 idle, 0 running, 0 held, 0 suspended \n", len(jobs))
		return 0
	}
	if len(jobs) == 0 {
		return 0 // and nothing is printed
	}
	status := map[batchtest.JobState]int{batchtest.Queued: 1, batchtest.Running: 2, batchtest.Held: 5, batchtest.Ended: 4}
	between := "[\n"
	for _, j := range jobs {
		job := map[string]any{
			"ClusterId": j.Number, "ProcId": j.Index, "JobStatus": status[j.State], "JobBatchName": j.Name, "QDate": j.Submitted.Unix(),
			"EnteredCurrentStatus": max(j.Submitted.Unix(), j.Started.Unix()),
		}
		switch {
		case j.State == batchtest.Running && j.Removed:
			job["JobStatus"], job["LastJobStatus"] = 3, 2
		case j.State == batchtest.Held:
			job["HoldReason"], job["HoldReasonCode"] = j.Reason, 15
		case j.State == batchtest.Queued:
			job["LastRejMatchReason"] = "no match found "
		}
		text, err := json.MarshalIndent(job, "", "  ")
		if err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		fmt.Fprintf(stdout, "%s%s\n", between, text)
		between = ",\n"
	}
	fmt.Fprint(stdout, "]\n")
	return 0
}

// find is the job of an id.
func find(f *batchtest.Fake, id string) *batchtest.Job {
	cluster, proc, _ := strings.Cut(id, ".")
	c, _ := strconv.Atoi(cluster)
	p, _ := strconv.Atoi(proc)
	if jobs := f.Find(c, p); len(jobs) == 1 {
		return jobs[0]
	}
	return nil
}

func remove(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	_, rest := arguments(args)
	j := find(f, rest[0])
	switch {
	case j == nil, j.State == batchtest.Ended && (len(j.Env) == 0 || j.Removed):
		fmt.Fprintf(stderr, "\nJob %s not found\n", rest[0])
		return 1
	case j.State == batchtest.Ended:
		j.Removed = true
	default:
		f.Remove(j)
	}
	fmt.Fprintf(stdout, "Job %s marked for removal\n", rest[0])
	return 0
}

func transferData(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	fmt.Fprintln(stdout, "Fetching data files...")
	_, rest := arguments(args)
	j := find(f, rest[0])
	if j == nil || len(j.Env) == 0 || j.Removed {
		return 0 // also for a job that never was
	}
	content, err := os.ReadFile(j.Output)
	if err == nil {
		err = os.WriteFile(filepath.Join(strings.TrimPrefix(j.Env[0], "FAKE_IWD="), "output"), content, 0o600)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}
