package globus

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"floe/glidein/batch/batchtest"
)

func TestMain(m *testing.M) { batchtest.Main(m, dialect) }

// dialect speaks as the tools of the Grid Community Toolkit were recorded to.
var dialect = batchtest.Dialect{
	Tools: map[string]batchtest.Tool{
		"globusrun": globusrun, "globus-job-status": status, "globus-job-cancel": cancel,
		"globus-job-get-output": output, "globus-job-clean": clean,
	},
	Submit: "globusrun", Status: "globus-job-status", Remove: "globus-job-cancel",
	Down: func(tool string) (string, int) {
		if tool == "globus-job-cancel" {
			return "Error canceling job", 156
		}
		return "GRAM Job submission failed because the connection to the server failed (check host and port) (error code 12)", 12
	},
	Noise: "globus_gram_client_callback_allow successful\n",
}

func contact(j *batchtest.Job) string {
	return fmt.Sprintf("https://vm:47483/%d/%d/", 17370740992522432896-uint64(j.Number), j.Number)
}

func find(f *batchtest.Fake, id string) *batchtest.Job {
	for _, j := range f.Jobs {
		if contact(j) == id {
			return j
		}
	}
	return nil
}

func globusrun(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 3 && args[0] == "-a" && args[1] == "-r":
		fmt.Fprintln(stdout, "\nGRAM Authentication test successful")
		return 0
	case len(args) != 5 || args[0] != "-b" || args[1] != "-r" || args[3] != "-f":
		fmt.Fprintf(stderr, "\nERROR: unexpected arguments %q\n", args)
		return 1
	}
	text, err := os.ReadFile(args[4])
	if err != nil {
		fmt.Fprintf(stderr, "\nERROR: could not read file %s\n", args[4])
		return 1
	}
	if strings.Contains(string(text), `(queue="nope")`) {
		fmt.Fprintln(stderr, "GRAM Job submission failed because the provided RSL 'queue' parameter is invalid (error code 37)")
		return 37
	}
	start := regexp.MustCompile(`\(FLOE_START "([^"]*)"\)`).FindStringSubmatch(string(text))
	command := regexp.MustCompile(`(?s)\(arguments="-c" "(.*?)"\)\n`).FindStringSubmatch(string(text))
	if start == nil || command == nil {
		fmt.Fprintln(stderr, "GRAM Job submission failed because of an invalid RSL (error code 48)")
		return 48
	}
	number := f.Submit(batchtest.Job{Script: strings.ReplaceAll(command[1], `""`, `"`) + "\n", Asked: map[string]string{}})
	j := f.Find(number, -1)[0]
	home := filepath.Join(f.Dir, "home")
	_ = os.Mkdir(home, 0o700)
	j.Dir, j.Env = home, []string{"HOME=" + home, "FLOE_START=" + start[1]}
	j.Output = filepath.Join(f.Dir, fmt.Sprint("gass-", number))
	fmt.Fprintf(stdout, "globus_gram_client_callback_allow successful\nGRAM Job submission successful\n%s\nGLOBUS_GRAM_PROTOCOL_JOB_STATE_ACTIVE\n", contact(j))
	return 0
}

func status(f *batchtest.Fake, args []string, _ io.Reader, stdout, _ io.Writer) int {
	word := "DONE" // also for a contact that nobody answers for
	if j := find(f, args[0]); j != nil {
		word = map[batchtest.JobState]string{
			batchtest.Queued: "PENDING", batchtest.Running: "ACTIVE", batchtest.Held: "SUSPENDED", batchtest.Ended: "DONE",
		}[j.State]
	}
	fmt.Fprintln(stdout, word)
	return 0
}

func cancel(f *batchtest.Fake, args []string, _ io.Reader, stdout, _ io.Writer) int {
	if j := find(f, args[len(args)-1]); j != nil && j.State != batchtest.Ended {
		f.Remove(j)
	}
	fmt.Fprint(stdout, "Job canceled.\nNOTE: You still need to clean files associated with the\njob by running globus-job-clean <jobID>\n")
	return 0
}

func output(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	j := find(f, args[len(args)-1])
	if j == nil {
		fmt.Fprintf(stderr, "Error locating stdout for job %s\n", args[len(args)-1])
		return 1
	}
	if args[0] == "-out" { // a fake has one file for both
		b, _ := os.ReadFile(j.Output)
		_, _ = stdout.Write(b)
	}
	return 0
}

func clean(_ *batchtest.Fake, _ []string, _ io.Reader, stdout, _ io.Writer) int {
	fmt.Fprint(stdout, "\nCleanup successful.\n")
	return 0
}
