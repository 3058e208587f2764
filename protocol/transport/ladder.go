package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// firstLook is how long each of several addresses is tried before the next: a dead
// one, often that of the leader whose death is why we connect, must not hold up a
// living one. When none stood, each is given its whole time.
const firstLook = 3 * time.Second

// connect tries one address after the other, the leader's first, on the rungs
// from the remembered one down. When none stood, all of the ladder is tried, and then
// the addresses that others know.
func (c *Client) connect(ctx context.Context, cert *tls.Certificate) (*session, error) {
	c.mu.Lock()
	addresses := c.orderLocked()
	top := c.config.top()
	from := max(c.rung, top)
	if c.retryTopLocked() {
		from = top
	}
	c.mu.Unlock()
	if len(addresses) == 0 {
		return nil, errors.New("no coordinator's address is known")
	}
	type round struct {
		addresses []string
		from      Rung
		limit     time.Duration
		last      bool
	}
	rounds := []round{{addresses, from, c.config.HandshakeTimeout, true}}
	if len(addresses) > 1 && firstLook < c.config.HandshakeTimeout {
		rounds = []round{{addresses, from, firstLook, false}, {addresses, top, c.config.HandshakeTimeout, true}}
	}
	var errs []error
	for len(rounds) > 0 {
		r := rounds[0]
		rounds = rounds[1:]
		errs = errs[:0] // the last round says most
		for _, address := range r.addresses {
			look, cancel := context.WithTimeout(ctx, r.limit)
			s, err := c.climb(look, r.from, address, cert, !r.last)
			cancel()
			if err == nil {
				return s, nil
			}
			if ctx.Err() != nil {
				return nil, fmt.Errorf("connect: %w (%w)", ctx.Err(), err)
			}
			errs = append(errs, err)
		}
		if !r.last {
			continue
		}
		if more := c.elsewhere(); len(more) > 0 {
			rounds = append(rounds, round{more, top, c.config.HandshakeTimeout, true})
		}
	}
	// What worked before works nowhere: next time from the top.
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fellAt = time.Time{}
	c.leader = ""
	return nil, fmt.Errorf("connect to %s: %w", c.config.Cluster, errors.Join(errs...))
}

// mostAddresses bounds the coordinators' addresses that others than coordinators say.
const mostAddresses = 16

// suggest adds addresses that others than coordinators say are theirs; who answers
// there must prove it as anywhere. They are forgotten when a coordinator says which
// are right.
func (c *Client) suggest(addresses []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range addresses {
		if !slices.Contains(c.addresses, a) && len(c.addresses) < 2*mostAddresses && checkAddresses([]string{a}) == nil {
			c.addresses, c.untried = append(c.addresses, a), append(c.untried, a)
			c.announced = nil // the next answer decides
		}
	}
}

// elsewhere returns addresses that were suggested and not tried.
func (c *Client) elsewhere() []string {
	if c.config.Elsewhere != nil {
		c.suggest(c.config.Elsewhere())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	more := c.untried
	c.untried = nil
	return more
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
		rung    Rung
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
			results <- result{rung, s, err}
		}()
	}
	var won *session
	var errs []error
	failed := make(map[Rung]error, len(ladder))
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
				failed[r.rung] = r.err
				if untrusted(r.err) {
					cancel()
				} else if hasty && begun == len(ladder) && r.rung <= RungTCP && errors.Is(r.err, syscall.ECONNREFUSED) {
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
		won.why, won.climbed = whyNot(ladder, won.rung, address, failed), from == c.config.top()
		return won, nil
	}
	return nil, errors.Join(errs...)
}

// whyNot says of each rung above the one that stood why it did not.
func whyNot(ladder []Rung, stood Rung, address string, failed map[Rung]error) string {
	var all []string
	for _, r := range ladder {
		if r >= stood {
			break
		}
		if err := failed[r]; err != nil {
			all = append(all, err.Error())
		} else {
			all = append(all, fmt.Sprintf("%v %s: no answer before %v had one", r, address, stood))
		}
	}
	return strings.Join(all, "; ")
}

// ladder lists the rungs from one down that exist for an address, at least one.
func (c *Client) ladder(from Rung, address string) []Rung {
	proxy, err := c.dialer.proxyFor(address)
	proxied := err != nil || proxy != nil // a broken setting is told when it is tried
	var l []Rung
	if from <= RungQUIC {
		l = append(l, RungQUIC)
	}
	if from <= RungTCP || from == RungProxy && !proxied || from == RungRelay && c.config.Relay == nil {
		l = append(l, RungTCP)
	}
	if proxied && from <= RungProxy {
		l = append(l, RungProxy)
	}
	if c.config.Relay != nil {
		l = append(l, RungRelay)
	}
	return l
}
