package glidein

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"floe/glidein/batch"
	"floe/protocol"

	"github.com/gofrs/flock"
)

// Trial is a pilot job that tries its node and leaves. The ledger has it: passes that
// cron makes meanwhile treat it like any other.
type Trial struct {
	Launch  protocol.LaunchID
	BatchID batch.JobID

	pass *Pass
	line *line
}

// Try submits a pilot job that tries a queue, with the site's lock held: a pass that is
// under way is waited for.
func (p *Pass) Try(ctx context.Context, q *Queue) (*Trial, error) {
	dir := p.Config.Directory
	if err := os.MkdirAll(filepath.Join(dir, "jobs"), 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, "pass.lock"))
	if held, err := lock.TryLockContext(ctx, 200*time.Millisecond); !held {
		return nil, fmt.Errorf("the site's lock: %w", errors.Join(ErrBusy, err))
	}
	defer lock.Unlock()
	ledger, err := openLedger(filepath.Join(dir, "ledger.json"))
	if err != nil {
		return nil, err
	}
	system, err := p.Batch(q)
	if err != nil {
		return nil, err
	}
	reply, err := p.Coordinator.Launch(ctx, &protocol.LaunchRequest{Version: protocol.Version, Trial: true})
	if err != nil {
		return nil, err
	}
	if len(reply.Grants) != 1 {
		return nil, fmt.Errorf("the coordinators granted %d launch leases for a trial", len(reply.Grants))
	}
	own := *p
	own.trial = true
	t := &Trial{Launch: reply.Grants[0].Launch, pass: &own, line: &line{Queue: q, system: system, result: &QueueResult{}}}
	if own.policy, err = p.Config.SitePolicy(time.Now()); err != nil {
		return nil, err
	}
	if err := own.choosePrograms(ctx, []*station{{lines: []*line{t.line}}}, reply.Pilot, &Result{}); err != nil {
		return nil, err
	}
	err = own.submitTogether(ctx, ledger, t.line, reply.Grants, &Result{})
	if l := ledger.Jobs[t.Launch]; l != nil {
		t.BatchID = l.BatchID
	}
	return t, errors.Join(err, ledger.save())
}

// State is where the pilot job stands, and what is known of why.
func (t *Trial) State(ctx context.Context) (batch.State, string, error) {
	entries, err := t.line.system.Status(ctx, []batch.Known{{ID: t.BatchID, Launch: t.Launch}})
	if err != nil {
		return 0, "", err
	}
	for i := range entries {
		e := &entries[i]
		if e.Launch != t.Launch {
			continue
		}
		if e.State == batch.Ended {
			// Where nodes share no directory with us, this brings what was printed.
			if err := t.line.system.Clean(ctx, e.ID, t.pass.knownDir(t.Launch)); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
				return 0, "", err
			}
		}
		return e.State, e.Reason, nil
	}
	return batch.Ended, "", nil
}

// Remove ends the pilot job.
func (t *Trial) Remove(ctx context.Context) error {
	if err := t.line.system.Remove(ctx, t.BatchID); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
		return err
	}
	return nil
}

// Output is what the pilot job has printed, where a pass has put it meanwhile, too,
// and what its pilot says of the node in it; nil before it does.
func (t *Trial) Output() (output, said []byte, err error) {
	for _, dir := range []string{t.pass.jobDir(t.Launch), filepath.Join(t.pass.Config.Directory, "ended", batch.JobName(t.Launch))} {
		if output, err = os.ReadFile(filepath.Join(dir, batch.Output)); err == nil {
			break
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil // it has not begun
	}
	for line := range bytes.Lines(output) {
		if text, ok := bytes.CutPrefix(line, []byte(protocol.TrialMark)); ok {
			said = bytes.TrimSpace(text)
		}
	}
	return output, said, err
}
