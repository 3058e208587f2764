package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"floe/protocol"
)

// pace makes every job take a moment, so that there is a middle to disturb.
const pace = "sleep 0.2\n"

// halfway waits until some jobs of a dataset are ok and others are not.
func (w *world) halfway(id protocol.DatasetID) {
	w.t.Helper()
	w.until("some jobs are done", func() bool { return w.dataset(id).JobCounts["ok"] >= 2 })
	if d := w.dataset(id); d.State != protocol.DatasetProcessing {
		w.t.Fatalf("dataset %d is %v already; the test disturbs nothing", id, d.State)
	}
}

func TestSystemCoordinatorKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const jobs = 16
	id := w.submitDiamond(jobs, pace)
	w.joinSite(1, 2)
	for range 2 {
		w.halfway(id)
		w.nodes["c1"].process.kill()
		w.startNode("c1")
	}
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
	w.checkDiamond(id, jobs)
	if again := w.submit(diamond, 1); again != id+1 {
		t.Errorf("the dataset after %d got number %d", id, again)
	}
}

func TestSystemLeaderKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"c2", "c3"} {
		w.join(name)
	}
	status := func() protocol.ClusterReply { return ask[protocol.ClusterReply](w, "cluster", "status") }
	voters := func() []string {
		var names []string
		for _, m := range status().Members {
			if m.Voter {
				names = append(names, string(m.ID))
			}
		}
		slices.Sort(names)
		return names
	}
	w.until("all three vote", func() bool { return slices.Equal(voters(), []string{"c1", "c2", "c3"}) })

	// A token made now names all three: its holder need not know which one lives.
	w.env = append(w.env, "FLOE_TOKEN="+strings.TrimSpace(w.ok("token", "create", "admin", "three")))
	w.joinSite(1, 2)
	const jobs = 16
	id := w.submitDiamond(jobs, pace)
	w.halfway(id)
	leader := string(status().Leader)
	w.nodes[leader].process.kill()
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
	w.checkDiamond(id, jobs)
	if now := status(); now.Leader == "" || string(now.Leader) == leader {
		t.Errorf("%s was killed and %q leads", leader, now.Leader)
	}

	// The old leader comes back, catches up, and counts the same.
	w.startNode(leader)
	alone := w.onlyNode(leader)
	w.until(leader+" has caught up", func() bool {
		old, now := ask[protocol.ClusterReply](alone, "cluster", "status"), status()
		return string(old.Node) == leader && old.Applied == now.Applied && old.History == now.History
	})
	alone.checkDiamond(id, jobs)
	for _, name := range []string{"c1", "c2", "c3"} {
		if s := ask[protocol.ClusterReply](w.onlyNode(name), "cluster", "status"); string(s.Node) != name {
			t.Errorf("asked %s and %s answered", name, s.Node)
		}
	}
	// Any coordinator takes a submission.
	for _, name := range []string{"c1", "c2", "c3"} {
		next := w.onlyNode(name).submit(diamond, 1)
		if code := w.onlyNode(name).finish(next); code != exitOK {
			t.Errorf("wait at %s: exit %d, want 0", name, code)
		}
		id++
		if next != id {
			t.Errorf("dataset submitted at %s got number %d, want %d", name, next, id)
		}
	}
}

// onlyNode is the world as seen by somebody who knows one coordinator.
func (w *world) onlyNode(name string) *world {
	w.t.Helper()
	var text string
	for _, v := range w.env {
		if t, ok := strings.CutPrefix(v, "FLOE_TOKEN="); ok {
			text = t
		}
	}
	token, err := protocol.ParseToken(text)
	if err != nil {
		w.t.Fatal(err)
	}
	token.Addresses = []string{w.nodes[name].address}
	only := *w
	only.env = append(slices.Clone(w.env), "FLOE_TOKEN="+token.Text())
	return &only
}

func TestSystemTCP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--tcp-only")
	r := w.floeWith([]string{"FLOE_DEBUG=1"}, "", "cluster", "status")
	if r.code != exitOK || !strings.Contains(r.err, "udp blocked, using tcp") {
		t.Errorf("floe cluster status without UDP: exit %d, said %q", r.code, r.err)
	}
	w.joinSite(1, 2)
	id := w.submitDiamond(1, w.gate("make"))
	w.until("the job runs", func() bool { return w.exists("gate/make.reached") })
	for _, p := range ask[protocol.PilotPage](w, "pilots").Pilots {
		if p.Transport != "tcp" {
			t.Errorf("pilot %s uses %q, want tcp", p.ID, p.Transport)
		}
	}
	if story := w.story(); !strings.Contains(story, `msg="udp blocked, using tcp"`) {
		t.Errorf("no pilot says that it uses TCP:\n%s", story)
	}
	w.open("make")
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
	w.checkDiamond(id, 1)
}

// TestSystemManyJobs submits as many jobs as a big dataset has: a range, not rows.
func TestSystemManyJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submitDiamond(1, "") // what the first submission costs any cluster
	before := ask[protocol.ClusterReply](w, "cluster", "status")
	const jobs = 10_000_000
	for range 4 {
		id := w.submit(diamond, jobs)
		d := w.dataset(id)
		if d.JobCounts["queued"] != jobs || d.TaskCounts["queued"] != jobs || d.TaskCounts["waiting"] != 3*jobs {
			t.Errorf("dataset %d: jobs %v, tasks %v", id, d.JobCounts, d.TaskCounts)
		}
		page := ask[protocol.TaskPage](w, "tasks", fmt.Sprint(id), "--state", "queued", "--limit", "3")
		if len(page.Tasks) != 3 || page.Next == "" {
			t.Errorf("first page of the queued tasks: %+v", page)
		}
		if job := ask[protocol.Job](w, "job", "show", fmt.Sprintf("%d.%d", id, jobs-1)); job.State != protocol.JobQueued {
			t.Errorf("the last job: %+v", job)
		}
	}
	after := ask[protocol.ClusterReply](w, "cluster", "status")
	t.Logf("with %d more tasks queued: RSS %v → %v, log %v → %v", 4*jobs, before.RSS, after.RSS, before.LogBytes, after.LogBytes)
	if after.Queued-before.Queued != 4*jobs {
		t.Errorf("queued grew by %d, want %d", after.Queued-before.Queued, 4*jobs)
	}
	if grown := after.RSS - before.RSS; grown > 64*protocol.MB {
		t.Errorf("the coordinator's memory grew by %v", grown)
	}
	if grown := after.LogBytes - before.LogBytes; grown > protocol.MB {
		t.Errorf("the log grew by %v", grown)
	}
}
