package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/protocol"
	"floe/protocol/sitelog"
)

// TestSystemPolicy is a site whose owners want their nodes back, do not want somebody,
// and announce a downtime; and who ran there.
func TestSystemPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.joinSite(1, 1)
	config := filepath.Join(w.site, "site.toml")
	plain, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	w.write("halves.sh", `
		if [ -n "$FLOE_CHECKPOINT" ]; then
			cat "$FLOE_CHECKPOINT" >left; exit
		fi
		trap 'echo half >state; floe-task checkpoint saved state; exit 1' TERM
		`+w.gate("half"))
	id := w.submit(half, 1)
	w.until("half is done", func() bool { return w.exists("gate/half.reached") })
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%d.0.halves", id)
	explained := func() string {
		return strings.Join(ask[protocol.Explanation](w, "explain", name).Lines, "\n")
	}

	// Whose payload is it? The coordinators know, and so does the site by itself.
	ran := ask[protocol.RanPage](w, "site", "who", host, "now").Attempts
	if len(ran) != 1 || ran[0].User != "admin" || ran[0].Name != "halves" || ran[0].Site != "here" || ran[0].End != 0 {
		t.Errorf("who runs, by the record: %+v", ran)
	}
	own := ask[[]sitelog.Entry](w, "site", "who", host, "now", "--dir", w.site)
	if len(own) != 1 || own[0].User != "admin" || own[0].Task != "halves" || own[0].Dataset != id || own[0].Lease.String() != ran[0].Lease {
		t.Errorf("who runs, by the site: %+v", own)
	}
	if r := w.floe("site", "who", host, "2020-01-01", "--dir", w.site); r.code != exitNotFound {
		t.Errorf("who ran years ago: %+v", r)
	}

	// The owners want the node back. The site's own key says so.
	reclaimed := ask[protocol.SiteOrders](w, "site", "reclaim", "--dir", w.site, "--within", "5m", "--reason", "exam week")
	if len(reclaimed.Orders) != 1 || reclaimed.Orders[0].Kind != protocol.SiteReclaim || reclaimed.Orders[0].By != "<site here>" {
		t.Fatalf("reclaim: %+v", reclaimed)
	}
	w.until("the pilot has left", func() bool { return len(w.pilotPIDs()) == 0 })
	w.until("a pass has taken the order", func() bool {
		all := ask[protocol.SiteOrders](w, "site", "orders", "here")
		return len(all.Orders) == 1 && all.Orders[0].Pass > 0 && len(all.Orders[0].Waiting) == 0
	})
	task := w.task(id, "0.halves")
	if fates(&task) != "preempted" || task.State != protocol.TaskQueued {
		t.Errorf("the task is %v after %+v, want it queued again", task.State, task.Attempts)
	}
	if got := explained(); !strings.Contains(got, "site here has the order to reclaim from its own people: exam week") || strings.Contains(got, "failures") {
		t.Errorf("explain: %s", got)
	}
	if got := w.ok("site", "resume", "here"); got != "site here has no order from an operator\n" {
		t.Errorf("an operator's resume: %q", got)
	}
	if got := w.ok("site", "orders", "here"); !strings.HasPrefix(got, "reclaim\t<site here>\t") || !strings.HasSuffix(got, "\texam week\n") {
		t.Errorf("orders: %q", got)
	}

	// They do not want this user, either.
	write := func(policy string) {
		t.Helper()
		if err := os.WriteFile(config, append(plain, []byte("\n[policy]\n"+policy)...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ban_users = [\"admin\"]\n")
	if got := w.ok("site", "policy", "apply", "--config", config); !strings.Contains(got, "not: user admin\n") {
		t.Errorf("apply: %q", got)
	}
	w.ok("site", "resume", "--dir", w.site)
	if got := explained(); !strings.Contains(got, "the policy of site here: user admin is banned") {
		t.Errorf("explain: %s", got)
	}
	write("hours = [\"mon-fri 18:00 08:00\"]\n")
	if r := w.floe("site", "policy", "apply", "--config", config); r.code != exitUsage || !strings.Contains(r.err, `policy.hours: "mon-fri 18:00 08:00"`) {
		t.Errorf("a policy with a mistake: %+v", r)
	}

	// And soon there is a downtime, into which a pilot job of an hour would run: also
	// when everybody may run here again.
	write("ban_users = [\"admin\"]\n")
	if got := w.ok("site", "downtime", "add", "+30m", "+90m", "--reason", "power", "--config", config); !strings.HasPrefix(got, "announced downtime 1: ") {
		t.Errorf("downtime add: %q", got)
	}
	if r := w.floe("site", "downtime", "add", "+90m", "+30m", "--config", config); r.code != exitUsage || !strings.Contains(r.err, "not after its beginning") {
		t.Errorf("a downtime that ends before it begins: %+v", r)
	}
	write("max_cores = 1\n")
	w.ok("site", "policy", "apply", "--config", config)
	said := func() int {
		b, _ := os.ReadFile(filepath.Join(w.dir, "site-passes.log"))
		return strings.Count(string(b), "would run into the downtime that begins in ")
	}
	before := said()
	w.until("passes say that a pilot job would run into it", func() bool { return said() > before+2 })
	if pids := w.pilotPIDs(); len(pids) != 0 {
		t.Errorf("pilots %v were launched", pids)
	}
	if list := w.ok("site", "downtime", "list", "--config", config); !strings.HasPrefix(list, "1\t") || !strings.HasSuffix(list, "\tannounced\tpower\n") {
		t.Errorf("downtimes: %q", list)
	}
	if r := w.floe("site", "downtime", "remove", "2", "--config", config); r.code != exitNotFound {
		t.Errorf("removing what is not there: %+v", r)
	}
	w.ok("site", "downtime", "remove", "1", "--config", config)

	// Then the task goes on where it was.
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
	task = w.task(id, "0.halves")
	if fates(&task) != "preempted ok" {
		t.Errorf("attempts: %+v", task.Attempts)
	}
	if b, err := os.ReadFile(filepath.Join(w.dir, "out/0")); err != nil || string(b) != "half\n" {
		t.Errorf("output %q, %v", b, err)
	}
	then := time.UnixMilli(ran[0].Begin).UTC().Format(time.RFC3339)
	after := time.UnixMilli(ran[0].Begin + 1000).UTC().Format(time.RFC3339)
	if got := ask[protocol.RanPage](w, "site", "who", host, after, "--site", "here").Attempts; len(got) != 1 || got[0].Lease != ran[0].Lease || got[0].Verdict != "preempted" || got[0].End == 0 {
		t.Errorf("who ran at %s (it began %s): %+v", after, then, got)
	}
}
