package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"floe/protocol"
	"floe/protocol/transport"
)

// fleet is simulated pilots of one site. They join, enrol, pull, sign and report
// exactly as pilots do, with certificates, tickets and passkeys of their own; they
// only run nothing.
type fleet struct {
	c      *cluster
	pilots []*simulated
	enrol  *transport.Client // all enrol over one connection
	launch *transport.Client // the site's
	site   protocol.SiteID
	sites  int // that it has joined as: site, site-2, …
	// headStart is how long HTTP/3 is tried alone; zero is what pilots do.
	headStart time.Duration
}

// idleDocument asks for one core per job, so that pilots are wanted; it is
// suspended before they pull.
const idleDocument = `version: "3"
tasks:
  - name: work
    requirements: {cpu: 1}
    trays: [{modules: [{name: nothing, src: /bin/true}]}]
`

// onlyHTTP3 is a head start by which HTTP/3 is what is measured: on a busy machine
// TCP would win at times.
const onlyHTTP3 = 10 * time.Second

// newFleet joins as a site and enrols n pilots of some cores, which use HTTP/3.
func newFleet(ctx context.Context, c *cluster, n, cores int) (*fleet, error) {
	return newFleetAt(ctx, c, "load", n, cores)
}

func newFleetAt(ctx context.Context, c *cluster, site protocol.SiteID, n, cores int) (*fleet, error) {
	return fillFleet(ctx, &fleet{c: c, site: site, headStart: onlyHTTP3}, n, cores)
}

// newLadderFleet is newFleet of pilots that fall back to TCP as soon as real ones do.
func newLadderFleet(ctx context.Context, c *cluster, n, cores int) (*fleet, error) {
	return fillFleet(ctx, &fleet{c: c, site: "load"}, n, cores)
}

func fillFleet(ctx context.Context, f *fleet, n, cores int) (*fleet, error) {
	if err := f.join(ctx); err != nil {
		f.close()
		return nil, fmt.Errorf("join as a site: %w", err)
	}
	if err := f.grow(ctx, n, cores); err != nil {
		f.close()
		return nil, fmt.Errorf("enrol %d pilots: %w", n, err)
	}
	return f, nil
}

func (f *fleet) client(door transport.Door, cert func() (*tls.Certificate, error)) (*transport.Client, error) {
	return transport.NewClient(transport.ClientConfig{
		Cluster: f.c.token.Cluster, Door: door, Addresses: f.c.addresses(), Pins: []protocol.Digest{f.c.token.Pin},
		Certificate: cert, UserAgent: "floe-bench/" + protocol.Version, Logger: quiet,
		HeadStart: f.headStart,
	})
}

func (f *fleet) join(ctx context.Context) (err error) {
	if f.enrol == nil {
		if f.enrol, err = f.client(transport.DoorEnrol, nil); err != nil {
			return err
		}
	}
	if f.launch != nil {
		f.launch.Close()
	}
	name := string(f.site)
	if f.sites++; f.sites > 1 {
		name += fmt.Sprintf("-%d", f.sites)
	}
	var invitation protocol.TokenReply
	if err := f.c.ask(ctx, http.MethodPost, "/v1/tokens", &protocol.TokenRequest{Role: "site", Name: name}, &invitation); err != nil {
		return err
	}
	token, err := protocol.ParseToken(invitation.Token)
	if err != nil {
		return err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	csr, err := transport.NewCSR(key)
	if err != nil {
		return err
	}
	var reply protocol.JoinReply
	if err := f.enrol.CallCBOR(ctx, http.MethodPost, "/v1/sites", &protocol.JoinRequest{Secret: token.Credential(), CSR: csr}, &reply, transport.Idempotent()); err != nil {
		return err
	}
	cert, err := transport.AssembleCertificate(reply.Certificate, key)
	if err != nil {
		return err
	}
	f.launch, err = f.client(transport.DoorSite, func() (*tls.Certificate, error) { return cert, nil })
	return err
}

// perPass is how many launch leases one pass asks for.
const perPass = 500

// grow enrols n more pilots: passes get launch leases for them, as long as there is
// demand, and each ticket becomes a pilot.
func (f *fleet) grow(ctx context.Context, n, cores int) error {
	demand, err := f.c.submit(ctx, idleDocument, uint32(2*n*cores+cores))
	if err != nil {
		return err
	}
	offer := protocol.Resources{Cores: cores, Memory: 64 * protocol.GB, Disk: 1000 * protocol.GB, OS: "debian_12-x86_64-glibc2.36"}
	granted := 0 // to the site it has joined as
	for len(f.pilots) < n {
		// Of each shape only a few may have had no task yet, and these get none for now.
		request := protocol.LaunchRequest{Version: protocol.Version, Room: uint32(min(perPass, n-len(f.pilots)))}
		for i := range protocol.MaxShapes {
			request.Shapes = append(request.Shapes, protocol.LaunchShape{Name: fmt.Sprintf("simulated-%d", i), Offer: offer, Room: request.Room})
		}
		var reply protocol.LaunchReply
		if err := f.launch.CallCBOR(ctx, http.MethodPost, "/v1/sites/launch", &request, &reply, transport.Idempotent()); err != nil {
			return err
		}
		if len(reply.Grants) == 0 {
			if granted == 0 {
				return fmt.Errorf("no launch lease granted: %v", reply.Reasons)
			}
			granted = 0
			if err := f.join(ctx); err != nil {
				return fmt.Errorf("join as another site: %w", err)
			}
			continue
		}
		granted += len(reply.Grants)
		if err := f.enrolAll(ctx, reply.Grants, offer); err != nil {
			return err
		}
	}
	return f.c.act(ctx, demand, "suspend")
}

// enrolAtOnce is how many pilots enrol at once, over one connection.
const enrolAtOnce = 16

func (f *fleet) enrolAll(ctx context.Context, grants []protocol.LaunchGrant, offer protocol.Resources) error {
	made := make([]*simulated, len(grants))
	errs := make([]error, len(grants))
	next := make(chan int)
	var work sync.WaitGroup
	for range enrolAtOnce {
		work.Go(func() {
			for i := range next {
				made[i], errs[i] = f.newPilot(ctx, &grants[i], offer)
			}
		})
	}
	for i := range grants {
		next <- i
	}
	close(next)
	work.Wait()
	for _, p := range made {
		if p != nil {
			f.pilots = append(f.pilots, p)
		}
	}
	return errors.Join(errs...)
}

// connect has every pilot speak once: handshakes are not what is measured.
func (f *fleet) connect(ctx context.Context) error {
	connecting, ctx := errgroup.WithContext(ctx)
	connecting.SetLimit(connectAtOnce)
	for _, p := range f.pilots {
		connecting.Go(func() error {
			_, err := p.exchange(ctx, nil, 0, 0)
			return err
		})
	}
	return connecting.Wait()
}

// close may be called more than once.
func (f *fleet) close() {
	for _, p := range f.pilots {
		p.client.Close()
	}
	for _, c := range []*transport.Client{f.enrol, f.launch} {
		if c != nil {
			c.Close()
		}
	}
}

// simulated is one pilot. Its methods belong to one goroutine.
type simulated struct {
	id       protocol.PilotID
	key      ed25519.PrivateKey
	client   *transport.Client
	offer    protocol.Resources
	host     string
	sequence uint64
	held     []protocol.Lease // what it runs
	// leader is who the last answer said leads, served who took the exchange.
	leader, served string
}

func (f *fleet) newPilot(ctx context.Context, grant *protocol.LaunchGrant, offer protocol.Resources) (*simulated, error) {
	ticket, err := protocol.ParseToken(grant.Ticket)
	if err != nil {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := transport.NewCSR(key)
	if err != nil {
		return nil, err
	}
	p := &simulated{id: protocol.NewPilotID(), key: key, offer: offer, host: "node" + string(grant.Launch)}
	request := protocol.EnrolRequest{
		Ticket: ticket.Credential(), CSR: csr, Pilot: p.id, Launch: grant.Launch, Host: p.host, Resources: offer, Version: protocol.Version,
	}
	var reply protocol.EnrolReply
	if err := f.enrol.CallCBOR(ctx, http.MethodPost, "/v1/pilots", &request, &reply, transport.Idempotent()); err != nil {
		return nil, err
	}
	cert, err := transport.AssembleCertificate(reply.Certificate, key)
	if err != nil {
		return nil, err
	}
	p.client, err = f.client(transport.DoorPilot, func() (*tls.Certificate, error) { return cert, nil })
	return p, err
}

// errUnsettled: the exchange was answered, and the fate of a report is still open.
var errUnsettled = errors.New("a report's fate is unknown")

// exchange speaks once: it reports the leases it has run and asks for want more,
// parking for as long as wait. What is granted is added to held, what is settled
// taken from it. It returns the leases whose reports were accepted.
func (p *simulated) exchange(ctx context.Context, reports []protocol.SignedReport, want int, wait time.Duration) (accepted []protocol.Lease, err error) {
	p.sequence++
	request := protocol.ExchangeRequest{Reports: reports, Free: p.offer, Want: uint16(want), Wait: protocol.SecondsOf(wait), Sequence: p.sequence}
	if len(reports) == 0 {
		request.Free.Cores -= len(p.held)
	}
	for i := range p.held {
		request.Held = append(request.Held, protocol.HeldLease{Lease: p.held[i].ID, Task: p.held[i].Task, Phase: protocol.PhaseRunning})
	}
	var reply protocol.ExchangeReply
	if err := p.client.CallCBOR(ctx, http.MethodPost, "/v1/pilots/exchange", &request, &reply); err != nil {
		return nil, err
	}
	p.leader, p.served = reply.Leader, p.client.Address()
	if err := p.client.SetAddresses(reply.Addresses); err != nil {
		return nil, err
	}
	p.client.SetLeader(reply.Leader)
	open := false
	for _, a := range reply.Answers {
		switch {
		case a.Code == protocol.CodeOK:
			for i := range p.held {
				if p.held[i].ID == a.Lease {
					accepted = append(accepted, p.held[i])
				}
			}
			p.drop(a.Lease)
		case a.Code.Retryable(), a.Code == protocol.CodeInternal:
			open = true
		default:
			p.drop(a.Lease)
		}
	}
	for _, o := range reply.Orders {
		if o.Kind == protocol.OrderAbandon {
			p.drop(o.Lease)
		}
	}
	p.held = append(p.held, reply.Leases...)
	if open {
		return accepted, errUnsettled
	}
	return accepted, nil
}

func (p *simulated) drop(id protocol.LeaseID) {
	for i := range p.held {
		if p.held[i].ID == id {
			p.held = append(p.held[:i], p.held[i+1:]...)
			return
		}
	}
}

// report is what a pilot says of a task that went well: usage, one module, one
// statistic and a log.
func (p *simulated) report(l *protocol.Lease) (protocol.SignedReport, error) {
	now := time.Now().Unix()
	used := protocol.Usage{WallMillis: 1200, CPUMillis: 1100, PeakMemory: 200 * protocol.MB, ReadBytes: 3 * protocol.MB, WriteBytes: 2 * protocol.MB, Cores: 1}
	return protocol.SignReport(&protocol.Report{
		Lease: l.ID, Task: l.Task, Pilot: p.id, Passkey: l.Passkey, Verdict: protocol.VerdictOK, Usage: used,
		Statistics: []protocol.Statistic{{Name: "events", Value: float64(l.Task.Job % 1000)}},
		Modules:    []protocol.ModuleResult{{Tray: "tray", Module: "nothing", Usage: used}},
		Host:       p.host, Cleaned: true, StartedUnix: now - 1, EndedUnix: now,
	}, p.key)
}

// signingCost is how long a pilot takes to make and sign a report.
func (p *simulated) signingCost() (time.Duration, error) {
	const times = 2000
	lease := protocol.Lease{Passkey: "floe_pk_0123456789012345678901234567890123456789012345678901"}
	began := time.Now()
	for range times {
		if _, err := p.report(&lease); err != nil {
			return 0, err
		}
	}
	return time.Since(began) / times, nil
}

// reportAll signs a report on everything held.
func (p *simulated) reportAll() ([]protocol.SignedReport, error) {
	all := make([]protocol.SignedReport, len(p.held))
	for i := range p.held {
		var err error
		if all[i], err = p.report(&p.held[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}
