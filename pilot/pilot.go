package pilot

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"floe/cache"
	"floe/pilot/hardware"
	"floe/pilot/payload"
	"floe/pilot/payload/session"
	"floe/pilot/stage"
	"floe/protocol"
	"floe/protocol/sitelog"
	"floe/protocol/software"
	"floe/protocol/spool"
)

// Pilot is one pilot process.
type Pilot struct {
	config    Config
	link      Coordinators
	cache     *cache.Store
	spool     *spool.Spool
	logger    *slog.Logger
	scratch   string
	tool      string               // directory of the payloads' command; empty without
	isolation *payload.Isolation   // nil without
	images    *payload.Images      // nil runs none
	claim     *os.File             // keeps later pilots from removing scratch
	now       func() time.Duration // boot time
	offer     protocol.Resources   // as measured; set before the first attempt
	cached    []protocol.Digest    // what the cache held when it was looked at
	looked    time.Time
	told      protocol.CacheFigures // what coordinators have heard of the cache
	documents documents
	dirs      payload.Dirs

	slotEnd time.Time // of the batch slot; zero is not known

	pace     *stage.Pace     // nil without a bound
	register *sitelog.Writer // nil without; set before the first attempt
	pause    *payload.Pause  // nil without an owner
	meter    *hardware.Meter

	wake chan struct{} // holds one: the conversation has something to say
	gone chan struct{} // closed when no exchange will follow
	work sync.WaitGroup

	mu       sync.Mutex
	talk     *Conversation                 // guarded by mu
	attempts map[protocol.LeaseID]*running // guarded by mu
}

// Coordinators are what a pilot speaks to; see Link for what each method promises.
type Coordinators interface {
	ID() protocol.PilotID
	Key() ed25519.PrivateKey
	Enrol(ctx context.Context, r protocol.EnrolRequest) (*protocol.EnrolReply, error)
	Renew(ctx context.Context) error
	Exchange(ctx context.Context, r *protocol.ExchangeRequest) (*protocol.ExchangeReply, error)
	GetBlob(ctx context.Context, d protocol.Digest) (io.ReadCloser, error)
	Software(ctx context.Context, name, version string) (*protocol.SoftwareProof, error)
	PutBlob(ctx context.Context, lease *protocol.Lease, class string, d protocol.Digest, size protocol.ByteSize, body io.Reader) error
	Close()
}

// running is one attempt under way. Its fields are guarded by Pilot.mu.
type running struct {
	lease *protocol.Lease
	stop  context.CancelCauseFunc
	log   *payload.Log // nil while there is none to tell of
	// session is what the payload says of itself, nil before it runs.
	session *session.Session
	// checkpoint is the last one that is stored, nil for none.
	checkpoint *protocol.FileRecord
	told       int64 // how much of the log was sent
	// refused is why it is not to run at all; nil where it is.
	refused error
	// answer receives the fate of a report that is waited for.
	answer chan protocol.Code
}

// Timing of a pilot.
const (
	// askWait is how long an exchange may park.
	askWait = 4 * time.Minute
	// Between shortestPace and longestPace, the coordinators say how often a pilot
	// with running attempts speaks. Source: design §4 (renew ≤ 60 s).
	shortestPace = time.Second
	longestPace  = time.Minute
	// Pauses after a failed exchange: exponential, with full jitter.
	firstPause = time.Second
	lastPause  = time.Minute
	// failedWait is how long a node that fails its own check waits before it leaves,
	// so that its slot is not refilled at once. Source: research, glideinWMS.
	failedWait = 10 * time.Minute
	// leaveWithin is how long a pilot that is told to leave tries to deliver its last
	// reports. Batch systems kill after 30 s; payloads have had their grace by then.
	leaveWithin = payload.DefaultGrace + 5*time.Second
	// enrolWithin is how long coordinators are looked for at least before a slot is
	// given back; renewWithin how long a new certificate may take while the old one
	// is good.
	enrolWithin = 10 * time.Minute
	renewWithin = 30 * time.Second
)

// ErrNode: the node failed the pilot's own check.
var ErrNode = errors.New("the node failed its check")

// Run is the whole life of a pilot: it measures, enrols, works, and leaves when
// ctx ends (drain), when the slot's time is over, or when it has been idle for too
// long. It returns nil when it left in order.
func Run(ctx context.Context, c Config) error {
	link, err := NewLink(c.Link)
	if err != nil {
		return err
	}
	defer link.Close()
	return RunOver(ctx, c, link)
}

// RunOver is Run over a link that is there, which it does not close.
func RunOver(ctx context.Context, c Config, link Coordinators) error {
	p, err := open(c, link)
	if err != nil {
		return refuse(ctx, &c, err)
	}
	if c.Trial != nil {
		return p.try(ctx)
	}
	return p.live(ctx)
}

// live is Run with its stores open.
func (p *Pilot) live(ctx context.Context) error {
	defer p.clean()
	c := p.config
	o := measureOptions(&c)
	p.findImages(ctx, &o)
	offer, report := c.Measure(ctx, o)
	if c.Claims != "" {
		held, err := stake(c.Claims, slot(c.Scratch), &offer, c.Offer, len(c.Cards) > 0)
		switch {
		case errors.Is(err, ErrNode):
			return refuse(ctx, &c, err)
		case err != nil:
			c.Logger.Warn("other pilots of this node are not known, and do not know of this one", "err", err)
		default:
			defer held.Close()
		}
	}
	p.offer = offer
	c.Logger.Info("node measured", "cores", offer.Cores, "memory", offer.Memory.String(), "disk", offer.Disk.String(), "gpus", len(offer.GPUs), "os", offer.OS)
	for _, f := range report.Findings {
		if f.What == hardware.GPUTestFinding {
			c.Logger.Info("card looked at", "state", f.Source)
		}
	}
	for _, problem := range report.Problems {
		c.Logger.Warn("node has a problem", "err", problem)
	}
	for _, beside := range report.Comparisons {
		if beside.Warning != "" {
			c.Logger.Warn("node is not what the batch system promised", "err", beside.Warning)
		}
	}
	if offer.Cores < 1 || offer.Disk <= 0 {
		return refuse(ctx, &c, fmt.Errorf("%w: %d cores, %v of scratch disk", ErrNode, offer.Cores, offer.Disk))
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	var policy *protocol.SitePolicy
	if len(c.Policies) > 0 {
		if policy, err = ReadPolicy(c.Policies); err != nil {
			return fmt.Errorf("the site's policy, without which nothing runs here: %w", err)
		}
	}
	enrolling, cancel := context.WithTimeout(ctx, max(c.Idle, enrolWithin))
	enrolled, err := p.link.Enrol(enrolling, protocol.EnrolRequest{
		Launch: c.Launch, Host: host, BatchID: c.BatchID, Resources: offer, Version: protocol.Version,
	})
	cancel()
	if err != nil {
		return err
	}
	c.Logger.Info("enrolled", "pilot", p.link.ID(), "site", enrolled.Site)
	p.slotEnd = report.End
	p.talk = NewConversation(p.instant(), ConversationConfig{Offer: offer, End: report.End, Idle: c.Idle, Jitter: rand.N[time.Duration]})
	defer p.openRegister(host)()
	if policy != nil {
		p.talk.Rule(policy)
		minding, stop := context.WithCancel(ctx)
		var mind sync.WaitGroup
		mind.Go(func() { p.mindSite(minding, policy) })
		defer mind.Wait()
		defer stop()
	}
	if c.Owner != nil {
		p.pause = payload.NewPause()
		defer p.mindOwner(ctx)()
	}
	return p.converse(ctx)
}

// instant is the time on this node.
func (p *Pilot) instant() Instant { return Instant{time.Now(), p.now()} }

// clean removes what the pilot had on the node for itself.
func (p *Pilot) clean() {
	p.cache.Close()
	p.dirs.Close()
	p.config.Groups.Close()
	if err := errors.Join(os.RemoveAll(p.scratch), p.claim.Close()); err != nil {
		p.logger.Warn("scratch directory stays", "err", err)
	}
}

func open(c Config, link Coordinators) (*Pilot, error) {
	if c.Measure == nil {
		c.Measure = hardware.Measure
	}
	if c.Faults == nil {
		c.Faults = hardware.Faults
	}
	if c.Silent == nil {
		c.Silent = hardware.Silent
	}
	if c.Payload == nil {
		c.Payload = payload.Run
	}
	if c.BootTime == nil {
		c.BootTime = bootTime
	}
	p := &Pilot{
		config: c, link: link, logger: c.Logger, wake: make(chan struct{}, 1), gone: make(chan struct{}), attempts: map[protocol.LeaseID]*running{},
		now: c.BootTime, meter: hardware.NewMeter(measureOptions(&c), c.Logger),
		pace: stage.NewPace(c.Network),
	}
	var err error
	if p.scratch, p.claim, err = makeScratch(c.Scratch, link.ID(), c.Logger); err != nil {
		return nil, fmt.Errorf("%w: scratch: %w", ErrNode, err)
	}
	p.tool = filepath.Join(p.scratch, "bin")
	if err := session.Install(p.tool); err != nil {
		c.Logger.Warn("payloads have no command to speak by", "err", err)
		p.tool = ""
	}
	if p.cache, err = openCache(&c, p.scratch, link); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNode, err)
	}
	if p.spool, err = openSpool(&c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNode, err)
	}
	p.config.Spool = c.Spool
	if p.isolation, err = isolate(&c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNode, err)
	}
	c.Groups.Reuse()
	return p, nil
}

// openSpool opens the directory for reports that are not delivered. Nodes that share
// nothing with the site, those of a grid, may not have it, nor let it be made: there
// reports stay in the scratch directory, for the next pilot of the node.
func openSpool(c *Config) (*spool.Spool, error) {
	s, err := spool.Open(c.Spool)
	if err == nil {
		return s, nil
	}
	here := filepath.Join(c.Scratch, "spool")
	c.Logger.Warn("this node has no spool of its site", "err", err, "instead", here)
	c.Spool = here
	return spool.Open(here)
}

// isolate finds out how payloads can be kept from each other and from the pilot.
func isolate(c *Config) (*payload.Isolation, error) {
	switch c.Isolation {
	case payload.IsolationAuto, payload.IsolationRequire:
		places := payload.Places{Hidden: append([]string{c.Scratch, c.Cache, c.Spool}, c.Hidden...), Writable: c.Writable}
		found, err := payload.FindIsolation(c.Scratch, places)
		if err == nil {
			c.Logger.Info("payloads are isolated: they see no other attempt, nothing of the pilot, and the node read-only")
			return found, nil
		}
		if c.Isolation == payload.IsolationRequire || !errors.Is(err, payload.ErrNoIsolation) {
			return nil, err
		}
		c.Logger.Warn("payloads can read each other's directories and the pilot's files, and write where its user may; its memory is kept from them", "err", err)
	case payload.IsolationNone:
		c.Logger.Info("payloads are not isolated, as the site wants it")
	default:
		return nil, nil
	}
	return nil, payload.Conceal()
}

// refuse waits before a pilot on a bad node leaves.
func refuse(ctx context.Context, c *Config, err error) error {
	if !errors.Is(err, ErrNode) || c.Trial != nil {
		return err
	}
	c.Logger.Error("leaving, after a wait that keeps the slot from being refilled at once", "took", failedWait, "err", err)
	wait := time.NewTimer(failedWait)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	return err
}

// converse exchanges until it is time to leave.
func (p *Pilot) converse(ctx context.Context) error {
	defer p.work.Wait()
	scrubbing, stop := context.WithCancel(ctx)
	defer stop()
	p.work.Go(func() { p.cache.Scrub(scrubbing) })
	late := time.AfterFunc(leaveWithin, p.end)
	late.Stop()
	defer late.Stop()
	drain := context.AfterFunc(ctx, func() {
		late.Reset(leaveWithin)
		p.change(func(c *Conversation) []Effect { return c.Drain() })
		p.nudge()
	})
	defer drain()
	for {
		step := p.next()
		switch step.Act {
		case ActEnd:
			p.logger.Warn("left without a good-bye; what was not delivered stays in the spool")
			return nil
		case ActLeave:
			return p.leave(ctx, step.Request)
		case ActRest:
			p.settle(step.Within)
			continue
		}
		p.add(step.Request)
		reply, err := p.exchange(ctx, step.Request, step.Within)
		if err != nil {
			if p.failed(err) {
				return err
			}
			continue
		}
		p.heard(step.Request, reply)
		p.renew(ctx)
	}
}

// next asks what to do and does what comes first.
func (p *Pilot) next() Step {
	var step Step
	p.change(func(c *Conversation) []Effect {
		select {
		case <-p.wake: // what there is to say is said now
		default:
		}
		step = c.Next(p.instant())
		return step.Effects
	})
	return step
}

// failed takes that an exchange was not answered, and tells whether none ever will be.
func (p *Pilot) failed(err error) (fatal bool) {
	failures := 0
	p.change(func(c *Conversation) (effects []Effect) {
		effects, fatal = c.Failed(p.instant(), err)
		failures = c.Failures()
		return effects
	})
	switch {
	case fatal:
		p.end()
	case !errors.Is(err, context.Canceled):
		p.logger.Warn("no coordinator answered", "err", err, "attempt", failures)
	}
	return fatal
}

// change takes a step of the conversation and does what comes of it.
func (p *Pilot) change(step func(*Conversation) []Effect) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range step(p.talk) {
		p.doLocked(&e)
	}
}

// doLocked carries an effect out.
func (p *Pilot) doLocked(e *Effect) {
	if e.Kind == EffectBegin {
		p.beginLocked(e.Grant, e.share, e.Refusal)
		return
	}
	r := p.attempts[e.Lease]
	if r == nil {
		return
	}
	switch e.Kind {
	case EffectStop:
		switch {
		case errors.Is(e.Cause, payload.ErrFenced):
			p.logger.Error("no coordinator for longer than the fence; the payload ends", "lease", e.Lease, "task", e.Task, "err", e.Reason)
		case errors.Is(e.Cause, payload.ErrAbandoned):
			p.logger.Warn("attempt abandoned", "lease", e.Lease, "task", e.Task, "err", e.Reason)
		}
		r.stop(e.Cause)
	case EffectSettle:
		if e.Code != protocol.CodeOK {
			p.logger.Warn("report not accepted", "lease", e.Lease, "task", e.Task, "err", e.Code.String()+": "+e.Reason)
		}
		r.answer <- e.Code
		if e.Deliver {
			if err := p.spool.Remove(e.Lease); err != nil {
				p.logger.Warn("delivered report stays in the spool", "lease", e.Lease, "err", err)
			}
		}
	}
}

// beginLocked starts an attempt.
func (p *Pilot) beginLocked(lease *protocol.Lease, granted share, refusal string) {
	ctx, stop := context.WithCancelCause(context.Background())
	r := &running{lease: lease, stop: stop, answer: make(chan protocol.Code, 1)}
	p.attempts[lease.ID] = r
	if refusal != "" {
		r.refused = fmt.Errorf("%w: %s", errForbidden, refusal)
	}
	p.logger.Info("task leased", "lease", lease.ID, "task", lease.Task, "attempt", lease.Attempt, "name", lease.TaskName)
	p.work.Go(func() {
		p.run(ctx, r, granted)
		stop(nil)
	})
}

func (p *Pilot) renew(ctx context.Context) {
	renewing, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	if err := p.link.Renew(renewing); err != nil && ctx.Err() == nil {
		p.logger.Warn("certificate not renewed yet", "err", err)
	}
}

// end gives everything up.
func (p *Pilot) end() {
	p.change(func(c *Conversation) []Effect {
		select {
		case <-p.gone:
		default:
			close(p.gone)
		}
		return c.End()
	})
	p.nudge()
}

// lasting is ctx for what draining must not cut off: it ends after d, or with the
// pilot.
func (p *Pilot) lasting(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d)
	go func() {
		select {
		case <-p.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// setPhase notes how far an attempt has come.
func (p *Pilot) setPhase(lease protocol.LeaseID, phase protocol.Phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.talk.Phase(lease, phase)
}

// catalog is where attempts have published software from.
func (p *Pilot) catalog() *Catalog {
	ticket := &p.config.Link.Ticket
	return &Catalog{
		Bill: func(ctx context.Context, d protocol.Digest) (*software.Bill, error) {
			text, err := p.stored(ctx, d)
			if err != nil {
				return nil, err
			}
			return software.DecodeBill(text)
		},
		Proof: p.link.Software,
		Trust: software.Trust{Cluster: ticket.Cluster, Pin: ticket.Pin, Publishers: p.config.Publishers},
		Node:  software.Node{Platform: p.offer.OS, Tags: p.offer.Tags},
	}
}

// leave says good-bye and delivers what is left in the spool.
func (p *Pilot) leave(ctx context.Context, request *protocol.ExchangeRequest) error {
	ctx, cancel := p.lasting(ctx, 10*time.Second)
	defer cancel()
	request.Cache = p.cacheFigures()
	if reports, err := p.spool.Pending(protocol.MaxReports); err == nil {
		request.Reports = reports
	}
	reply, err := p.link.Exchange(ctx, request)
	if err != nil {
		p.logger.Warn("left without a good-bye", "err", err)
		return nil
	}
	p.logger.Info("leaving", "err", request.Reason)
	return p.spool.Delivered(reply.Answers)
}
