package glite

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
)

func TestMain(m *testing.M) {
	all := batchtest.Dialect{Tools: map[string]batchtest.Tool{}}
	for _, m := range []*Middleware{CREAM, WMS, EDG} {
		for name, tool := range tools(m) {
			all.Tools[name] = tool
		}
	}
	all.Down = func(tool string) (string, int) {
		if strings.HasPrefix(tool, "glite-ce-") {
			return down[CREAM].text, down[CREAM].exit
		}
		return down[WMS].text, down[WMS].exit
	}
	batchtest.Main(m, all)
}

// down is what is said when the service is away.
var down = map[*Middleware]struct {
	text string
	exit int
}{
	CREAM: {"2019-12-13 13:54:33,282 FATAL - Received NULL fault; the error is due to another cause: FaultString=[connection error] - FaultCode=[SOAP-ENV:Client] - FaultSubCode=[SOAP-ENV:Client] - FaultDetail=[Connection refused]", 1},
	WMS:   {"**** Error: API_NATIVE_ERROR ****\nError while calling the \"Status:getStatus\" native api\nUnable to retrieve the status for: https://lb02.grid.cyf-kr.edu.pl:9000/jwoxZ_0jDzEp3NI9cYolyg\nedg_wll_JobStatus: Connection refused: edg_wll_ssl_connect()", 255},
}

func dialectOf(m *Middleware) batchtest.Dialect {
	return batchtest.Dialect{Tools: tools(m), Submit: m.submit[0], Status: m.status[0], Remove: m.cancel[0]}
}

func tools(m *Middleware) map[string]batchtest.Tool {
	t := map[string]batchtest.Tool{
		m.submit[0]: submit(m), m.status[0]: status(m), m.cancel[0]: cancel(m), m.fetch[0]: fetch(m),
	}
	if len(m.purge) > 0 {
		t[m.purge[0]] = func(*batchtest.Fake, []string, io.Reader, io.Writer, io.Writer) int { return 0 }
	}
	return t
}

func url(m *Middleware, j *batchtest.Job) string {
	if m == CREAM {
		return fmt.Sprintf("https://vm:8443/CREAM%09d", j.Number)
	}
	return fmt.Sprintf("https://lb.vm:9000/J_%018d-w", j.Number)
}

func find(m *Middleware, f *batchtest.Fake, id string) *batchtest.Job {
	for _, j := range f.Jobs {
		if url(m, j) == id {
			return j
		}
	}
	return nil
}

var (
	line = regexp.MustCompile(`(?m)^  (\w+) = (.*);$`)
	word = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
)

// submit runs a job in a directory of its own, with the files of its sandbox, whose
// modes are those of any file.
func submit(m *Middleware) batchtest.Tool {
	return func(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
		if got := strings.Join(args[:len(m.submit)-1], " "); got != strings.Join(m.submit[1:], " ") {
			fmt.Fprintf(stderr, "Error - unexpected arguments %q\n", got)
			return 1
		}
		description, err := os.ReadFile(args[len(args)-1])
		if err != nil {
			fmt.Fprintln(stderr, "Error - no JDL")
			return 1
		}
		jdl := map[string]string{}
		for _, m := range line.FindAllStringSubmatch(string(description), -1) {
			jdl[m[1]] = m[2]
		}
		dir := filepath.Join(f.Dir, fmt.Sprint("sandbox-", f.Next))
		if err := os.Mkdir(dir, 0o700); err != nil {
			fmt.Fprintln(stderr, "Error -", err)
			return 1
		}
		for _, w := range word.FindAllStringSubmatch(jdl["InputSandbox"], -1) {
			from := strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(w[1])
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, filepath.Base(from)), b, 0o644) //nolint:gosec // so it is
			}
			if err != nil {
				fmt.Fprintln(stderr, "Error -", err)
				return 1
			}
		}
		number := f.Submit(batchtest.Job{
			Dir: dir, Output: filepath.Join(dir, strings.Trim(jdl["StdOutput"], `"`)), Asked: jdl,
			Script: "exec " + strings.Trim(jdl["Executable"], `"`) + " " + strings.Trim(jdl["Arguments"], `"`) + "\n",
		})
		id := url(m, f.Find(number, -1)[0])
		switch m {
		case CREAM:
			fmt.Fprintln(stdout, id)
		case WMS:
			fmt.Fprintf(stdout, "\nConnecting to the service https://vm:7443/glite_wms_wmproxy_server\n\n\n====================== glite-wms-job-submit Success ======================\n\nThe job has been successfully submitted to the WMProxy\nYour job identifier is:\n\n%s\n\n==========================================================================\n\n", id)
		case EDG:
			fmt.Fprintf(stdout, "\n**********************************************************************\n                            JOB SUBMIT OUTCOME\n The job has been successfully submitted to the Network Server.\n Use edg-job-status command to check job current status. Your job identifier (edg_jobId) is:\n\n - %s\n\n**********************************************************************\n\n", id)
		}
		return 0
	}
}

func status(m *Middleware) batchtest.Tool {
	return func(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
		ids, exit := args[len(m.status)-1:], 0
		if f.Fault == batchtest.Twice {
			ids = append(ids, ids...)
		}
		for _, id := range ids {
			j := find(m, f, id)
			switch {
			case m == CREAM && j == nil:
				fmt.Fprintf(stdout, "\n******  JobID=[%s]\n\tFor this job CREAM has returned a fault: job not found\n\n\n", id)
			case m == CREAM:
				fmt.Fprintf(stdout, "\n******  JobID=[%s]\n\tStatus        = [%s]\n", id, map[batchtest.JobState]string{
					batchtest.Queued: "IDLE", batchtest.Running: "REALLY-RUNNING", batchtest.Held: "HELD", batchtest.Ended: "DONE-OK",
				}[j.State])
				if j.State == batchtest.Ended {
					fmt.Fprint(stdout, "\tExitCode      = [0]\n")
				}
				fmt.Fprint(stdout, "\n\n")
			case j == nil:
				exit = 255
				fmt.Fprintf(stderr, "**** Error: API_NATIVE_ERROR ****\nUnable to retrieve the status for: %s\nedg_wll_JobStatus: No such file or directory: no matching jobs found\n", id)
			default:
				reason, state := "", map[batchtest.JobState]string{
					batchtest.Queued: "Scheduled ", batchtest.Running: "Running ", batchtest.Held: "Waiting ", batchtest.Ended: "Done(Success)",
				}[j.State]
				if j.Reason != "" {
					reason = "Status Reason:      " + j.Reason + "\n"
				}
				lead := ""
				if m == EDG {
					lead, state = " ", strings.Replace(state, "(", " (", 1)
				}
				fmt.Fprintf(stdout, "\n======================= %[1]s Success =====================\nBOOKKEEPING INFORMATION:\n\n%[2]sStatus info for the Job : %[3]s\n%[2]sCurrent Status:     %[4]s\n%[5]s==========================================================================\n\n", m.status[0], lead, id, state, reason)
			}
		}
		return exit
	}
}

func cancel(m *Middleware) batchtest.Tool {
	return func(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
		id := args[len(args)-1]
		j := find(m, f, id)
		switch {
		case m == CREAM && j == nil:
			fmt.Fprintf(stdout, "Couldn't cancel job [%s]: job not found\n", id)
		case m == CREAM && j.State == batchtest.Ended:
			fmt.Fprintf(stdout, "Couldn't cancel job [%s]: it is not the time for it\n", id)
		case m == CREAM:
			f.Remove(j)
		case j == nil:
			fmt.Fprintf(stderr, "Unable to cancel any job\nUnable to retrieve the status for: %s\nedg_wll_JobStatus: No such file or directory: no matching jobs found\n", id)
			return 1
		case j.State == batchtest.Ended:
			fmt.Fprint(stderr, "Cancel not allowed\nCurrent Job Status is Done\n")
			return 1
		default:
			f.Remove(j)
			fmt.Fprintf(stdout, "============================= %s Success =============================\nThe cancellation request has been successfully submitted for the following job(s):\n\n- %s\n", m.cancel[0], id)
		}
		return 0
	}
}

func fetch(m *Middleware) batchtest.Tool {
	return func(f *batchtest.Fake, args []string, _ io.Reader, stdout, stderr io.Writer) int {
		dir, id := args[len(args)-2], args[len(args)-1]
		j := find(m, f, id)
		if j == nil {
			fmt.Fprintf(stderr, "Error - no job %s\n", id)
			return 1
		}
		to := filepath.Join(dir, "vm_8443_"+filepath.Base(id))
		b, err := os.ReadFile(j.Output)
		if err == nil {
			err = os.Mkdir(to, 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, batch.Output), b, 0o600)
		}
		if err != nil {
			fmt.Fprintln(stderr, "Error -", err)
			return 1
		}
		fmt.Fprintf(stdout, "2016-07-07 09:26:23,612 INFO - For JobID [%s] output will be stored in the dir %s\n", id, to)
		return 0
	}
}
