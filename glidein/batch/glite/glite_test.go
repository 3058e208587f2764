package glite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// where is an endpoint of each, and an id that no job has.
var where = map[*Middleware]struct {
	endpoint string
	never    batch.JobID
}{
	CREAM: {"ce.example.org:8443/cream-pbs-long", "https://vm:8443/CREAM999999999"},
	WMS:   {"", "https://lb.vm:9000/J_never-w"},
	EDG:   {"", "https://lb.vm:9000/J_never-w"},
}

func each(t *testing.T, do func(t *testing.T, m *Middleware)) {
	t.Helper()
	for _, m := range []*Middleware{CREAM, WMS, EDG} {
		t.Run(m.name, func(t *testing.T) { do(t, m) })
	}
}

func newSystem(t *testing.T, m *Middleware) *System {
	t.Helper()
	s, err := New(batch.Tool{}, m, where[m].endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFake(t *testing.T) {
	each(t, func(t *testing.T, m *Middleware) {
		batchtest.Run(t, func(t *testing.T) batchtest.Target {
			f := batchtest.NewFake(t, 2)
			f.Install(t, dialectOf(m))
			return batchtest.Target{System: newSystem(t, m), Fake: f, Dialect: dialectOf(m), NeverID: where[m].never, Slots: 2}
		})
	})
}

func TestSubmitFile(t *testing.T) {
	each(t, func(t *testing.T, m *Middleware) {
		dir := t.TempDir()
		job := batch.Job{
			Launch: "abc", Directory: dir, Script: filepath.Join(dir, "pilot.sh"), Files: []string{`ti"cket`}, Cores: 4, Memory: 8*protocol.GB + 1,
			Walltime: 90*time.Minute + time.Second, Queue: "ce.example.org:2119/jobmanager-pbs-long", Account: "icecube",
			Directives: []string{`Rank = -other.GlueCEStateEstimatedResponseTime;`, `JOBTYPE = "MPICH"`},
		}
		if m == EDG {
			if _, err := newSystem(t, m).WriteSubmitFile([]batch.Job{job}); err == nil || !strings.Contains(err.Error(), "4 cores") {
				t.Errorf("a job of 4 cores: %v, want an error that says so", err)
			}
			job.Cores = 1
		}
		file, err := newSystem(t, m).WriteSubmitFile([]batch.Job{job})
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := `[
  Type = "Job";
  Executable = "/bin/sh";
  Arguments = "start.sh";
  StdOutput = "output";
  StdError = "output";
  InputSandbox = {"DIR/start.sh", "DIR/pilot.sh", "DIR/ti\"cket"};
  OutputSandbox = {"output"};
  VirtualOrganisation = "icecube";
`
		const cores = "  CPUNumber = 4;\n  SMPGranularity = 4;\n  WholeNodes = false;\n"
		const conditions = "other.GlueHostMainMemoryRAMSize >= 8001 && other.GlueCEPolicyMaxWallClockTime >= 91"
		const requirements = `  Requirements = other.GlueCEUniqueID == "ce.example.org:2119/jobmanager-pbs-long" && ` + conditions + ";\n  RetryCount = 0;\n"
		switch m {
		case CREAM:
			want += cores + "  OutputSandboxBaseDestUri = \"gsiftp://localhost\";\n  CeRequirements = \"" + conditions + "\";\n"
		case WMS:
			want += cores + "  ShallowRetryCount = 0;\n" + requirements
		case EDG:
			want += requirements
		}
		want += "  Rank = -other.GlueCEStateEstimatedResponseTime;\n  JOBTYPE = \"MPICH\";\n]\n"
		if d := cmp.Diff(strings.ReplaceAll(want, "DIR", dir), string(got)); d != "" {
			t.Errorf("submit file (-want +got):\n%s", d)
		}
	})
}

func TestEndpoint(t *testing.T) {
	for _, c := range []struct {
		m        *Middleware
		endpoint string
		want     string
	}{
		{CREAM, "", "cream-pbs-long"},
		{CREAM, "https://ce.example.org:8443", "cream-pbs-long"},
		{CREAM, "ce.example.org:8443/cream-pbs-long x", "cream-pbs-long"},
		{WMS, "wms.example.org", "https://"},
		{WMS, "-x", "https://"},
		{EDG, "https://rb.example.org", "configuration"},
	} {
		if _, err := New(batch.Tool{}, c.m, c.endpoint); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, endpoint %q: %v, want %q", c.m.name, c.endpoint, err, c.want)
		}
	}
}

// recorded are what status commands were recorded to print, and what it means.
var recorded = []struct {
	m    *Middleware
	text string
	want map[string]told
}{
	{CREAM, `

******  JobID=[https://kek2-ce01.cc.kek.jp:8443/CREAM162280538]
	Status        = [IDLE]


******  JobID=[https://creamce.gina.sara.nl:8443/CREAM423808807]
	Status        = [CANCELLED]
	ExitCode      = []
	Description   = [Cancelled by user]


******  JobID=[https://ce.example.org:8443/CREAM333]
	Status        = [ABORTED]
	ExitCode      = []
	FailureReason = [proxy expired]


******  JobID=[https://ce.example.org:8443/CREAM444]
	For this job CREAM has returned a fault: job not found


******  JobID=[https://ce.example.org:8443/CREAM445]
	For this job CREAM has returned a fault: the database is away

******  JobID=[https://ce.example.org:8443/CREAM555]
	Current Status = [DONE-OK]
	ExitCode       = [0]
	Grid JobID     = [N/A]

	Job status changes:
	-------------------
	Status         = [REGISTERED] - [Thu 07 Jun 2018 10:42:27] (1528360947)
	Status         = [RUNNING] - [Thu 07 Jun 2018 10:42:37] (1528360957)
`, map[string]told{
		"https://kek2-ce01.cc.kek.jp:8443/CREAM162280538":  {batch.Queued, ""},
		"https://creamce.gina.sara.nl:8443/CREAM423808807": {batch.Ended, "Cancelled by user"},
		"https://ce.example.org:8443/CREAM333":             {batch.Ended, "proxy expired"},
		"https://ce.example.org:8443/CREAM444":             {batch.Ended, "CREAM has returned a fault: job not found"},
		"https://ce.example.org:8443/CREAM445":             {0, "CREAM has returned a fault: the database is away"},
		"https://ce.example.org:8443/CREAM555":             {batch.Ended, ""},
	}},
	{WMS, `

======================= glite-wms-job-status Success =====================
BOOKKEEPING INFORMATION:

Status info for the Job : https://lb02.grid.cyf-kr.edu.pl:9000/jwoxZ_0jDzEp3NI9cYolyg
Current Status:     Done(Exit Code !=0)
Exit code:          127
Status Reason:      Job Terminated Successfully
Destination:        ce9.grid.icm.edu.pl:8443/cream-pbs-plgrid
Submitted:          Wed Aug 13 15:12:03 2014 CEST
==========================================================================
`, map[string]told{"https://lb02.grid.cyf-kr.edu.pl:9000/jwoxZ_0jDzEp3NI9cYolyg": {batch.Ended, "Job Terminated Successfully"}}},
	{EDG, `
*************************************************************
BOOKKEEPING INFORMATION:

 Status info for the Job : https://lb02.grid.cyf-kr.edu.pl:9000/old
 Current Status:     Aborted
 Status Reason:      request expired
*************************************************************
 Status info for the Job : https://lb02.grid.cyf-kr.edu.pl:9000/waits
 Current Status:     Waiting
 Status Reason:      BrokerHelper: no compatible resources
 reached on:         Tue Jul  6 15:21:57 2004
*************************************************************
 Status info for the Job : https://lb02.grid.cyf-kr.edu.pl:9000/good
 Current Status:     Done (Success)
 Exit code:          0
 Status Reason:      Job terminated successfully
*************************************************************
 Status info for the Job : https://lb02.grid.cyf-kr.edu.pl:9000/runs
 Current Status:     Running 
*************************************************************
Unable to retrieve the status for: https://lb02.grid.cyf-kr.edu.pl:9000/purged
edg_wll_JobStatus: Identifier removed: matching job already purged
`, map[string]told{
		"https://lb02.grid.cyf-kr.edu.pl:9000/old":    {batch.Ended, "request expired"},
		"https://lb02.grid.cyf-kr.edu.pl:9000/waits":  {batch.Held, "BrokerHelper: no compatible resources"},
		"https://lb02.grid.cyf-kr.edu.pl:9000/good":   {batch.Ended, "Job terminated successfully"},
		"https://lb02.grid.cyf-kr.edu.pl:9000/runs":   {batch.Running, ""},
		"https://lb02.grid.cyf-kr.edu.pl:9000/purged": {batch.Ended, "purged"},
	}},
}

func TestRecorded(t *testing.T) {
	for _, r := range recorded {
		got, err := r.m.parse([]byte(r.text))
		if err != nil {
			t.Errorf("%s: %v", r.m.name, err)
		}
		if d := cmp.Diff(r.want, got, cmp.AllowUnexported(told{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", r.m.name, d)
		}
	}
	for _, bad := range []struct {
		m    *Middleware
		text string
	}{{CREAM, "******  JobID=[https://ce:8443/CREAM1]\n\tStatus = [SLEEPING]\n"}, {WMS, "Status info for the Job : https://lb:9000/a\nCurrent Status: Sleeping\n"}} {
		if got, err := bad.m.parse([]byte(bad.text)); err == nil || got != nil {
			t.Errorf("%s: a state that is not known: %v, %v; want an error", bad.m.name, got, err)
		}
	}
}

// TestSilenceIsNoEnd: what an answer leaves out is asked about alone, and is not gone.
func TestSilenceIsNoEnd(t *testing.T) {
	each(t, func(t *testing.T, m *Middleware) {
		dir := t.TempDir()
		two := string(where[m].never)
		one := two[:len(two)-1] + "2"
		script := `#!/bin/sh
for id do :; done
case $# in
%N)	case $id in
	*2) echo 'Status info for the Job : ` + one + `'; echo 'Current Status: Running'; printf '****** JobID=[%s]\n Status = [RUNNING]\n' "$id"; exit 255 ;;
	*) cat "$ANSWER"; exit 1 ;;
	esac ;;
*) echo 'Status info for the Job : ` + one + `' ;;
esac
`
		script = strings.ReplaceAll(script, "%N", string(rune('0'+len(m.status))))
		if err := os.WriteFile(filepath.Join(dir, m.status[0]), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		answer := filepath.Join(dir, "answer")
		t.Setenv("ANSWER", answer)
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		known := []batch.Known{{ID: batch.JobID(one), Launch: "a"}, {ID: batch.JobID(two), Launch: "b"}, {Launch: "c"}, {ID: "7", Launch: "d"}}
		for text, ends := range map[string]bool{
			"": false, "a page of something else": false, "edg_wll_JobStatus: Connection refused: edg_wll_ssl_connect()": false,
			"****** JobID=[" + two + "]\n For this job CREAM has returned a fault: database down":                                                                     false,
			"****** JobID=[" + two + "]\n For this job CREAM has returned a fault: job not found\nedg_wll_JobStatus: Identifier removed: matching job already purged": true,
		} {
			if err := os.WriteFile(answer, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := newSystem(t, m).Status(t.Context(), known)
			if !ends {
				if !errors.Is(err, batch.ErrTransient) || len(got) != 0 {
					t.Errorf("answer %q: %+v, %v; want ErrTransient", text, got, err)
				}
				continue
			}
			states := map[protocol.LaunchID]batch.State{}
			for _, e := range got {
				states[e.Launch] = e.State
			}
			want := map[protocol.LaunchID]batch.State{"a": batch.Running, "b": batch.Ended, "d": batch.Ended}
			if d := cmp.Diff(want, states); err != nil || d != "" {
				t.Errorf("answer %q: %v (-want +got):\n%s", text, err, d)
			}
		}
	})
}

// TestLostOutput is no reason to keep a job.
func TestLostOutput(t *testing.T) {
	each(t, func(t *testing.T, m *Middleware) {
		f := batchtest.NewFake(t, 1)
		f.Install(t, dialectOf(m))
		dir := t.TempDir()
		if err := newSystem(t, m).Clean(t.Context(), where[m].never, dir); err != nil {
			t.Errorf("clean of a job without output: %v", err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, batch.Output)); err != nil || !strings.Contains(string(b), "not fetched") {
			t.Errorf("output: %q, %v; want it to say why there is none", b, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "fetched-*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	})
}

// TestRefused is what is refused by name; all else is tried again.
func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, m *Middleware) {
		dir := t.TempDir()
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		for text, want := range map[string]error{
			"FATAL - Authorization error: user not authorized":               batch.ErrRefused,
			"2019-12-13 13:54:33,282 FATAL - FaultString=[connection error]": batch.ErrTransient,
		} {
			if err := os.WriteFile(filepath.Join(dir, m.submit[0]), []byte("#!/bin/sh\necho "+batch.Quote(text)+" >&2; exit 1\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			if ids, err := newSystem(t, m).Submit(t.Context(), []batch.Job{{Launch: "a"}}, "submit.jdl"); !errors.Is(err, want) || len(ids) != 0 {
				t.Errorf("submit answered by %q: %q, %v; want %v", text, ids, err, want)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, r := range recorded {
		f.Add([]byte(r.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []*Middleware{CREAM, WMS} {
			all, err := m.parse(b)
			if err != nil && all != nil {
				t.Fatal("jobs beside an error")
			}
			for id, one := range all {
				if one.state > batch.Ended || one.state == 0 && one.reason == "" {
					t.Fatalf("job %q: %+v", id, one)
				}
			}
		}
	})
}
