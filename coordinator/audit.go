package coordinator

import (
	"context"
	"sync"
	"time"

	"floe/coordinator/state"
)

// auditEvery is how often the whole record is audited. Source: research I-5.
const auditEvery = time.Minute

// auditor checks the record of this coordinator again and again, whether it leads
// or follows: a task that is lost or stuck is found within a minute, not when
// somebody misses its result.
type auditor struct {
	mu         sync.Mutex
	audits     uint64        // guarded by mu, as what follows
	violations int           // that the last audit found
	index      uint64        // the log index it looked at
	took       time.Duration // of which no time under the machine's lock
}

// auditFigures are what metrics show of an auditor.
type auditFigures struct {
	audits     uint64
	violations int
	index      uint64
	took       time.Duration
}

func (a *auditor) figures() auditFigures {
	a.mu.Lock()
	defer a.mu.Unlock()
	return auditFigures{a.audits, a.violations, a.index, a.took}
}

// audit runs until ctx ends.
func (n *node) audit(ctx context.Context) error {
	tick := time.NewTicker(auditEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			n.auditOnce()
		}
	}
}

// auditOnce audits the record as it is now. It freezes a copy, so that applying
// goes on meanwhile; the index of ready work, which no copy has, is looked at under
// the readers' lock and is small.
func (n *node) auditOnce() {
	begin := time.Now()
	frozen := n.machine.freeze()
	found := frozen.Audit()
	n.record.Read(func(m *state.Machine) { found = append(found, m.AuditIndex()...) })
	took := time.Since(begin)
	for _, v := range found {
		n.config.Logger.Error("the record breaks an invariant; keep this coordinator's directory and report it", "index", frozen.Index(), "violation", v.String())
	}
	n.config.Logger.Debug("record audited", "index", frozen.Index(), "violations", len(found), "took", took)
	n.auditor.mu.Lock()
	defer n.auditor.mu.Unlock()
	n.auditor.audits++
	n.auditor.violations, n.auditor.index, n.auditor.took = len(found), frozen.Index(), took
}
