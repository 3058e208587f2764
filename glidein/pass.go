package glidein

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"floe/glidein/batch"
	"floe/protocol"
	"floe/protocol/sitelog"

	"github.com/gofrs/flock"
)

// ErrBusy is returned when another pass holds the site's lock.
var ErrBusy = errors.New("another pass of this site is under way")

// Coordinator is the one verb a pass needs.
type Coordinator interface {
	Launch(ctx context.Context, request *protocol.LaunchRequest) (*protocol.LaunchReply, error)
}

// Pass is one pass of one site.
type Pass struct {
	Config *Config
	// Batch opens the batch system of a queue.
	Batch       func(*Queue) (batch.System, error)
	Coordinator Coordinator
	// Program is the floe to start a relay with.
	Program string
	// Spool is where pilots of this site leave reports they could not deliver; nil
	// when there is none.
	Spool Spool
	// Programs has the pilots that the cluster releases; nil has none.
	Programs Programs
	Logger   *slog.Logger
	// DryRun submits, removes and cleans nothing: it says what the pass sees and writes
	// the submit files it would use. The coordinator, if there is one, is asked what it
	// would grant.
	DryRun bool

	trial  bool                 // its pilot jobs try their nodes and leave
	policy *protocol.SitePolicy // of this pass
}

// Spool gives up reports that pilots left behind.
type Spool interface {
	// Pending returns at most limit reports.
	Pending(limit int) ([]protocol.SignedReport, error)
	// Delivered removes those whose answers are final.
	Delivered(answers []protocol.ReportAnswer) error
}

// Run makes the pass. The result says what was done even when the error is not nil.
func (p *Pass) Run(ctx context.Context) (*Result, error) {
	dir := p.Config.Directory
	if err := os.MkdirAll(filepath.Join(dir, "jobs"), 0o700); err != nil {
		return nil, fmt.Errorf("glidein pass: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "pass.lock"))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("glidein pass: lock: %w", err)
	}
	if !held {
		return nil, fmt.Errorf("glidein pass: %w", ErrBusy)
	}
	defer lock.Unlock()
	ledger, err := openLedger(filepath.Join(dir, "ledger.json"))
	if err != nil {
		return nil, fmt.Errorf("glidein pass: %w", err)
	}
	if p.policy, err = p.Config.SitePolicy(time.Now()); err != nil {
		return nil, fmt.Errorf("glidein pass: %w", err)
	}
	if !p.DryRun {
		if err := WritePolicy(dir, p.policy); err != nil {
			return nil, fmt.Errorf("glidein pass: %w", err)
		}
	}
	if !p.DryRun {
		if err := sitelog.Tidy(p.Config.SiteLog(), time.Now()); err != nil {
			p.Logger.Warn("the site's log is not tidied", "err", err)
		}
	}
	result := new(Result)
	stations, err := p.stations(result)
	if err != nil {
		return nil, err
	}
	p.ask(ctx, stations, ledger)
	batchErr := silence(stations)
	for _, s := range stations {
		p.reconcile(ctx, ledger, s, result)
	}
	p.retireEnded(ledger, stations, result)
	p.room(stations)
	if p.DryRun {
		return result, errors.Join(batchErr, p.dryRun(stations, result), p.preview(ctx, ledger, stations, result))
	}
	if err := ledger.save(); err != nil {
		return result, err
	}
	p.watchRelay(ctx, stations, result)
	request := p.request(ledger, stations, result)
	reply, err := p.Coordinator.Launch(ctx, request)
	if err != nil {
		return result, errors.Join(batchErr, fmt.Errorf("ask for launch leases: %w", err))
	}
	result.Reasons = append(result.Reasons, reply.Reasons...)
	result.Reports, result.Orders = len(reply.Answers), reply.Orders
	if p.Spool != nil {
		if err := p.Spool.Delivered(reply.Answers); err != nil {
			p.Logger.Warn("reports delivered stay in the spool", "err", err)
		}
	}
	ledger.Ended = nil // it has been told
	p.remove(ctx, ledger, stations, append(reply.Remove, ledger.strays(reply.Strays, result)...), result)
	if err := p.choosePrograms(ctx, stations, reply.Pilot, result); err != nil {
		return result, errors.Join(batchErr, err, ledger.save())
	}
	err = p.submit(ctx, ledger, stations, reply.Grants, result)
	return result, errors.Join(batchErr, err, ledger.save())
}

// preview asks what a pass would be granted, if there is somebody to ask.
func (p *Pass) preview(ctx context.Context, ledger *Ledger, stations []*station, result *Result) error {
	if p.Coordinator == nil {
		return nil
	}
	request := p.request(ledger, stations, result)
	request.Preview, request.Reports = true, nil
	reply, err := p.Coordinator.Launch(ctx, request)
	if err != nil {
		return fmt.Errorf("ask what would be launched: %w", err)
	}
	result.Reasons = append(result.Reasons, reply.Reasons...)
	return nil
}

// silence tells which batch systems did not answer; nil where all did.
func silence(stations []*station) error {
	var all []error
	for _, s := range stations {
		if s.err != nil {
			all = append(all, fmt.Errorf("nothing launched in %s: %w", s.where, s.err))
		}
	}
	return errors.Join(all...)
}
