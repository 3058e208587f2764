package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// diamond is a graph of four tasks. Its first task counts, its last leaves a
// permanent file that depends on the job alone.
const diamond = `version: 3
title: A diamond
tasks:
  - name: make
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - modules:
          - src: DIR/make.sh
            data: [{type: job_temp, movement: output, local: number, remote: ""}]
  - name: left
    depends: [make]
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - modules:
          - src: DIR/left.sh
            data:
              - {type: job_temp, movement: input, local: number, remote: ""}
              - {type: job_temp, movement: output, local: left, remote: ""}
  - name: right
    depends: [make]
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - modules:
          - src: DIR/right.sh
            data:
              - {type: job_temp, movement: input, local: number, remote: ""}
              - {type: job_temp, movement: output, local: right, remote: ""}
  - name: join
    depends: [left, right]
    reproducible: bytes
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - modules:
          - src: DIR/join.sh
            data:
              - {type: job_temp, movement: input, local: left, remote: ""}
              - {type: job_temp, movement: input, local: right, remote: ""}
              - {type: permanent, movement: output, local: joined, remote: "file://DIR/out/joined.$(job)"}
`

// submitDiamond writes the scripts of the diamond and submits it. What made holds
// runs in make before it ends.
func (w *world) submitDiamond(jobs int, made string) protocol.DatasetID {
	w.t.Helper()
	w.write("make.sh", "echo $FLOE_JOB >number\necho \"{\\\"made\\\": 1, \\\"index\\\": $FLOE_JOB.25}\" >$FLOE_STATISTICS\n"+made)
	w.write("left.sh", "echo $(($(cat number) * 2)) >left\n")
	w.write("right.sh", "echo $(($(cat number) * 3)) >right\n")
	w.write("join.sh", "cat left right >joined\necho '{\"joined\": 1}' >$FLOE_STATISTICS\n")
	return w.submit(diamond, jobs)
}

// checkDiamond asserts that every job of the dataset is counted once, and that
// its files are those that were recorded.
func (w *world) checkDiamond(id protocol.DatasetID, jobs int) {
	w.t.Helper()
	n := uint64(jobs)
	d := w.dataset(id)
	if diff := cmp.Diff(protocol.StateCounts{"ok": n}, positive(d.JobCounts)); diff != "" || d.State != protocol.DatasetComplete {
		w.t.Errorf("dataset %d is %v, jobs (-want +got):\n%s", id, d.State, diff)
	}
	sum := float64(jobs*(jobs-1))/2 + float64(jobs)/4
	want := map[string]count{
		"make/made": {n, float64(jobs)}, "make/index": {n, sum}, "join/joined": {n, float64(jobs)},
	}
	if diff := cmp.Diff(want, w.counts(id)); diff != "" {
		w.t.Errorf("statistics of dataset %d (-want +got):\n%s", id, diff)
	}
	outputs := ask[[]protocol.Output](w, "outputs", fmt.Sprint(id))
	if len(outputs) != jobs {
		w.t.Errorf("outputs of dataset %d: got %d, want %d", id, len(outputs), jobs)
	}
	for _, o := range outputs {
		bytes := fmt.Appendf(nil, "%d\n%d\n", 2*o.Job, 3*o.Job)
		file := filepath.Join(w.dir, "out", fmt.Sprintf("joined.%d", o.Job))
		if want := protocol.DigestOf(bytes); o.Digest != want || o.URL != "file://"+file || o.Size != protocol.ByteSize(len(bytes)) {
			w.t.Errorf("output of job %d = %+v, want digest %v at %s", o.Job, o, want, file)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != string(bytes) {
			w.t.Errorf("%s: %q, %v, want %q", file, got, err, bytes)
		}
	}
	left, err := os.ReadDir(filepath.Join(w.dir, "out"))
	if err != nil || len(left) != jobs {
		w.t.Errorf("files in the output directory: %v, %v, want %d", left, err, jobs)
	}
}

// positive drops the zeros of counts.
func positive(c protocol.StateCounts) protocol.StateCounts {
	p := protocol.StateCounts{}
	for state, n := range c {
		if n > 0 {
			p[state] = n
		}
	}
	return p
}

// gate is a piece of shell that announces itself and waits, a minute at most,
// until a file is there. The file it announces with holds its process.
func (w *world) gate(name string) string {
	return fmt.Sprintf("echo $$ >%[1]s/gate/%[2]s.reached\ni=0\nwhile [ ! -e %[1]s/gate/%[2]s ] && [ $i -lt 600 ]; do i=$((i+1)); sleep 0.1; done\n", w.dir, name)
}

func (w *world) open(name string) { w.write("gate/"+name, "") }

func TestSystemDataset(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const jobs = 4
	id := w.submitDiamond(jobs, "[ $FLOE_JOB = 0 ] || exit 0\necho waiting at the gate\n"+w.gate("make")+"echo passed the gate\n")

	explained := ask[protocol.Explanation](w, "explain", fmt.Sprintf("%d.0.make", id))
	if !strings.Contains(strings.Join(explained.Lines, "\n"), "no pilot is there") {
		t.Errorf("explain without a pilot: %q", explained.Lines)
	}
	waiting := ask[protocol.Explanation](w, "explain", fmt.Sprintf("%d.0.join", id))
	if text := strings.Join(waiting.Lines, "\n"); !strings.Contains(text, "waits for left") || !strings.Contains(text, "waits for right") {
		t.Errorf("explain of a task with unfinished parents: %q", waiting.Lines)
	}

	w.joinSite(1, 2)
	w.until("the first job runs", func() bool { return w.exists("gate/make.reached") })
	follow := w.start("follow", "logs", "-f", fmt.Sprintf("%d.0.make", id))
	w.until("the log is followed", func() bool { return strings.Contains(w.log("follow"), "waiting at the gate") })
	if running := w.task(id, "0.make"); running.State != protocol.TaskProcessing || running.Site != "here" || running.Pilot == "" || running.Lease == "" {
		t.Errorf("a running task: %+v", running)
	}
	pilots := ask[protocol.PilotPage](w, "pilots").Pilots
	if len(pilots) != 1 || pilots[0].Site != "here" || pilots[0].Transport != "quic" || len(pilots[0].Leases) == 0 {
		t.Errorf("pilots: %+v", pilots)
	}
	if sites := ask[protocol.SitePage](w, "sites").Sites; len(sites) != 1 || sites[0].ID != "here" || sites[0].Pilots != 1 || sites[0].LastPass == 0 {
		t.Errorf("sites: %+v", sites)
	}
	if said := w.ok("explain", "site", "here"); !strings.Contains(said, "site here is active") || !strings.Contains(said, "shape local: 2 cores") || !strings.Contains(said, "the last pass was") {
		t.Errorf("explain site: %s", said)
	}
	w.open("make")
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
	select {
	case <-follow.ended:
	case <-t.Context().Done():
	}
	if text := w.log("follow"); follow.state.ExitCode() != 0 || !strings.Contains(text, "passed the gate") {
		t.Errorf("logs -f: %v, said %q", follow.state, text)
	}
	w.checkDiamond(id, jobs)

	if stored := w.ok("logs", fmt.Sprintf("%d.0.make", id)); !strings.Contains(stored, "waiting at the gate\npassed the gate\n") {
		t.Errorf("the stored log: %q", stored)
	}
	if list := ask[protocol.JobPage](w, "jobs", fmt.Sprint(id), "--state", "ok"); len(list.Jobs) != jobs {
		t.Errorf("jobs --state ok: %+v", list)
	}
	if job := ask[protocol.Job](w, "job", "show", fmt.Sprintf("%d.3", id)); job.State != protocol.JobOK || len(job.Tasks) != 4 {
		t.Errorf("job show: %+v", job)
	}
	if list := ask[protocol.TaskPage](w, "tasks", fmt.Sprint(id), "--task", "left"); len(list.Tasks) != jobs {
		t.Errorf("tasks --task left: %+v", list)
	}
	if list := ask[protocol.DatasetPage](w, "datasets"); len(list.Datasets) != 1 || list.Datasets[0].Title != "A diamond" {
		t.Errorf("datasets: %+v", list)
	}
	status := ask[protocol.ClusterReply](w, "cluster", "status")
	if status.Leader != "c1" || status.Node != "c1" || len(status.Members) != 1 || !status.Members[0].Voter || status.Running != 0 || status.RSS == 0 || status.LogBytes == 0 {
		t.Errorf("cluster status: %+v", status)
	}
	for _, a := range w.task(id, "2.join").Attempts {
		if a.Verdict != protocol.VerdictOK || !a.Accepted || a.Host == "" || a.Log.Digest.IsZero() || a.Usage.WallMillis <= 0 {
			t.Errorf("attempt of an ok task: %+v", a)
		}
	}
}

func TestSystemExitCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.submitDiamond(1, "")
	viewer := "FLOE_TOKEN=" + strings.TrimSpace(w.ok("token", "create", "viewer", "guest"))
	name := fmt.Sprint(id)
	for _, test := range []struct {
		args []string
		env  string
		want int
	}{
		{[]string{"dataset", "show", name}, viewer, exitOK},
		{[]string{"dataset", "show", "4711"}, "", exitNotFound},
		{[]string{"tasks", name + ".0.nosuch"}, "", exitNotFound},
		{[]string{"tasks", name + ".9.make"}, "", exitNotFound},
		{[]string{"logs", name + ".0.make"}, "", exitNotFound},
		{[]string{"wait", "4711"}, "", exitNotFound},
		{[]string{"submit", "dataset.yaml"}, viewer, exitDenied},
		{[]string{"suspend", name}, viewer, exitDenied},
		{[]string{"token", "create", "admin", "guest"}, viewer, exitDenied},
		{[]string{"datasets"}, "FLOE_TOKEN_FILE=/nonexistent", exitDenied},
		{[]string{"dataset", "show", "one"}, "", exitUsage},
		{[]string{"dataset", "show"}, "", exitUsage},
		{[]string{"datasets", "--nonsense"}, "", exitUsage},
		{[]string{"datasets", "-o", "xml"}, "", exitUsage},
		{[]string{"datasets"}, "FLOE_TOKEN=nonsense", exitUsage},
		{[]string{"suspend", name + ".0-"}, "", exitOK},
		{[]string{"wait", name, "--timeout", "200ms"}, "", exitTimeout},
		{[]string{"nonsense"}, "", exitUsage},
	} {
		r := w.floeWith([]string{test.env}, "", test.args...)
		if r.code != test.want {
			t.Errorf("floe %s (%.20s) = exit %d, want %d: %s", strings.Join(test.args, " "), test.env, r.code, test.want, r.err)
		}
		if r.code != exitOK && (r.out != "" || !strings.HasPrefix(r.err, "floe: ") && test.want != exitTimeout) {
			t.Errorf("floe %s: said %q and %q, want one message on standard error", strings.Join(test.args, " "), r.out, r.err)
		}
	}
	w.nodes["c1"].process.kill()
	if r := w.floe("datasets"); r.code != exitUnreachable {
		t.Errorf("floe datasets without a coordinator = exit %d, want %d: %s", r.code, exitUnreachable, r.err)
	}
}
