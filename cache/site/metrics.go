package site

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics serves the server's figures to Prometheus. They hold no names.
func (s *Server) Metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), figures{s})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

type figures struct{ *Server }

// Describe implements prometheus.Collector.
func (figures) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (f figures) Collect(out chan<- prometheus.Metric) {
	put := func(kind prometheus.ValueType, name, help string, v float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("floe_site_cache_"+name, help, nil, nil), kind, v)
	}
	counter := func(name, help string, v uint64) { put(prometheus.CounterValue, name, help, float64(v)) }
	gauge := func(name, help string, v float64) { put(prometheus.GaugeValue, name, help, v) }
	st := f.config.Store.Stats()
	counter("requests_total", "Requests of pilots.", f.requests.Load())
	counter("refused_total", "Requests for what is not given here, or is nowhere.", f.refused.Load())
	counter("failed_total", "Requests that failed: at the origin, or for lack of room. Alarm: rises.", f.failed.Load())
	counter("busy_total", "Requests that were told to come again. Alarm: rises.", f.busy.Load())
	counter("sent_bytes_total", "Bytes given to pilots.", f.sent.Load())
	counter("hits_total", "Requests answered from the cache.", st.Hits)
	counter("misses_total", "Requests for which an origin was asked.", st.Misses)
	counter("fetched_bytes_total", "Bytes fetched from coordinators and origins.", uint64(st.FarBytes))
	counter("evicted_total", "Entries evicted for others.", st.Evicted)
	counter("quarantined_total", "Entries that were found to be damaged. Alarm: rises.", st.Quarantined)
	gauge("requests_now", "Requests being served.", float64(len(f.slots)))
}
