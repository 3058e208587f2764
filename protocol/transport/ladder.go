package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// firstLook is how long each of several addresses is tried before the next: a dead
// one, often that of the leader whose death is why we connect, must not hold up a
// living one. When none stood, each is given its whole time.
const firstLook = 3 * time.Second

// connect tries one address after the other, the leader's first, on the rungs
// from the remembered one down.
func (c *Client) connect(ctx context.Context, cert *tls.Certificate) (*session, error) {
	c.mu.Lock()
	addresses := c.orderLocked()
	from := max(c.rung, RungQUIC)
	if c.config.DisableQUIC {
		from = max(from, RungTCP)
	} else if c.retryQUICLocked() {
		from = RungQUIC
	}
	c.mu.Unlock()
	if len(addresses) == 0 {
		return nil, errors.New("no coordinator's address is known")
	}
	rounds := []time.Duration{c.config.HandshakeTimeout}
	if len(addresses) > 1 && firstLook < c.config.HandshakeTimeout {
		rounds = slices.Insert(rounds, 0, firstLook)
	}
	var errs []error
	for i, limit := range rounds {
		errs = errs[:0] // the last round says most
		for _, address := range addresses {
			look, cancel := context.WithTimeout(ctx, limit)
			s, err := c.climb(look, from, address, cert, i < len(rounds)-1)
			cancel()
			if err == nil {
				return s, nil
			}
			if ctx.Err() != nil {
				return nil, fmt.Errorf("connect: %w (%w)", ctx.Err(), err)
			}
			errs = append(errs, err)
		}
	}
	// What worked before works nowhere: next time from the top.
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fellAt = time.Time{}
	c.leader = ""
	return nil, fmt.Errorf("connect to %s: %w", c.config.Cluster, errors.Join(errs...))
}

// orderLocked lists the addresses as they are tried: the leader's first, that of a
// session that broke last.
func (c *Client) orderLocked() []string {
	addresses := slices.Clone(c.addresses)
	move := func(address string, to int) {
		if i := slices.Index(addresses, address); i >= 0 {
			addresses = slices.Insert(slices.Delete(addresses, i, i+1), to, address)
		}
	}
	move(c.broken, len(addresses)-1)
	if c.leader != "" && !slices.Contains(addresses, c.leader) {
		return slices.Insert(addresses, 0, c.leader)
	}
	move(c.leader, 0)
	return addresses
}

// climb tries the rungs to one address. A rung begins when the one above has
// failed or has had its head start; the first to stand wins and the others are
// given up. An address at which somebody else answers is given up at once; a hasty
// climb also gives up soon where TCP is refused: who serves, serves both.
func (c *Client) climb(ctx context.Context, from Rung, address string, cert *tls.Certificate, hasty bool) (*session, error) {
	ladder := c.ladder(from, address)
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		session *session
		err     error
	}
	results := make(chan result, len(ladder))
	headStart := time.NewTimer(c.config.HeadStart)
	begun, pending := 0, 0
	begin := func() {
		rung := ladder[begun]
		begun, pending = begun+1, pending+1
		headStart.Reset(c.config.HeadStart)
		go func() {
			s, err := c.dialer.dial(ctx, rung, address, cert)
			results <- result{s, err}
		}()
	}
	var won *session
	var errs []error
	begin()
	for pending > 0 {
		var next <-chan time.Time
		if begun < len(ladder) && won == nil && ctx.Err() == nil {
			next = headStart.C
		}
		select {
		case <-next:
			begin()
		case r := <-results:
			pending--
			switch {
			case r.err == nil && won == nil:
				won = r.session
				cancel()
			case r.err == nil:
				r.session.close()
			case won == nil:
				errs = append(errs, r.err)
				if untrusted(r.err) {
					cancel()
				} else if hasty && begun == len(ladder) && errors.Is(r.err, syscall.ECONNREFUSED) {
					soon := time.AfterFunc(c.config.HeadStart, cancel)
					defer soon.Stop()
				} else if begun < len(ladder) && ctx.Err() == nil {
					begin()
				}
			}
		}
	}
	headStart.Stop()
	cancel()
	if won != nil {
		return won, nil
	}
	return nil, errors.Join(errs...)
}

// ladder lists the rungs from one down that exist for an address, at least one.
func (c *Client) ladder(from Rung, address string) []Rung {
	var l []Rung
	if from <= RungQUIC {
		l = append(l, RungQUIC)
	}
	proxy, err := c.dialer.proxyFor(address)
	proxied := err != nil || proxy != nil // a broken setting is told when it is tried
	if from <= RungTCP || !proxied {
		l = append(l, RungTCP)
	}
	if proxied {
		l = append(l, RungProxy)
	}
	return l
}
