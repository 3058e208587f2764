package federation

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"floe/coordinator/auth"
	"floe/pilot"
	"floe/pilot/hardware"
	"floe/protocol"
	"floe/protocol/transport"
)

// site is a site of one shape of nodes: its passes ask for launches every minute,
// and its batch system starts every pilot job at once.
type site struct {
	f      *federation
	name   protocol.SiteID
	number int
	slots  int
	client *transport.Client
	logger *slog.Logger
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	pilots map[protocol.LaunchID]*pilotJob // guarded by mu: those that the batch system has
	born   int                             // guarded by mu
}

// pilotJob is a pilot in the batch system.
type pilotJob struct {
	site   *site
	launch protocol.LaunchID
	number int
	dir    string
	nic    *nic
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

const passEvery = time.Minute

// joinSite makes a site known, as floe site join does.
func (f *federation) joinSite(number int, name protocol.SiteID, slots int) *site {
	s := &site{f: f, name: name, number: number, slots: slots, pilots: map[protocol.LaunchID]*pilotJob{}, logger: f.logger(string(name))}
	var reply protocol.TokenReply
	f.must(f.operator.CallJSON(f.ctx, "POST", "/v1/tokens", &protocol.TokenRequest{Role: "site", Name: string(name)}, &reply, transport.Idempotent()))
	token, err := protocol.ParseToken(reply.Token)
	f.must(err)
	key, err := auth.NewCoordinatorKey()
	f.must(err)
	csr, err := transport.NewCSR(key)
	f.must(err)
	door := f.network.attach(netip.AddrFrom4([4]byte{10, 1, byte(number), 1}))
	enrol := f.client(door, transport.ClientConfig{Door: transport.DoorEnrol, Addresses: token.Addresses})
	defer enrol.Close()
	var joined protocol.JoinReply
	f.must(enrol.CallCBOR(f.ctx, "POST", "/v1/sites", &protocol.JoinRequest{Secret: token.Credential(), CSR: csr}, &joined, transport.Idempotent()))
	cert, err := transport.AssembleCertificate(joined.Certificate, key)
	f.must(err)
	s.client = f.client(door, transport.ClientConfig{
		Door: transport.DoorSite, Addresses: joined.Addresses, Logger: s.logger,
		Certificate: func() (*tls.Certificate, error) { return cert, nil },
	})
	return s
}

// start lets the site work until it is stopped.
func (s *site) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.ended = cancel, make(chan struct{})
	s.f.work.Go(func() {
		defer close(s.ended)
		s.run(ctx)
	})
}

// stop ends the passes and drains the pilots.
func (s *site) stop() {
	if s.cancel != nil {
		s.cancel()
		<-s.ended
	}
	s.client.Close()
}

// run makes passes until ctx ends, then drains the pilots that are left.
func (s *site) run(ctx context.Context) {
	tick := time.NewTicker(passEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := s.pass(ctx); err != nil && ctx.Err() == nil {
			s.logger.Warn("pass failed", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	jobs := s.jobs()
	for _, p := range jobs {
		p.cancel()
	}
	for _, p := range jobs {
		<-p.ended
	}
}

// hosts are the addresses of all hosts of the site.
func (s *site) hosts() []netip.Addr {
	all := []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(s.number), 1})}
	for i := range pilotHosts {
		all = append(all, netip.AddrFrom4([4]byte{10, 1, byte(s.number), byte(2 + i)}))
	}
	return all
}

// pilotHosts is how many hosts a site has; they are used in turn.
const pilotHosts = 64

// jobs are the pilot jobs that have not ended, oldest first.
func (s *site) jobs() []*pilotJob {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Collect(maps.Values(s.pilots))
	slices.SortFunc(all, func(a, b *pilotJob) int { return a.number - b.number })
	return all
}

func (s *site) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passEvery)
	defer cancel()
	request := &protocol.LaunchRequest{Version: protocol.Version}
	jobs := s.jobs()
	for _, p := range jobs {
		request.Known = append(request.Known, protocol.KnownLaunch{Launch: p.launch, BatchID: fmt.Sprint(p.number), Running: true})
	}
	request.Shapes = []protocol.LaunchShape{{
		Name: "node", Offer: protocol.Resources{Cores: nodeCores, Memory: 8 << 30, Disk: 8 << 30}, Room: uint32(s.slots - len(jobs)),
	}}
	var reply protocol.LaunchReply
	if err := s.client.CallCBOR(ctx, "POST", "/v1/sites/launch", request, &reply); err != nil {
		return err
	}
	for _, g := range reply.Grants {
		if err := s.launch(g); err != nil {
			return err
		}
	}
	return nil
}

// nodeCores is how many single-core tasks a pilot runs at once.
const nodeCores = 2

// launch runs a pilot.
func (s *site) launch(g protocol.LaunchGrant) error {
	ticket, err := protocol.ParseToken(g.Ticket)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.born++
	p := &pilotJob{site: s, launch: g.Launch, number: s.born, ended: make(chan struct{})}
	s.pilots[g.Launch] = p
	s.mu.Unlock()
	f := s.f
	p.dir = f.dir("site", string(s.name), fmt.Sprint(p.number))
	p.nic = f.network.attach(netip.AddrFrom4([4]byte{10, 1, byte(s.number), byte(2 + p.number%pilotHosts)}))
	name := fmt.Sprintf("%s.%d", s.name, p.number)
	logger := f.logger(name)
	link, err := pilot.NewLink(pilot.LinkConfig{Ticket: ticket, DialTCP: p.nic.dialTCP, DialUDP: p.nic.dialUDP, Logger: logger})
	if err != nil {
		return err
	}
	c := pilot.Config{
		Launch: g.Launch, BatchID: fmt.Sprint(p.number),
		Scratch: p.dir + "/scratch", Cache: p.dir + "/cache", Spool: p.dir + "/spool",
		Idle: 10 * time.Minute, Logger: logger,
		Payload:  f.runPayload,
		BootTime: func() time.Duration { return time.Since(f.began) },
		Measure: func(context.Context, hardware.Options) (protocol.Resources, hardware.Report) {
			return protocol.Resources{Cores: nodeCores, Memory: 8 << 30, Disk: 8 << 30, OS: "linux"}, hardware.Report{}
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	f.work.Go(func() {
		p.err = pilot.RunOver(ctx, c, &recorder{Link: link, history: &f.history, name: name, began: f.began})
		link.Close()
		if p.err != nil {
			logger.Warn("pilot ended", "err", p.err)
		}
		s.mu.Lock()
		if s.pilots[p.launch] == p {
			delete(s.pilots, p.launch)
		}
		s.mu.Unlock()
		close(p.ended)
		if !f.t.Failed() {
			_ = os.RemoveAll(p.dir)
		}
	})
	return nil
}

// kill ends a pilot as SIGKILL does: the batch system knows at once, coordinators
// learn it from silence.
func (p *pilotJob) kill() {
	p.nic.kill(true)
	p.site.mu.Lock()
	delete(p.site.pilots, p.launch)
	p.site.mu.Unlock()
	p.cancel()
}
