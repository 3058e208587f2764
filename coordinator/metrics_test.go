package coordinator

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// metricsOf reads the figures of a coordinator as Prometheus does: with a person's
// token, at the port of the API.
func (c *trio) metricsOf(r *running, token protocol.Token) (status int, text string) {
	c.t.Helper()
	client, err := transport.NewClient(transport.ClientConfig{
		Cluster: "trio", Door: transport.DoorPeople, Addresses: []string{r.config.Address}, Pins: []protocol.Digest{c.founder.Pin()},
		DisableQUIC: true, UserAgent: "test", Logger: r.config.Logger,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "/metrics", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if token.Secret != "" {
		req.Header.Set("Authorization", "Bearer "+token.Credential())
	}
	resp, err := client.Do(c.t.Context(), req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// The alarms that docs/operating.md names must have their figures, in a form that
// Prometheus reads, and only for people who may look.
func TestMetrics(t *testing.T) {
	c := newTrio(t, replica.Limits{}, 1)
	r := c.running["c1"]
	token := r.config.FirstToken
	c.await("the first token", func() bool {
		status, _ := c.metricsOf(r, token)
		return status == http.StatusOK
	})
	r.auditOnce()
	_, text := c.metricsOf(r, token)
	for _, want := range []string{
		"floe_leading 1", "floe_raft_last_contact_seconds 0", "floe_raft_applied_lag 0", "floe_log_freelist_bytes ", "floe_log_oldest_seconds ",
		"floe_log_write_seconds_bucket{le=\"0.1\"}", "floe_commit_seconds_count ", "floe_answers_unknown_total 0", "floe_answers_busy_total 0",
		"floe_leases 0", "floe_queued_tasks 0", "floe_parked_exchanges 0", "floe_cache_hits_total 0", "floe_cache_saved_bytes_total 0", "floe_history_gap 0", "floe_blob_bytes{class=\"durable\"} 0",
		"floe_disk_free_bytes ", "floe_connections ", "floe_connections_refused_total 0", "floe_handshakes_delayed_total 0", "floe_audits_total 1", "floe_audit_violations 0", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "floe_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if status, _ := c.metricsOf(r, protocol.Token{}); status != http.StatusUnauthorized {
		t.Errorf("without a token the answer is %d, want 401", status)
	}
}

func TestTheAuditorRaisesTheAlarm(t *testing.T) {
	c := newTrio(t, replica.Limits{}, 1)
	r := c.running["c1"]
	c.propose(&state.PutSite{Site: "mill"})
	// A site that counts a pilot it never had.
	r.machine.mu.Lock()
	err := r.machine.state.Restore(strings.NewReader(miscounted(t, r.machine.state.Snapshot())))
	r.machine.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	r.auditOnce()
	if f := r.auditor.figures(); f.violations != 1 || f.audits != 1 || f.index == 0 {
		t.Errorf("figures %+v, want one violation", f)
	}
}

// miscounted is a record's snapshot in which the site mill counts 7 pilots.
func miscounted(t *testing.T, f *state.Frozen) string {
	t.Helper()
	var b strings.Builder
	if err := f.Persist(&b); err != nil {
		t.Fatal(err)
	}
	site, _ := f.Site("mill")
	was, err := protocol.Marshal(&site)
	if err != nil {
		t.Fatal(err)
	}
	site.Pilots = 7
	is, err := protocol.Marshal(&site)
	if err != nil {
		t.Fatal(err)
	}
	frame := func(body []byte) string { return string([]byte{byte(len(body))}) + string(body) }
	broken := strings.Replace(b.String(), frame(was), frame(is), 1)
	if broken == b.String() {
		t.Fatal("the site is not in the snapshot")
	}
	return broken
}
