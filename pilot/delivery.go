package pilot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"floe/pilot/payload"
	"floe/pilot/payload/session"
	"floe/pilot/stage"
	"floe/protocol"
)

// run is one attempt from lease to clean-up.
func (p *Pilot) run(ctx context.Context, r *running, granted share) {
	defer func() {
		p.mu.Lock()
		p.talk.Over(r.lease.ID)
		delete(p.attempts, r.lease.ID)
		p.mu.Unlock()
		p.nudge()
	}()
	lease := r.lease
	a := &Attempt{
		Lease: lease, Dir: filepath.Join(p.scratch, lease.ID.String()), Dirs: &p.dirs,
		Mover: p.mover(lease),
		Cache: p.cache,
		Cores: granted.cores,
		GPUs:  granted.gpus, Meter: p.meter, MaxOutput: p.config.MaxOutput, Pause: p.pause,
		Groups: p.config.Groups, Isolation: p.isolation, Images: p.images, Library: p.config.Library, Tool: p.tool, Payload: p.config.Payload,
		Logger: p.logger.With("lease", lease.ID.String(), "task", lease.Task.String()),
		Phase:  func(phase protocol.Phase) { p.setPhase(lease.ID, phase) },
		Log: func(l *payload.Log) {
			p.mu.Lock()
			r.log = l
			p.mu.Unlock()
		},
		Session: func(s *session.Session) {
			p.mu.Lock()
			r.session = s
			p.mu.Unlock()
		},
		Stored: func(f protocol.FileRecord) {
			p.mu.Lock()
			r.checkpoint = &f
			p.mu.Unlock()
		},
		Gone: p.gone, System: systemParameters(p.config.System), Catalog: p.catalog(),
	}
	begun := time.Now()
	if end := p.closes(begun); !end.IsZero() {
		a.End = end.Add(-slotMargin)
	}
	if lease.Granted.GPUs > len(granted.gpus) {
		// Cards were retired while the lease was on its way.
		a.Obstacle = fmt.Errorf("%w: of %d cards granted, %d are sound", stage.ErrNode, lease.Granted.GPUs, len(granted.gpus))
	}
	if err := p.findSilent(ctx, a); err != nil {
		a.Obstacle = err
	}
	if r.refused != nil {
		a.Obstacle = r.refused
	} else {
		p.enter(lease, begun, "")
	}
	report := a.Run(ctx, p.document)
	if r.refused == nil {
		p.enter(lease, begun, report.Verdict.String())
	}
	p.judge(ctx, a, report)
	p.judgeRepositories(ctx, a, report)
	if report.Verdict == protocol.VerdictOK {
		p.ended(lease.ID)
	} // else it is reported first: a node that fails everything is judged before it gets more
	record, log, err := p.storeLog(a)
	if err != nil {
		a.Logger.Warn("log not stored", "err", err)
	} else {
		report.Log = record
	}
	report.Pilot = p.link.ID()
	a.Logger.Info("attempt ended", "verdict", report.Verdict.String(), "took", time.Duration(report.Usage.WallMillis)*time.Millisecond, "err", report.Evidence)
	p.finish(r, a, report, log)
	if err := a.Clean(); err != nil {
		a.Logger.Warn("attempt's directory stays", "err", err)
	}
}

// mover moves the files of an attempt.
func (p *Pilot) mover(lease *protocol.Lease) *stage.Mover {
	m := &stage.Mover{Blobs: leaseBlobs{p.link, lease}, Cache: p.cache, Pace: p.pace, Temp: p.scratch, Logger: p.logger}
	if l, ok := p.link.(*Link); ok {
		m.HTTP, m.Errands = l.Storage(), l.Errands()
	}
	return m
}

// ended lets the loop ask for another task in the place of one whose payload is gone.
func (p *Pilot) ended(lease protocol.LeaseID) {
	p.change(func(c *Conversation) []Effect { return c.Ended(p.instant(), lease) })
	p.nudge()
}

// finish delivers the report, with a log that goes along, publishes what was accepted,
// and says when that is done.
func (p *Pilot) finish(r *running, a *Attempt, report *protocol.Report, log []byte) {
	if errors.Is(context.Cause(a.ctx), payload.ErrAbandoned) {
		p.discard(a, report)
		a.drop(a.spent(report, false))
		return // the coordinators have ended the lease: nobody waits for a report
	}
	if err := sendable(report); err != nil {
		a.Logger.Error("report cannot be sent as it is; the attempt counts as failed", "err", err)
		p.discard(a, report)
		report.Verdict, report.Evidence = protocol.VerdictPayload, evidence(err)
		report.Outputs, report.Statistics, report.Modules = nil, nil, nil
	}
	publish := report.Verdict == protocol.VerdictOK && slices.ContainsFunc(report.Outputs, func(o protocol.FileRecord) bool { return o.Published != "" })
	report.Cleaned = !publish
	code := p.deliver(r, report, log)
	if code == protocol.CodeOK {
		a.drop(a.spent(report, true))
	}
	switch ErrandAfter(code, report) {
	case ErrandPublish:
	case ErrandDiscard:
		p.discard(a, report)
		a.drop(a.spent(report, false))
		return
	default:
		return
	}
	p.setPhase(report.Lease, protocol.PhaseCleaning)
	if err := p.publish(a, report.Outputs); err != nil {
		// The bytes are where the record says; only the final name is missing. Without
		// another word the lease lapses, and the record says that nobody cleaned up.
		a.Logger.Error("outputs keep their attempt's names", "err", err)
		p.mu.Lock()
		p.talk.Forgo(report.Lease)
		p.mu.Unlock()
		return
	}
	report.Cleaned = true
	p.deliver(r, report, nil)
}

// maxReport is how large a report may be: with others in one exchange.
const maxReport = protocol.MaxExchangeBytes / 2

// sendable refuses a report that coordinators would refuse, or that fits into no
// exchange: its attempt would be made again and again, and never be counted.
func sendable(report *protocol.Report) error {
	if err := report.Check(); err != nil {
		return err
	}
	b, err := protocol.Marshal(report)
	if err == nil && len(b) >= maxReport {
		err = fmt.Errorf("report of %d bytes, limit %d: too many outputs, or too long names", len(b), maxReport)
	}
	return err
}

// publishTries is how often a pilot tries to give outputs their final names, with
// pauses that double from a second, and publishWithin how long at most.
const (
	publishTries  = 5
	publishWithin = 10 * time.Minute
)

func (p *Pilot) publish(a *Attempt, outputs []protocol.FileRecord) error {
	ctx, cancel := p.lasting(a.ctx, publishWithin)
	defer cancel()
	for try := 0; ; try++ {
		var all []error
		for _, o := range outputs {
			all = append(all, a.Mover.Publish(ctx, o))
		}
		err := errors.Join(all...)
		if err == nil || try == publishTries-1 {
			return err
		}
		a.Logger.Warn("outputs not published yet", "err", err)
		pause := time.NewTimer(time.Second << try)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

func (p *Pilot) discard(a *Attempt, report *protocol.Report) {
	if err := a.Mover.Discard(context.WithoutCancel(a.ctx), report.Outputs); err != nil {
		a.Logger.Warn("outputs of an attempt that does not count stay", "err", err)
	}
}

// deliver signs a report, keeps it on disk, and waits for its fate.
func (p *Pilot) deliver(r *running, report *protocol.Report, log []byte) protocol.Code {
	signed, err := protocol.SignReport(report, p.link.Key())
	signed.Log = log
	if err == nil {
		err = p.spool.Put(report.Lease, signed, p.spoolCompany())
	}
	if err != nil {
		p.logger.Error("report not kept on disk; it is sent all the same", "lease", report.Lease, "err", err)
	}
	p.mu.Lock()
	taken := p.talk.Report(report.Lease, &signed, report.Cleaned)
	p.mu.Unlock()
	if !taken {
		return protocol.CodeUnknown
	}
	p.nudge()
	return <-r.answer
}

// spoolCompany is how long a report waits for others to be written with. Where tasks
// are leased ahead, no core waits for it meanwhile.
func (p *Pilot) spoolCompany() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.talk.short.isShort() {
		return p.talk.company(p.instant()) / 2
	}
	return 0
}

// storeLog sends an attempt's log to the blob store, or returns it, where it is short
// enough to go with the report.
func (p *Pilot) storeLog(a *Attempt) (protocol.LogRecord, []byte, error) {
	record := a.outcome.Log
	if record.Digest.IsZero() || errors.Is(context.Cause(a.ctx), payload.ErrAbandoned) {
		return record, nil, nil
	}
	f, err := os.Open(a.dir.LogPath())
	if err != nil {
		return protocol.LogRecord{}, nil, err
	}
	defer f.Close()
	if record.Size > 0 && record.Size <= protocol.MaxReportLog {
		text := make([]byte, record.Size)
		if _, err := io.ReadFull(f, text); err != nil {
			return protocol.LogRecord{}, nil, err
		}
		return record, text, nil
	}
	ctx, cancel := p.lasting(a.ctx, time.Minute)
	defer cancel()
	if err := p.link.PutBlob(ctx, a.Lease, "log", record.Digest, record.Size, f); err != nil {
		return protocol.LogRecord{}, nil, err
	}
	return record, nil, nil
}
