package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"floe/coordinator/history"
	"floe/coordinator/replica"
	"floe/protocol"
)

// compareEvery is how often coordinators compare their records. A comparison
// after a ghost entry comes at once and is repeated until everybody has answered.
const (
	compareEvery   = 10 * time.Second
	compareTimeout = 5 * time.Second
	compareAgain   = 200 * time.Millisecond
	compareTries   = 25
)

// ErrAstray means that this coordinator's record is not that of the majority: it
// must not serve any more. What it holds is evidence of a defect.
var ErrAstray = errors.New("this coordinator's record has gone astray from the others'")

// ExitAstray is the exit code for ErrAstray. Source: sysexits.h, EX_PROTOCOL.
const ExitAstray = 76

// ExitCode maps what Run returned to the exit code of the process.
func ExitCode(err error) int {
	switch {
	case errors.Is(err, ErrAstray):
		return ExitAstray
	case errors.Is(err, history.ErrWrite):
		return replica.ExitCode(replica.ErrLogStore) // a disk is a disk
	}
	return replica.ExitCode(err)
}

// comparison is what comparing has come to.
type comparison struct {
	mu     sync.Mutex
	agreed uint64 // guarded by mu: newest index at which all that answered agreed
	astray int    // guarded by mu: coordinators that were found to differ
}

type comparisonFigures struct {
	agreed uint64
	astray int
}

func (c *comparison) figures() comparisonFigures {
	c.mu.Lock()
	defer c.mu.Unlock()
	return comparisonFigures{c.agreed, c.astray}
}

// compareRecords compares this coordinator's record with the others' until ctx
// ends. It returns ErrAstray where this one is the odd one out.
func (n *node) compareRecords(ctx context.Context) error {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	for {
		tries := 1
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-n.machine.hashes.asked:
			n.config.Logger.Warn("an entry came in another term than it was proposed in; comparing records now")
			tries = compareTries
		}
		for range tries {
			complete, err := n.compareOnce(ctx)
			if err != nil {
				return err
			}
			if complete {
				break
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(compareAgain):
			}
		}
	}
}

// compareOnce asks all others and judges. complete says that everybody answered,
// also for the newest entry here.
func (n *node) compareOnce(ctx context.Context) (complete bool, err error) {
	newest := n.machine.hashes.newest()
	if newest == nil {
		return true, nil
	}
	own := n.hashes(newest.Index)
	voters, others := 0, n.peers.Others()
	votes := map[protocol.NodeID]bool{}
	for _, m := range n.record.Members() {
		if m.Voter {
			voters++
			votes[m.ID] = true
		}
	}
	replies := n.askHashes(ctx, others, newest.Index)
	complete = len(replies) == len(others)
	for _, r := range replies {
		complete = complete && r.At != nil
	}
	judgement := judge(&own, replies, votes, voters)
	n.compare.mu.Lock()
	n.compare.agreed, n.compare.astray = max(n.compare.agreed, judgement.agreed), len(judgement.odd)
	n.compare.mu.Unlock()
	if judgement.split {
		refusal := protocol.Errorf(protocol.CodeReadOnly, "the coordinators disagree about the record at index %d and none of the records has a majority; nothing is written until an operator has decided", judgement.at)
		refusal.RetryAfter = protocol.Seconds(10)
		if n.record.refusing.Swap(refusal) == nil {
			n.config.Logger.Error("read-only: no majority of coordinators agrees on the record", "index", judgement.at, "hashes", judgement.hashes)
		}
		return complete, nil
	}
	if len(judgement.odd) == 0 && complete && n.record.refusing.Swap(nil) != nil {
		n.config.Logger.Info("the coordinators agree again; writing goes on")
	}
	if !slices.Contains(judgement.odd, own.Node) {
		if len(judgement.odd) > 0 {
			// Those that agree go on; the others stop by themselves.
			n.record.refusing.Store(nil)
			n.config.Logger.Error("a coordinator's record has gone astray; it stops by itself", "coordinators", judgement.odd, "index", judgement.at, "hashes", judgement.hashes)
		}
		return complete, nil
	}
	if err := writeEvidence(n.config.Dir, &evidence{Node: own.Node, Index: judgement.at, What: judgement.what, Hashes: judgement.hashes, Version: protocol.Version, Wall: time.Now()}); err != nil {
		n.config.Logger.Error("evidence not written", "err", err)
	}
	return complete, fmt.Errorf("%w at index %d: %v", ErrAstray, judgement.at, judgement.hashes)
}

func (n *node) askHashes(ctx context.Context, others []protocol.NodeID, at uint64) []protocol.HashesReply {
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	all := make([]*protocol.HashesReply, len(others))
	var work sync.WaitGroup
	for i, id := range others {
		work.Go(func() {
			reply := new(protocol.HashesReply)
			if err := n.peers.read(ctx, id, "/v1/coordinators/hashes?at="+strconv.FormatUint(at, 10), reply); err != nil {
				n.config.Logger.Debug("record not compared", "coordinator", id, "err", err)
				return
			}
			reply.Node = id // its certificate says so, whatever the answer does
			all[i] = reply
		})
	}
	work.Wait()
	var replies []protocol.HashesReply
	for _, r := range all {
		if r != nil {
			replies = append(replies, *r)
		}
	}
	return replies
}

// judgement is what comparing some coordinators' hashes comes to.
type judgement struct {
	agreed uint64                              // newest index at which all that know it agree
	at     uint64                              // the lowest index at which some differ; 0: none
	what   string                              // chain or checkpoint
	hashes map[protocol.NodeID]protocol.Digest // of those who know that index
	odd    []protocol.NodeID                   // those that differ from the majority there
	split  bool                                // they differ and no record has a majority of the voters
}

// judge compares what some coordinators say. A majority is one of all voters: who
// does not answer agrees with nobody.
func judge(own *protocol.HashesReply, others []protocol.HashesReply, votes map[protocol.NodeID]bool, voters int) judgement {
	type place struct {
		index uint64
		what  string
	}
	said := map[place]map[protocol.NodeID]protocol.Digest{}
	note := func(node protocol.NodeID, what string, list ...protocol.RecordHash) {
		for _, v := range list {
			p := place{v.Index, what}
			if said[p] == nil {
				said[p] = map[protocol.NodeID]protocol.Digest{}
			}
			said[p][node] = v.Hash
		}
	}
	for _, r := range append([]protocol.HashesReply{*own}, others...) {
		note(r.Node, "chain", r.Chain...)
		note(r.Node, "checkpoint", r.Checkpoints...)
		if r.At != nil {
			note(r.Node, "chain", *r.At)
		}
	}
	var j judgement
	for p, hashes := range said {
		counts, different := map[protocol.Digest]int{}, map[protocol.Digest]bool{}
		for node, h := range hashes {
			different[h] = true
			if votes[node] {
				counts[h]++
			}
		}
		if len(different) < 2 {
			if len(hashes) > 1 {
				j.agreed = max(j.agreed, p.index)
			}
			continue
		}
		if j.at != 0 && (p.index > j.at || p.index == j.at && p.what > j.what) {
			continue // the lowest index tells most; of one index, the chain
		}
		j.at, j.what, j.hashes, j.odd, j.split = p.index, p.what, hashes, nil, true
		for h, count := range counts {
			if count*2 <= voters {
				continue
			}
			j.split = false
			for node, other := range hashes {
				if other != h {
					j.odd = append(j.odd, node)
				}
			}
		}
		slices.Sort(j.odd)
	}
	return j
}

// evidence is what a coordinator that has gone astray leaves beside its stores.
type evidence struct {
	Node    protocol.NodeID                     `json:"node"`
	Index   uint64                              `json:"index"`
	What    string                              `json:"what"`
	Hashes  map[protocol.NodeID]protocol.Digest `json:"hashes"`
	Version string                              `json:"version"`
	Wall    time.Time                           `json:"wall"`
}

const evidenceFile = "astray.json"

func writeEvidence(dir string, e *evidence) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, evidenceFile), append(b, '\n'), 0o600)
}

// checkEvidence refuses to serve from a directory that is evidence.
func checkEvidence(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, evidenceFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var e evidence
	_ = json.Unmarshal(b, &e) // the file's being there is what counts
	return fmt.Errorf("%w: %s says so, of index %d; keep %s as evidence, remove member %s, and join again with an empty directory under a new name",
		ErrAstray, evidenceFile, e.Index, dir, e.Node)
}

// read gets a CBOR document from another coordinator.
func (p *peers) read(ctx context.Context, id protocol.NodeID, path string, into any) error {
	body, err := p.open(ctx, id, path)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	return protocol.ReadMessage(body, -1, maxPeerReply, into)
}

// maxPeerReply bounds what a coordinator reads of another's answer.
const maxPeerReply = 16 << 20
