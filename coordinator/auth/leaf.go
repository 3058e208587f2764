package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"floe/protocol/transport"
)

// Run renews the coordinator's own certificate at half its life until ctx ends,
// and at once if it is older than that or lacks one of the hosts: the names and
// addresses that people call this coordinator by.
func (c *Cluster) Run(ctx context.Context, log *slog.Logger, hosts ...string) error {
	// Asked once: a host that no certificate can name must not have one made for ever.
	leaf, _ := c.Certificate()
	wait := time.Until(renewalOf(leaf.Leaf))
	if !answersTo(leaf.Leaf, hosts) {
		wait = 0
	}
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		chain, err := c.renew(hosts)
		if err != nil {
			return fmt.Errorf("renew own certificate: %w", err)
		}
		if err := writeFile(filepath.Join(c.dir, chainFile), chain); err != nil {
			log.Warn("renewed certificate not written, used all the same", "err", err)
		}
		log.Info("own certificate renewed")
		leaf, _ = c.Certificate()
		wait = max(time.Until(renewalOf(leaf.Leaf)), time.Minute) // near the end of the authority itself
	}
}

// renewalOf is the middle of a certificate's life.
func renewalOf(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
}

func answersTo(leaf *x509.Certificate, hosts []string) bool {
	return !slices.ContainsFunc(hosts, func(h string) bool { return leaf.VerifyHostname(h) != nil })
}

// renew signs a new leaf for the key in use.
func (c *Cluster) renew(hosts []string) (chain []byte, err error) {
	chain, err = c.certify(c.key.Public(), c.coordinator(c.node), CoordinatorLife, hosts)
	if err != nil {
		return nil, err
	}
	leaf, err := transport.AssembleCertificate(chain, c.key)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaf = leaf
	return chain, nil
}
