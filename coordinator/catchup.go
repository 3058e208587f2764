package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"floe/coordinator/history"
	"floe/protocol"
	"floe/protocol/transport"
)

const (
	historyEvery  = 2 * time.Second // look for gaps and damage
	historyVerify = 24 * time.Hour  // read all sealed files and compare
)

// keepHistory keeps this coordinator's ledger whole until ctx ends. One that got
// its record by a snapshot lacks what happened before, and takes it from another
// coordinator; a sealed file that is damaged comes from another by its digest.
// Neither needs a restart.
func (n *node) keepHistory(ctx context.Context) error {
	look, verify := time.NewTicker(historyEvery), time.NewTicker(historyVerify)
	defer look.Stop()
	defer verify.Stop()
	warned := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			if err := errors.Join(n.closeGap(ctx), n.mendHistory(ctx, n.ledger.Damaged())); err != nil && ctx.Err() == nil {
				if !warned { // it is tried again all the time
					n.config.Logger.Warn("history is not complete here and no other coordinator gives what is missing yet", "err", err)
				}
				warned = true
				continue
			}
			warned = false
		case <-verify.C:
			damaged, err := n.ledger.Verify(ctx)
			if err = errors.Join(err, n.mendHistory(ctx, damaged)); err != nil && ctx.Err() == nil {
				n.config.Logger.Error("history files are damaged", "files", len(damaged), "err", err)
			}
		}
	}
}

// closeGap takes over the history of the first other coordinator that has it all.
func (n *node) closeGap(ctx context.Context) error {
	gap, open := n.ledger.Gap()
	if !open {
		return nil
	}
	all := []error{fmt.Errorf("a gap from log index %d to %d", gap.From, gap.To)}
	for _, id := range n.peers.Others() {
		err := n.adoptHistory(ctx, id, gap)
		if err == nil {
			return nil
		}
		all = append(all, fmt.Errorf("coordinator %s: %w", id, err))
	}
	return errors.Join(all...)
}

func (n *node) adoptHistory(ctx context.Context, id protocol.NodeID, gap history.Gap) error {
	var standing protocol.HistoryReply
	if err := n.peers.read(ctx, id, "/v1/coordinators/history", &standing); err != nil {
		return err
	}
	if standing.Incomplete || standing.Applied < gap.To {
		return history.ErrIncomplete
	}
	journal, err := n.peers.open(ctx, id, "/v1/coordinators/history/journal")
	if err != nil {
		return err
	}
	defer func() { _ = journal.Close() }()
	n.config.Logger.Info("taking over history", "coordinator", id, "from", gap.From, "to", gap.To)
	return n.ledger.Adopt(ctx, journal, func(ctx context.Context, s history.Seal) (io.ReadCloser, error) {
		return n.peers.open(ctx, id, sealedPath(s))
	})
}

func sealedPath(s history.Seal) string {
	return "/v1/coordinators/history/sealed/" + s.Digest.Hex()
}

// mendHistory replaces sealed files by other coordinators'.
func (n *node) mendHistory(ctx context.Context, damaged []history.Seal) error {
	var all []error
	for _, s := range damaged {
		if err := n.mendSealed(ctx, s); err != nil {
			all = append(all, fmt.Errorf("history file %v: %w", s.Digest, err))
		}
	}
	return errors.Join(all...)
}

func (n *node) mendSealed(ctx context.Context, s history.Seal) error {
	err := errors.New("no other coordinator has it")
	for _, id := range n.peers.Others() {
		body, openErr := n.peers.open(ctx, id, sealedPath(s))
		if openErr != nil {
			err = openErr
			continue
		}
		err = n.ledger.Mend(s, body)
		_ = body.Close()
		if err == nil {
			n.config.Logger.Info("damaged history file came back from another coordinator", "coordinator", id, "digest", s.Digest)
			return nil
		}
	}
	return err
}

// open gets a stream of bytes from another coordinator; the caller closes it.
func (p *peers) open(ctx context.Context, id protocol.NodeID, path string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.Do(ctx, id, r)
	if err != nil {
		return nil, err
	}
	if err := transport.ResponseError(resp); err != nil {
		return nil, err
	}
	return resp.Body, nil
}
