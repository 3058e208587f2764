package glidein

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/glidein/batch"
	"floe/protocol"

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
	Config      *Config
	Batch       batch.System
	Coordinator Coordinator
	// Spool is where pilots of this site leave reports they could not deliver; nil
	// when there is none.
	Spool  Spool
	Logger *slog.Logger
	// DryRun submits and removes nothing and asks the coordinator for nothing: it
	// says what the pass sees and writes the submit file it would use.
	DryRun bool
}

// Spool gives up reports that pilots left behind.
type Spool interface {
	// Pending returns at most limit reports.
	Pending(limit int) ([]protocol.SignedReport, error)
	// Delivered removes those whose answers are final.
	Delivered(answers []protocol.ReportAnswer) error
}

// Result is what a pass saw and did.
type Result struct {
	Running   int                 `json:"running"`
	Queued    int                 `json:"queued"`
	Held      int                 `json:"held"`
	Submitted []protocol.LaunchID `json:"submitted,omitempty"`
	Removed   []protocol.LaunchID `json:"removed,omitempty"`
	Ended     []protocol.LaunchID `json:"ended,omitempty"`
	Adopted   []protocol.LaunchID `json:"adopted,omitempty"`
	Refused   []string            `json:"refused,omitempty"`
	// Waiting says, in the batch system's words, why jobs are held or wait.
	Waiting []Waiting `json:"waiting,omitempty"`
	Reports int       `json:"reports"`
	Reasons []string  `json:"reasons,omitempty"`
	// SubmitFile is the file a dry run wrote.
	SubmitFile string `json:"submit_file,omitempty"`
}

// Waiting is one reason for which pilot jobs do not start.
type Waiting struct {
	State  string      `json:"state"` // queued or held
	Reason string      `json:"reason"`
	Jobs   int         `json:"jobs"`
	First  batch.JobID `json:"first"` // one of them, to look at
}

// wait notes a job that does not start.
func (r *Result) wait(e *batch.Entry) {
	if e.Reason == "" || e.State != batch.Queued && e.State != batch.Held {
		return
	}
	at := slices.IndexFunc(r.Waiting, func(w Waiting) bool { return w.State == e.State.String() && w.Reason == e.Reason })
	if at < 0 {
		at, r.Waiting = len(r.Waiting), append(r.Waiting, Waiting{State: e.State.String(), Reason: e.Reason, First: e.ID})
	}
	r.Waiting[at].Jobs++
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
	result := new(Result)
	entries, batchErr := p.Batch.Status(ctx, ledger.known())
	if batchErr == nil {
		p.reconcile(ctx, ledger, entries, result)
		if err := ledger.save(); err != nil {
			return result, err
		}
	}
	if p.DryRun {
		return result, errors.Join(batchErr, p.dryRun(result))
	}
	request := p.request(ledger, entries, batchErr, result)
	reply, err := p.Coordinator.Launch(ctx, request)
	if err != nil {
		return result, errors.Join(batchErr, fmt.Errorf("ask for launch leases: %w", err))
	}
	result.Reasons = reply.Reasons
	result.Reports = len(reply.Answers)
	if p.Spool != nil {
		if err := p.Spool.Delivered(reply.Answers); err != nil {
			p.Logger.Warn("reports delivered stay in the spool", "err", err)
		}
	}
	if batchErr != nil {
		return result, fmt.Errorf("nothing launched: %w", batchErr)
	}
	p.remove(ctx, ledger, reply.Remove, result)
	err = p.submit(ctx, ledger, reply.Grants, result)
	return result, errors.Join(err, ledger.save())
}

// reconcile makes the ledger agree with the batch system: jobs it has are
// adopted, jobs that have ended are cleaned and reported.
func (p *Pass) reconcile(ctx context.Context, ledger *Ledger, entries []batch.Entry, result *Result) {
	seen := map[protocol.LaunchID]bool{}
	launches := ledger.launches()
	for i := range entries {
		e := &entries[i]
		if e.Launch == "" {
			continue
		}
		launch, ok := launches[place{e.Launch, e.Index}]
		if !ok {
			launch = stray(e)
		}
		known := ledger.Jobs[launch]
		if e.State == batch.Ended {
			if err := p.Batch.Clean(ctx, e.ID, p.knownDir(launch)); err != nil {
				p.Logger.Warn("ended pilot job not cleaned", "launch", launch, "batch_id", e.ID, "err", err)
			}
			continue // not seen: it ends below
		}
		if seen[launch] {
			continue // listed twice
		}
		seen[launch] = true
		if known == nil {
			result.Adopted = append(result.Adopted, launch)
			ledger.Jobs[launch] = &Launched{BatchID: e.ID, Submitted: e.Since}
			if launch != e.Launch {
				ledger.Jobs[launch].Leader, ledger.Jobs[launch].Index = e.Launch, e.Index
			}
		} else {
			known.BatchID = e.ID
		}
		result.wait(e)
		switch e.State {
		case batch.Running:
			result.Running++
		case batch.Held:
			result.Held++
		default:
			result.Queued++
		}
	}
	for launch := range ledger.Jobs {
		if seen[launch] {
			continue
		}
		result.Ended = append(result.Ended, launch)
		delete(ledger.Jobs, launch)
		if err := p.retire(launch); err != nil {
			p.Logger.Warn("directory of an ended pilot job stays", "launch", launch, "err", err)
		}
	}
	slices.Sort(result.Ended)
	slices.Sort(result.Adopted)
}

// stray is the name under which a job of an array is adopted that the ledger
// does not know: nobody has such a launch lease, so it will be asked to be removed.
func stray(e *batch.Entry) protocol.LaunchID {
	if e.Index == 0 {
		return e.Launch
	}
	return protocol.LaunchID(fmt.Sprintf("%s.%d", e.Launch, e.Index))
}

// request says what is here and how much room there is.
func (p *Pass) request(ledger *Ledger, entries []batch.Entry, batchErr error, result *Result) *protocol.LaunchRequest {
	r := &protocol.LaunchRequest{Version: protocol.Version, Ended: result.Ended}
	if p.Spool != nil {
		reports, err := p.Spool.Pending(protocol.MaxReports)
		if err != nil {
			p.Logger.Warn("spool not read", "err", err)
		}
		r.Reports = reports
	}
	if batchErr != nil {
		r.BatchError = batchErr.Error()
		return r
	}
	running := map[place]bool{}
	for i := range entries {
		e := &entries[i]
		running[place{e.Launch, e.Index}] = e.State == batch.Running
	}
	for launch, job := range ledger.Jobs {
		r.Known = append(r.Known, protocol.KnownLaunch{Launch: launch, BatchID: string(job.BatchID), Running: running[ledger.place(launch)]})
	}
	slices.SortFunc(r.Known, func(a, b protocol.KnownLaunch) int { return strings.Compare(string(a.Launch), string(b.Launch)) })
	r.Shapes = []protocol.LaunchShape{{Name: p.shapeName(), Offer: p.offer(), Room: uint32(p.room(result))}}
	return r
}

// room is how many more pilot jobs the caps allow in this pass. Held jobs count:
// a site whose jobs are held is not given more of them.
func (p *Pass) room(r *Result) int {
	q := p.Config.Queue
	total := r.Running + r.Queued + r.Held
	return max(0, min(q.MaxPilots-total, q.MaxQueued-r.Queued-r.Held, q.PerPass))
}

func (p *Pass) shapeName() string {
	if p.Config.Queue.Name != "" {
		return p.Config.Queue.Name
	}
	return p.Batch.Properties().Name
}

// offer is the shape of one pilot job.
func (p *Pass) offer() protocol.Resources {
	q := p.Config.Queue
	o := protocol.Resources{
		Cores: q.Cores, Memory: protocol.ByteSize(q.Memory), Disk: protocol.ByteSize(q.Disk),
		Remaining: protocol.SecondsOf(time.Duration(q.Walltime)),
	}
	o.OS, o.Tags = q.OS, q.Tags
	for i := range q.GPUs {
		// Whether a card is sound, the pilot finds out on the node.
		o.GPUs = append(o.GPUs, protocol.GPU{ID: fmt.Sprint(i), Memory: protocol.ByteSize(q.GPUMemory), Capability: q.GPUCapability, Tested: true})
	}
	return o
}

// remove ends pilot jobs that the coordinator no longer wants.
func (p *Pass) remove(ctx context.Context, ledger *Ledger, launches []protocol.LaunchID, result *Result) {
	for _, launch := range launches {
		job := ledger.Jobs[launch]
		if job == nil || job.BatchID == "" {
			continue
		}
		if err := p.Batch.Remove(ctx, job.BatchID); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
			p.Logger.Warn("pilot job not removed", "launch", launch, "batch_id", job.BatchID, "err", err)
			continue
		}
		result.Removed = append(result.Removed, launch)
	}
}

// submit turns launch leases into pilot jobs, never more than the caps allow, as
// arrays where the batch system has them.
// Leases that were not used are not in the ledger when the next pass lists it,
// and one that the batch system refused is found to be gone: either way its
// demand is free again then.
func (p *Pass) submit(ctx context.Context, ledger *Ledger, grants []protocol.LaunchGrant, result *Result) error {
	if room := p.room(result); len(grants) > room {
		p.Logger.Warn("more launch leases than there is room for", "granted", len(grants), "room", room)
		grants = grants[:room]
	}
	for some := range slices.Chunk(grants, max(1, p.Batch.Properties().MaxArray)) {
		err := p.submitTogether(ctx, ledger, some, result)
		if errors.Is(err, batch.ErrRefused) {
			// They stay in the ledger: the next pass finds no such jobs and says so.
			result.Refused = append(result.Refused, fmt.Sprintf("%s: %v", some[0].Launch, err))
			p.Logger.Error("batch system refused a pilot job", "launch", some[0].Launch, "jobs", len(some), "err", err)
			return nil // the next ones would be refused, too
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// submitTogether hands in pilot jobs as one submission. The ledger holds them
// before the batch system does.
func (p *Pass) submitTogether(ctx context.Context, ledger *Ledger, grants []protocol.LaunchGrant, result *Result) error {
	jobs := make([]batch.Job, len(grants))
	for i, g := range grants {
		job, err := p.prepare(g)
		if err != nil {
			return fmt.Errorf("prepare pilot job %s: %w", g.Launch, err)
		}
		jobs[i] = job
	}
	file, err := p.Batch.WriteSubmitFile(jobs)
	if err != nil {
		return fmt.Errorf("prepare pilot job %s: %w", grants[0].Launch, err)
	}
	for i, g := range grants {
		l := &Launched{Shape: g.Shape, Submitted: time.Now()}
		if len(grants) > 1 {
			l.Leader, l.Index = grants[0].Launch, i
		}
		ledger.Jobs[g.Launch] = l
	}
	if err := ledger.save(); err != nil {
		return err
	}
	ids, err := p.Batch.Submit(ctx, jobs, file)
	if err != nil {
		return fmt.Errorf("submit pilot job: %w", err)
	}
	if len(ids) != len(grants) {
		return fmt.Errorf("submit pilot job: %w: %d jobs handed in, %d ids came back", batch.ErrTransient, len(grants), len(ids))
	}
	for i, g := range grants {
		ledger.Jobs[g.Launch].BatchID = ids[i]
		result.Submitted = append(result.Submitted, g.Launch)
	}
	return nil
}
