package simulation

import (
	"slices"
	"time"

	"floe/protocol"
)

// site is a place with nodes, a spool on each, and a batch system that starts pilots.
type site struct {
	process // its glidein
	id      protocol.SiteID
	ticket  protocol.Digest
	hosts   []*host

	jobs   []*job                 // by launch leases, oldest first
	ended  []protocol.EndedLaunch // that no coordinator was told of
	asking bool                   // a pass is under way
}

// host is a node of a site.
type host struct {
	name  string
	has   protocol.Resources
	spool map[protocol.LeaseID]protocol.SignedReport
	pilot *pilot // nil while the slot is free
	// broken hosts fail what they are given.
	broken bool
}

// pending are the reports in a host's spool, oldest first.
func (h *host) pending(limit int) (all []protocol.SignedReport) {
	ids := make([]protocol.LeaseID, 0, len(h.spool))
	for id := range h.spool {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b protocol.LeaseID) int { return a.Compare(b) })
	for _, id := range ids[:min(limit, len(ids))] {
		all = append(all, h.spool[id])
	}
	return all
}

// delivered removes the reports whose answers are final, as protocol/spool does.
func (h *host) delivered(answers []protocol.ReportAnswer) {
	for _, a := range answers {
		if !a.Code.Retryable() && a.Code != protocol.CodeInternal {
			delete(h.spool, a.Lease)
		}
	}
}

// pass is a glidein pass: it delivers what lies in the spools of its site, and starts
// pilots where slots are free.
func (s *site) pass() {
	w := s.w
	s.after(w.between(2*time.Minute, 5*time.Minute), s.pass)
	for _, h := range s.hosts {
		if h.pilot == nil && (w.chance(2) || !w.chaotic) {
			w.launch(s, h, nil)
		}
		s.deliverFrom(h)
	}
}

// deliverFrom delivers what lies in the spool of a host.
func (s *site) deliverFrom(h *host) {
	w := s.w
	signed := h.pending(protocol.MaxReports)
	if len(signed) == 0 {
		return
	}
	var reports []*protocol.Report
	for i := range signed {
		if r, err := signed[i].Decode(); err == nil {
			reports = append(reports, r)
		}
	}
	sent := w.now
	w.call(&s.process, w.anyNode(), request{site: s.id, reports: signed}, time.Minute, func(answer any, err error) {
		answers, _ := answer.([]protocol.ReportAnswer)
		if err != nil {
			answers = nil
		}
		w.noteReports(0, sent, reports, answers)
		h.delivered(answers)
	})
}
