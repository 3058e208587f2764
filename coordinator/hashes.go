package coordinator

import (
	"context"
	"sync"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// How much a coordinator remembers for comparing.
const (
	chainEvery      = 1024 // log indexes between two kept values of the chain
	chainKept       = 64   // of those
	recentKept      = 4096 // of the newest entries, every one: for an immediate comparison
	checkpointsKept = 8
)

// hashes are what this coordinator's record is known by: values of the chain at
// fixed log indexes, and digests of the whole record at checkpoints.
type hashes struct {
	checkpoints chan *state.Frozen // holds one: what is to be hashed next
	asked       chan struct{}      // holds one: compare now

	mu     sync.Mutex
	last   uint64                // guarded by mu, as what follows: index of the newest entry
	recent []protocol.RecordHash // a ring by index
	chain  []protocol.RecordHash
	whole  []protocol.RecordHash
}

func newHashes() hashes {
	return hashes{checkpoints: make(chan *state.Frozen, 1), asked: make(chan struct{}, 1), recent: make([]protocol.RecordHash, recentKept)}
}

// note takes the chain after an entry.
func (h *hashes) note(index uint64, c chain) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if index <= h.last {
		return
	}
	value := protocol.RecordHash{Index: index, Hash: protocol.Digest(c)}
	h.recent[index%recentKept] = value
	// The same entry on every coordinator, because entries have the same indexes.
	if index/chainEvery != h.last/chainEvery {
		h.chain = keep(h.chain, value, chainKept)
	}
	h.last = index
}

// restart forgets everything: the record was replaced by a snapshot.
func (h *hashes) restart(index uint64, c chain) {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.recent)
	h.chain, h.whole, h.last = nil, nil, index
	h.recent[index%recentKept] = protocol.RecordHash{Index: index, Hash: protocol.Digest(c)}
}

func keep(list []protocol.RecordHash, value protocol.RecordHash, limit int) []protocol.RecordHash {
	if len(list) == limit {
		list = append(list[:0], list[1:]...)
	}
	return append(list, value)
}

// at returns the chain at an index, where it is still known.
func (h *hashes) at(index uint64) *protocol.RecordHash {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.recent[index%recentKept]; v.Index == index && index != 0 {
		return &v
	}
	return nil
}

// newest returns the chain after the newest entry; nil before the first.
func (h *hashes) newest() *protocol.RecordHash {
	h.mu.Lock()
	last := h.last
	h.mu.Unlock()
	return h.at(last)
}

// ask wants a comparison at once.
func (h *hashes) ask() {
	select {
	case h.asked <- struct{}{}:
	default:
	}
}

// checkpoint has a frozen record hashed. While one is being hashed and another
// waits, it is passed over: the others' cannot be compared then, and the next can.
func (h *hashes) checkpoint(f *state.Frozen) {
	select {
	case h.checkpoints <- f:
	default:
	}
}

// noteWhole takes the digest of the record at a checkpoint.
func (h *hashes) noteWhole(v protocol.RecordHash) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.whole = keep(h.whole, v, checkpointsKept)
}

func isCheckpoint(events []state.Event) bool {
	for i := range events {
		if _, yes := events[i].Body.(*state.CheckpointTaken); yes {
			return true
		}
	}
	return false
}

// hashes answers another coordinator.
func (n *node) hashes(at uint64) protocol.HashesReply {
	h := &n.machine.hashes
	reply := protocol.HashesReply{Node: n.cluster.Node(), At: h.at(at)}
	h.mu.Lock()
	defer h.mu.Unlock()
	reply.Applied = h.last
	reply.Chain = append(reply.Chain, h.chain...)
	reply.Checkpoints = append(reply.Checkpoints, h.whole...)
	return reply
}

// checkpointEvery is how often the leader has everybody hash the whole record.
// Source: design §3.
const checkpointEvery = time.Hour

// takeCheckpoints proposes a checkpoint each hour while this coordinator leads, and
// hashes the record at each that comes through the log, whoever proposed it.
func (n *node) takeCheckpoints(ctx context.Context) error {
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if term, _ := n.record.Leading(); term == 0 {
				continue
			}
			if _, err := n.record.Propose(ctx, &state.Checkpoint{}); err != nil && ctx.Err() == nil {
				n.config.Logger.Warn("no checkpoint was taken", "err", err)
			}
		case f := <-n.machine.hashes.checkpoints:
			begin := time.Now()
			v := protocol.RecordHash{Index: f.Index(), Hash: f.Digest()}
			n.machine.hashes.noteWhole(v)
			n.config.Logger.Info("record hashed at a checkpoint", "index", v.Index, "digest", v.Hash, "took", time.Since(begin))
		}
	}
}
