package coordinator

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"floe/coordinator/blob"
	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
)

// metricsHandler serves the figures of this coordinator. They are read when they
// are asked for; nothing is kept for them beyond what the parts count anyway.
func (n *node) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), figures{n})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// figures collects one coordinator's figures. It describes none beforehand, so the
// registry checks them as they come.
type figures struct{ *node }

// Describe implements prometheus.Collector.
func (figures) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (f figures) Collect(out chan<- prometheus.Metric) {
	s := sheet{out}
	f.raft(s)
	f.holdings(s)
	f.stores(s)
	f.connections(s)
	c := f.compare.figures()
	s.gauge("record_compared_index", "Newest log index at which the coordinators' records were found equal.", float64(c.agreed))
	s.gauge("record_astray", "Coordinators whose record is not that of the majority. Alarm: > 0.", float64(c.astray))
	s.gauge("read_only", "1 while nothing is written because no majority of coordinators agrees on the record. Alarm: > 0.", bit(f.record.refusing.Load() != nil))
	a := f.auditor.figures()
	s.counter("audits_total", "Audits of the whole record.", float64(a.audits))
	s.gauge("audit_violations", "Invariants that the last audit found broken. Alarm: > 0.", float64(a.violations))
	s.gauge("audit_index", "Log index of the last audit.", float64(a.index))
	s.gauge("audit_seconds", "How long the last audit took.", a.took.Seconds())
}

// raft tells how the log is doing. The alarms are those of research E2.
func (f figures) raft(s sheet) {
	r := f.record.replica
	if r == nil {
		return // only being opened
	}
	t := r.Stats()
	s.gauge("leading", "1 while this coordinator leads.", bit(t.Leading))
	s.gauge("raft_term", "Term of Raft.", float64(t.Term))
	s.gauge("raft_last_index", "Newest entry of the log.", float64(t.LastIndex))
	s.gauge("raft_commit_index", "Newest committed entry.", float64(t.CommitIndex))
	s.gauge("raft_applied_index", "Newest applied entry.", float64(t.Applied))
	s.gauge("raft_applied_lag", "Entries committed and not applied yet. Alarm: > 5000.", float64(t.CommitIndex-min(t.Applied, t.CommitIndex)))
	s.gauge("raft_snapshot_index", "Entry of the newest snapshot.", float64(t.Snapshot))
	contact := t.LastContact.Seconds()
	if t.LastContact < 0 {
		contact = -1
	}
	s.gauge("raft_last_contact_seconds", "Since the leader was heard; 0 on the leader, -1 never. Alarm: > 1.", contact)
	s.counter("commands_total", "Commands proposed here and applied.", float64(t.Commands))
	s.counter("raft_entries_total", "Entries proposed here.", float64(t.Entries))
	s.counter("raft_entry_bytes_total", "Bytes of those entries.", float64(t.Bytes))
	s.counter("answers_unknown_total", "Commands answered unknown: repeat.", float64(t.Unknown))
	s.counter("answers_busy_total", "Commands answered busy.", float64(t.Busy))
	s.gauge("commands_admitted", "Commands waiting or in flight.", float64(t.Admitted))
	s.gauge("raft_entries_in_flight", "Entries in flight.", float64(t.InFlight))
	s.counter("snapshots_total", "Snapshots taken here.", float64(t.Snapshots))
	s.counter("snapshot_installs_total", "Snapshots restored here, the one at start included.", float64(t.Installs))
	s.gauge("log_bytes", "Bytes of the entries kept in the log.", float64(t.LogBytes))
	s.histogram("log_write_seconds", "Writes of the log with their sync. Alarm: p99 > 0.1.", t.LogWrites)
	s.histogram("vote_write_seconds", "Writes of term and vote with their sync.", t.TermWrites)
	s.histogram("commit_seconds", "From proposing an entry to having applied it. Alarm: p99 > 0.5.", t.Commits)
	s.histogram("snapshot_seconds", "Writing a snapshot.", t.SnapshotRun)
	if log, err := r.LogFile(); err == nil {
		s.gauge("log_first_index", "Oldest entry kept in the log.", float64(log.First))
		s.gauge("log_freelist_bytes", "Bytes of the log file's list of free pages. Alarm: > 10e6.", float64(log.FreeList))
		if !log.Oldest.IsZero() {
			s.gauge("log_oldest_seconds", "Age of the oldest entry kept. Alarm: below twice the time a restart takes.", time.Since(log.Oldest).Seconds())
		}
	}
}

// holdings tells what the record holds and what the leader remembers.
func (f figures) holdings(s sheet) {
	f.record.Read(func(m *state.Machine) {
		t := m.Totals()
		s.gauge("datasets", "Datasets in the record.", float64(t.Datasets))
		s.gauge("queued_tasks", "Tasks that a pilot may pull.", float64(m.Queued()))
		s.gauge("leases", "Current leases.", float64(t.Leases))
		s.gauge("pilots", "Pilots that have not left.", float64(t.Pilots))
		s.gauge("nodes_barred", "Nodes that are quarantined, on probation or excluded. Alarm: rises.", float64(t.Barred))
	})
	s.gauge("parked_exchanges", "Exchanges of pilots that wait here for work.", float64(f.server.Parked()))
	c := f.server.Caches()
	s.counter("cache_hits_total", "Files and software that pilots had in their cache, as this coordinator heard while it led.", float64(c.Hits))
	s.counter("cache_misses_total", "Files and software that pilots had to fetch.", float64(c.Misses))
	s.counter("cache_evicted_total", "Entries that pilots evicted for others. Alarm: rises as fast as misses do.", float64(c.Evicted))
	s.counter("cache_quarantined_total", "Entries that pilots found damaged. Alarm: rises.", float64(c.Quarantined))
	s.counter("cache_saved_bytes_total", "Bytes that did not have to be fetched.", float64(c.Saved))
	s.counter("cache_neighbour_bytes_total", "Bytes copied from other users' caches on the node.", float64(c.Neighbour))
	s.counter("cache_site_bytes_total", "Bytes fetched from sites' caches.", float64(c.Site))
	s.counter("cache_far_bytes_total", "Bytes fetched from coordinators and origins.", float64(c.Far))
}

// stores tells about the ledger, the blobs and the disk.
func (f figures) stores(s sheet) {
	applied, written := f.record.Applied(), f.ledger.Applied()
	s.gauge("history_applied_index", "Log index up to which history is durable.", float64(written))
	s.gauge("history_lag", "Entries applied and not durable in history yet.", float64(applied-min(written, applied)))
	s.gauge("history_sealed_files", "Sealed files of history.", float64(len(f.ledger.Seals())))
	gap, _ := f.ledger.Gap()
	s.gauge("history_damaged_files", "Sealed files of history that are damaged and not mended yet. Alarm: > 0 for an hour.", float64(len(f.ledger.Damaged())))
	s.gauge("history_gap", "1 while history misses entries that a peer must give. Alarm: 1 for an hour.", bit(gap.To > 0))
	if usage, err := f.blobs.Usage(); err == nil {
		for _, class := range blob.Classes {
			s.labelled("blobs", "Blobs by class.", "class", class.String(), float64(usage[class].Blobs))
			s.labelled("blob_bytes", "Bytes of blobs by class.", "class", class.String(), float64(usage[class].Bytes))
			s.labelled("blob_quota_bytes", "Bytes that a class may take.", "class", class.String(), float64(blob.DefaultLimit(class).Quota))
		}
	}
	if n, err := f.blobs.CountMissing(); err == nil {
		s.gauge("blobs_missing", "Blobs that should be here and are not. Alarm: > 0 for an hour.", float64(n))
	}
	if free, total, err := f.blobs.Space(); err == nil {
		s.gauge("disk_free_bytes", "Free on the disk of the directory. Alarm: < a tenth of disk_bytes.", float64(free))
		s.gauge("disk_bytes", "Size of that disk.", float64(total))
	}
	s.labelled("build_info", "The version that runs.", "version", protocol.Version, 1)
}

// connections tells who is connected, and who was kept waiting or out.
func (f figures) connections(s sheet) {
	t := f.api.Stats()
	s.gauge("connections", "Connections of clients.", float64(t.Connections))
	s.gauge("connections_strange", "Connections that have shown no certificate, or not yet.", float64(t.Strangers))
	s.counter("connections_refused_total", "Connections of strangers refused because there were too many.", float64(t.Refused))
	s.counter("handshakes_delayed_total", "Handshakes that had to wait because many were under way. Alarm: rises all the time.", float64(t.Delayed))
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// sheet writes figures under floe's name.
type sheet struct{ out chan<- prometheus.Metric }

func (s sheet) put(kind prometheus.ValueType, name, help string, v float64, labels ...string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	s.out <- prometheus.MustNewConstMetric(prometheus.NewDesc("floe_"+name, help, names, nil), kind, v, values...)
}

func (s sheet) gauge(name, help string, v float64) { s.put(prometheus.GaugeValue, name, help, v) }

func (s sheet) counter(name, help string, v float64) { s.put(prometheus.CounterValue, name, help, v) }

func (s sheet) labelled(name, help, label, value string, v float64) {
	s.put(prometheus.GaugeValue, name, help, v, label, strings.ToValidUTF8(value, "?"))
}

func (s sheet) histogram(name, help string, d replica.Durations) {
	buckets := make(map[float64]uint64, len(d.Within))
	for i, n := range d.Within {
		buckets[replica.DurationBounds[i].Seconds()] = n
	}
	s.out <- prometheus.MustNewConstHistogram(prometheus.NewDesc("floe_"+name, help, nil, nil), d.Count, d.Total.Seconds(), buckets)
}
