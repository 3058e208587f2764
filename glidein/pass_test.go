package glidein_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/protocol"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"
)

// fakeBatch is a batch system in memory that can fail in the ways real ones do.
type fakeBatch struct {
	jobs      map[protocol.LaunchID]batch.State // by launch, or leader.index
	maxArray  int
	arrays    []int // sizes of the submissions
	statusErr error
	submitErr error
	// loseAnswer makes Submit take the job and answer an error all the same.
	loseAnswer bool
	twice      bool // lists every job twice
	reasons    map[batch.State]string
	removed    []batch.JobID
	asked      int    // how often Status was
	far        string // the site's directory as jobs see it
}

func (f *fakeBatch) Properties() batch.Properties {
	return batch.Properties{Name: "fake", MaxArray: f.maxArray, Lists: true, Directory: f.far}
}

func (f *fakeBatch) WriteSubmitFile(jobs []batch.Job) (string, error) {
	job := &jobs[0]
	file := filepath.Join(job.Directory, "submit")
	return file, os.WriteFile(file, []byte("run "+job.Script), 0o600)
}

func (f *fakeBatch) Submit(_ context.Context, jobs []batch.Job, file string) ([]batch.JobID, error) {
	if f.submitErr != nil {
		return nil, f.submitErr
	}
	f.arrays = append(f.arrays, len(jobs))
	var ids []batch.JobID
	for i := range jobs {
		name := jobs[0].Launch
		if i > 0 {
			name += protocol.LaunchID(fmt.Sprintf("/%d", i))
		}
		f.jobs[name] = batch.Queued
		ids = append(ids, batch.JobID("id-"+name))
	}
	if f.loseAnswer {
		return nil, fmt.Errorf("%w: no answer", batch.ErrTransient)
	}
	return ids, nil
}

func (f *fakeBatch) Status(context.Context, []batch.Known) ([]batch.Entry, error) {
	f.asked++
	var all []batch.Entry
	for l, s := range f.jobs {
		e := batch.Entry{ID: batch.JobID("id-" + l), Launch: l, State: s, Reason: f.reasons[s]}
		if leader, index, ok := strings.Cut(string(l), "/"); ok {
			e.Launch = protocol.LaunchID(leader)
			e.Index, _ = strconv.Atoi(index)
		}
		all = append(all, e)
		if f.twice {
			all = append(all, e)
		}
	}
	return all, f.statusErr
}

func (f *fakeBatch) Remove(_ context.Context, id batch.JobID) error {
	f.removed = append(f.removed, id)
	return nil
}

func (f *fakeBatch) Clean(_ context.Context, id batch.JobID, _ string) error {
	delete(f.jobs, protocol.LaunchID(strings.TrimPrefix(string(id), "id-")))
	return nil
}

// fakeCoordinator grants whatever room there is, up to want.
type fakeCoordinator struct {
	want     int
	asked    []*protocol.LaunchRequest
	remove   []protocol.LaunchID
	strays   []protocol.LaunchID
	answers  []protocol.ReportAnswer
	err      error
	pilot    string // the version that is released to the site
	overflow int    // grants beyond the room: a coordinator that does not keep to it
	next     int
}

func (f *fakeCoordinator) Launch(_ context.Context, r *protocol.LaunchRequest) (*protocol.LaunchReply, error) {
	f.asked = append(f.asked, r)
	if f.err != nil {
		return nil, f.err
	}
	reply := &protocol.LaunchReply{Remove: f.remove, Strays: f.strays, Answers: f.answers, Pilot: f.pilot}
	left := f.want
	for _, s := range r.Shapes {
		if s.BatchError != "" {
			continue
		}
		n := min(left, int(s.Room))
		left -= n
		for range n + f.overflow {
			f.next++
			reply.Grants = append(reply.Grants, protocol.LaunchGrant{Launch: protocol.LaunchID(fmt.Sprintf("l%d", f.next)), Shape: s.Name, Ticket: "secret"})
		}
	}
	return reply, nil
}

func newPass(t *testing.T, maxPilots, maxQueued int) (*glidein.Pass, *fakeBatch, *fakeCoordinator) {
	t.Helper()
	b := &fakeBatch{jobs: map[protocol.LaunchID]batch.State{}}
	c := &fakeCoordinator{want: 100}
	config := &glidein.Config{
		Directory: t.TempDir(),
		Queue:     glidein.Queue{Type: "local", MaxPilots: maxPilots, MaxQueued: maxQueued, PerPass: 100, Ramp: 1, Cores: 2},
		System:    glidein.System{Pilot: "/opt/it's/floe-pilot", Scratch: "/scratch", Cache: "/cache", Isolation: "require", Writable: []string{"/data"}, CacheQuota: 20_000_000_000, CacheShare: true, CacheFrom: []string{"/theirs"}, SiteCache: "https://head:4480"},
		Env:       map[string]string{"GREETING": "it's; $(false)"},
	}
	open := func(*glidein.Queue) (batch.System, error) { return b, nil }
	return &glidein.Pass{Config: config, Batch: open, Coordinator: c, Logger: slog.New(slog.DiscardHandler)}, b, c
}

func run(t *testing.T, p *glidein.Pass) *glidein.Result {
	t.Helper()
	r, err := p.Run(t.Context())
	if err != nil {
		t.Fatalf("pass: %v", err)
	}
	return r
}

func TestCapsHoldOverPasses(t *testing.T) {
	p, b, c := newPass(t, 5, 3)
	c.overflow = 4
	if r := run(t, p); len(r.Submitted) != 3 || len(b.jobs) != 3 {
		t.Fatalf("first pass submitted %v, want 3 (max queued)", r.Submitted)
	}
	if r := run(t, p); len(r.Submitted) != 0 || r.Queued != 3 {
		t.Fatalf("second pass = %+v, want nothing: three are queued", r)
	}
	for l := range b.jobs {
		b.jobs[l] = batch.Running
	}
	if r := run(t, p); len(r.Submitted) != 2 || len(b.jobs) != 5 {
		t.Fatalf("third pass = %+v, want 2 (max pilots)", r)
	}
}

func TestUnknownIsNotZero(t *testing.T) {
	p, b, c := newPass(t, 5, 5)
	run(t, p)
	b.statusErr = fmt.Errorf("%w: qstat timed out", batch.ErrTransient)
	r, err := p.Run(t.Context())
	if !errors.Is(err, batch.ErrTransient) || len(r.Submitted) != 0 || len(r.Ended) != 0 {
		t.Errorf("pass without an answer of the batch system = %+v, %v; want nothing launched, nothing ended", r, err)
	}
	last := c.asked[len(c.asked)-1]
	unseen := !slices.ContainsFunc(last.Known, func(k protocol.KnownLaunch) bool { return !k.Unseen })
	if !strings.Contains(last.Shapes[0].BatchError, "qstat timed out") || len(last.Known) != 5 || !unseen {
		t.Errorf("the coordinator was told %+v", last)
	}
	b.statusErr = nil
	if r := run(t, p); len(r.Ended) != 0 || r.Queued != 5 {
		t.Errorf("the pass after = %+v, want the five jobs as they were", r)
	}
}

func TestLostAnswerIsAdopted(t *testing.T) {
	p, b, c := newPass(t, 2, 2)
	b.loseAnswer = true
	if _, err := p.Run(t.Context()); !errors.Is(err, batch.ErrTransient) {
		t.Fatalf("pass = %v, want ErrTransient", err)
	}
	b.loseAnswer = false
	c.want = 0
	run(t, p)
	last := c.asked[len(c.asked)-1]
	want := []protocol.KnownLaunch{{Launch: "l1", BatchID: "id-l1"}}
	if d := cmp.Diff(want, last.Known); d != "" {
		t.Errorf("known to the coordinator (-want +got):\n%s", d)
	}
	if last.Shapes[0].Room != 1 {
		t.Errorf("room = %d, want 1: the lost one counts", last.Shapes[0].Room)
	}
}

func TestArraysAreOneSubmission(t *testing.T) {
	for _, lose := range []bool{false, true} {
		p, b, c := newPass(t, 5, 5)
		b.maxArray, b.loseAnswer, b.twice = 3, lose, true
		_, err := p.Run(t.Context())
		wantArrays, wantJobs := []int{3, 2}, 5
		if lose {
			wantArrays, wantJobs = []int{3}, 3 // the pass ended there
		}
		if !slices.Equal(b.arrays, wantArrays) || errors.Is(err, batch.ErrTransient) != lose {
			t.Fatalf("submissions of %v jobs, %v; want %v", b.arrays, err, wantArrays)
		}
		// The second job of the first array runs, the first has ended.
		b.jobs["l1/1"] = batch.Running
		delete(b.jobs, "l1")
		b.loseAnswer, c.want = false, 0
		r := run(t, p)
		if r.Running != 1 || r.Queued != wantJobs-2 || len(r.Adopted) != 0 || !slices.Equal(r.Ended, []protocol.LaunchID{"l1"}) {
			t.Errorf("the pass after = %+v, want one running, %d queued, l1 ended, none adopted", r, wantJobs-2)
		}
		last := c.asked[len(c.asked)-1]
		if want := (protocol.KnownLaunch{Launch: "l2", BatchID: "id-l1/1", Running: true}); !slices.ContainsFunc(last.Known, func(k protocol.KnownLaunch) bool { k.For = 0; return k == want }) {
			t.Errorf("known to the coordinator: %+v, want %+v among them", last.Known, want)
		}
		c.remove = []protocol.LaunchID{"l3"}
		if run(t, p); !slices.Equal(b.removed, []batch.JobID{"id-l1/2"}) {
			t.Errorf("removed %v, want the third of the array", b.removed)
		}
	}
}

func TestStrayOfAnArrayIsAdoptedAndRemoved(t *testing.T) {
	p, b, c := newPass(t, 4, 4)
	b.jobs["lost/2"] = batch.Queued
	c.want = 0
	run(t, p)
	if want := []protocol.KnownLaunch{{Launch: "lost.2", BatchID: "id-lost/2"}}; !slices.Equal(c.asked[0].Known, want) {
		t.Fatalf("known to the coordinator: %+v, want %+v", c.asked[0].Known, want)
	}
	c.remove = []protocol.LaunchID{"lost.2"}
	r := run(t, p)
	if len(r.Adopted) != 0 || r.Queued != 1 || !slices.Equal(b.removed, []batch.JobID{"id-lost/2"}) {
		t.Errorf("second pass = %+v, removed %v; want it known, and removed", r, b.removed)
	}
}

func TestReasonsOfJobsThatDoNotStart(t *testing.T) {
	p, b, c := newPass(t, 5, 5)
	c.want = 0
	b.jobs["a"], b.jobs["b"], b.jobs["c"], b.jobs["d"] = batch.Held, batch.Held, batch.Queued, batch.Running
	b.reasons = map[batch.State]string{batch.Held: "PartitionTimeLimit", batch.Queued: "Resources", batch.Running: "None"}
	r := run(t, p)
	slices.SortFunc(r.Waiting, func(a, b glidein.Waiting) int { return strings.Compare(a.State, b.State) })
	for i := range r.Waiting {
		if r.Waiting[i].First == "" {
			t.Errorf("%+v names no job", r.Waiting[i])
		}
		r.Waiting[i].First = ""
	}
	want := []glidein.Waiting{{State: "held", Reason: "PartitionTimeLimit", Jobs: 2}, {State: "queued", Reason: "Resources", Jobs: 1}}
	if d := cmp.Diff(want, r.Waiting); d != "" {
		t.Errorf("why jobs wait (-want +got):\n%s", d)
	}
}

// newPasses has two queues in one batch system, by the names small and big, and one
// in another, by the name far.
func newPasses(t *testing.T) (p *glidein.Pass, near, far *fakeBatch, c *fakeCoordinator) {
	t.Helper()
	p, near, c = newPass(t, 9, 9)
	far = &fakeBatch{jobs: map[protocol.LaunchID]batch.State{}}
	queue := func(name, kind string, cores int) *glidein.Queue {
		return &glidein.Queue{Label: name, Type: kind, MaxPilots: 6, MaxQueued: 4, PerPass: 3, Ramp: 1, Cores: cores}
	}
	p.Config.Queues = map[string]*glidein.Queue{"small": queue("small", "sge", 1), "big": queue("big", "sge", 8), "far": queue("far", "slurm", 2)}
	p.Batch = func(q *glidein.Queue) (batch.System, error) {
		if q.Type == "slurm" {
			return far, nil
		}
		return near, nil
	}
	return p, near, far, c
}

func TestOneQuerySeesAllQueuesOfABatchSystem(t *testing.T) {
	p, near, far, c := newPasses(t)
	if r := run(t, p); len(r.Submitted) != 9 || near.asked != 1 || far.asked != 1 {
		t.Fatalf("submitted %d, asked %d and %d times; want three to each queue, once and once", len(r.Submitted), near.asked, far.asked)
	}
	if len(near.jobs) != 6 || len(far.jobs) != 3 {
		t.Errorf("%d jobs near, %d far; want 6 and 3", len(near.jobs), len(far.jobs))
	}
	c.want = 0
	r := run(t, p)
	var got []string
	for _, q := range r.Queues {
		got = append(got, fmt.Sprintf("%s %d room %d by %s", q.Name, q.Queued, q.Room, q.Bound))
	}
	if d := cmp.Diff([]string{"big 3 room 1 by max_queued", "far 3 room 1 by max_queued", "small 3 room 1 by max_queued"}, got); d != "" {
		t.Errorf("the pass after (-want +got):\n%s", d)
	}
	if shapes := c.asked[1].Shapes; len(shapes) != 3 || shapes[0].Name != "big" || shapes[0].Offer.Cores != 8 || shapes[0].Queued != 3 {
		t.Errorf("the coordinator was told %+v", shapes)
	}
}

func TestASilentBatchSystemStopsNoOtherQueue(t *testing.T) {
	p, near, far, c := newPasses(t)
	run(t, p)
	near.statusErr = fmt.Errorf("%w: qstat timed out", batch.ErrTransient)
	r, err := p.Run(t.Context())
	if !errors.Is(err, batch.ErrTransient) || !strings.Contains(err.Error(), "nothing launched in sge") {
		t.Errorf("the pass ends with %v; want that it launched nothing there", err)
	}
	if len(r.Submitted) != 1 || len(far.jobs) != 4 || len(near.jobs) != 6 || len(r.Ended) != 0 {
		t.Errorf("the pass = %+v with %d jobs far, %d near; want one more far, nothing ended near", r, len(far.jobs), len(near.jobs))
	}
	for _, s := range c.asked[1].Shapes {
		if silent := s.Name != "far"; silent != (s.BatchError != "") || silent && s.Room != 0 {
			t.Errorf("the coordinator was told %+v", s)
		}
	}
}

func TestCapsOfTheSiteHoldOverItsQueues(t *testing.T) {
	p, near, far, c := newPasses(t)
	p.Config.Site = glidein.Caps{MaxPilots: 10, MaxQueued: 7, PerPass: 5}
	c.overflow = 3
	count := func() int { return len(near.jobs) + len(far.jobs) }
	if r := run(t, p); len(r.Submitted) != 5 || count() != 5 || c.asked[0].Room != 5 || c.asked[0].Bound != "site.per_pass" {
		t.Fatalf("first pass submitted %d, told room %d by %q; want 5 by site.per_pass", len(r.Submitted), c.asked[0].Room, c.asked[0].Bound)
	}
	if r := run(t, p); len(r.Submitted) != 2 {
		t.Fatalf("second pass submitted %d, want 2 (site.max_queued)", len(r.Submitted))
	}
	for _, b := range []*fakeBatch{near, far} {
		for l := range b.jobs {
			b.jobs[l] = batch.Running
		}
	}
	if r := run(t, p); len(r.Submitted) != 3 || count() != 10 {
		t.Fatalf("third pass submitted %d of %d, want 3 of 10 (site.max_pilots)", len(r.Submitted), count())
	}
	run(t, p)
	if last := c.asked[3]; last.Shapes[0].Room != 0 || last.Shapes[0].Bound != "site.max_pilots" {
		t.Errorf("at the cap the coordinator is told %+v", last.Shapes)
	}
	// While one does not answer, its jobs count as they were known.
	near.statusErr = batch.ErrTransient
	if r, _ := p.Run(t.Context()); len(r.Submitted) != 0 {
		t.Errorf("with a silent batch system %d more were submitted, want none: its jobs may all be there", len(r.Submitted))
	}
}

func TestJobsOfAQueueThatIsNoMoreAreToldOnce(t *testing.T) {
	p, _, far, c := newPasses(t)
	run(t, p)
	delete(p.Config.Queues, "far")
	c.want = 0
	r := run(t, p)
	if len(r.Ended) != 3 || len(far.jobs) != 3 || !slices.Contains(r.Reasons, "3 pilot jobs are forgotten: no queue is in slurm any more") {
		t.Errorf("the pass = %+v; want three forgotten, with a word", r)
	}
}

func TestOrphanIsAdoptedAndRemoved(t *testing.T) {
	p, b, c := newPass(t, 2, 2)
	b.jobs["stray"] = batch.Running
	c.want = 0
	c.remove = []protocol.LaunchID{"stray", "never-heard-of"}
	r := run(t, p)
	if !slices.Equal(r.Adopted, []protocol.LaunchID{"stray"}) || !slices.Equal(r.Removed, []protocol.LaunchID{"stray"}) {
		t.Errorf("pass = %+v, want stray adopted and removed", r)
	}
	if !slices.Equal(b.removed, []batch.JobID{"id-stray"}) {
		t.Errorf("removed from the batch system: %v", b.removed)
	}
}

func TestRefusedJobIsReportedAsEnded(t *testing.T) {
	p, b, c := newPass(t, 3, 3)
	b.submitErr = fmt.Errorf("%w: no such queue", batch.ErrRefused)
	r := run(t, p)
	if len(r.Refused) != 1 || !strings.Contains(r.Refused[0], "no such queue") {
		t.Fatalf("pass = %+v, want one refusal: the next would be refused, too", r)
	}
	b.submitErr = nil
	c.want = 0
	r = run(t, p)
	if !slices.Equal(r.Ended, []protocol.LaunchID{"l1"}) || len(c.asked[1].Ended) != 1 {
		t.Fatalf("ended = %v, told %v; want l1: its demand is free again", r.Ended, c.asked[1].Ended)
	}
	if told := c.asked[1].Ended[0]; told.Launch != "l1" || told.How != protocol.LaunchRefused || !strings.Contains(told.Reason, "no such queue") {
		t.Errorf("told %+v, want that it was refused and why", told)
	}
}

func TestNoCoordinatorNothingChanges(t *testing.T) {
	p, b, c := newPass(t, 3, 3)
	c.err = errors.New("connection refused")
	b.jobs["l7"] = batch.Queued
	if _, err := p.Run(t.Context()); err == nil || len(b.jobs) != 1 || len(b.removed) != 0 {
		t.Errorf("pass without a coordinator: %v, jobs %v, removed %v", err, b.jobs, b.removed)
	}
}

func TestSecondPassLeavesAtOnce(t *testing.T) {
	p, _, c := newPass(t, 3, 3)
	lock := flock.New(filepath.Join(p.Config.Directory, "pass.lock"))
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	defer lock.Unlock()
	if _, err := p.Run(t.Context()); !errors.Is(err, glidein.ErrBusy) || len(c.asked) != 0 {
		t.Errorf("pass under a held lock = %v, asked %d times", err, len(c.asked))
	}
}

func TestScriptForJobsThatDoNotSeeTheSite(t *testing.T) {
	p, b, c := newPass(t, 1, 1)
	b.far, c.want = "/far/floe", 1
	p.Config.System.Scratch, p.Config.System.Cache = filepath.Join(p.Config.Directory, "scratch"), "/shared/cache"
	run(t, p)
	script, err := os.ReadFile(filepath.Join(p.Config.Directory, "jobs", "floe-l1", "pilot.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"'--scratch' '/far/floe/scratch'", "'--cache' '/shared/cache'", "'--spool' '/far/floe/spool'", "'--hide' '/far/floe'"} {
		if !strings.Contains(string(script), want) {
			t.Errorf("script lacks %s:\n%s", want, script)
		}
	}
	if strings.Contains(string(script), p.Config.Directory) {
		t.Errorf("the script speaks of the site's directory:\n%s", script)
	}
}

func TestTicketIsPrivateAndScriptQuoted(t *testing.T) {
	p, _, c := newPass(t, 1, 1)
	c.want = 1
	run(t, p)
	dir := filepath.Join(p.Config.Directory, "jobs", "floe-l1")
	info, err := os.Stat(filepath.Join(dir, "ticket"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ticket: %v, %v; want mode 0600", info, err)
	}
	script, err := os.ReadFile(filepath.Join(dir, "pilot.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(script), "secret") {
		t.Error("the ticket stands in the script")
	}
	for _, want := range []string{`GREETING='it'\''s; $(false)'`, `exec '/opt/it'\''s/floe-pilot'`, `'--cores' '2'`, `'--isolation' 'require'`, `'--writable' '/data'`, `'--cache-quota' '20000000000' '--cache-share' '--cache-from' '/theirs' '--site-cache' 'https://head:4480'`, "'--hide' '" + p.Config.Directory + "'"} {
		if !strings.Contains(string(script), want) {
			t.Errorf("script lacks %s:\n%s", want, script)
		}
	}
}

func TestWhatEndedPilotsPrintedStaysForAWhile(t *testing.T) {
	p, b, c := newPass(t, 60, 60)
	c.want = 5
	for range 11 {
		run(t, p)
	}
	last := filepath.Join(p.Config.Directory, "jobs", "floe-l55")
	if err := os.WriteFile(filepath.Join(last, "output"), []byte("no route to host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.want = 0
	for l := range b.jobs {
		if l != "l55" {
			delete(b.jobs, l)
		}
	}
	run(t, p)
	delete(b.jobs, "l55")
	run(t, p)
	ended := filepath.Join(p.Config.Directory, "ended")
	if got, err := os.ReadFile(filepath.Join(ended, "floe-l55", "output")); err != nil || string(got) != "no route to host\n" {
		t.Errorf("what the last pilot printed: %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(ended, "floe-l55", "ticket")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its ticket: %v, want it gone", err)
	}
	kept, err := os.ReadDir(ended)
	left, err2 := os.ReadDir(filepath.Join(p.Config.Directory, "jobs"))
	if len(kept) != 50 || len(left) != 0 || err != nil || err2 != nil {
		t.Errorf("%d directories kept, %d left among the jobs, %v, %v; want 50 and none", len(kept), len(left), err, err2)
	}
}

func TestDryRunTouchesNothing(t *testing.T) {
	p, b, c := newPass(t, 3, 3)
	p.DryRun = true
	r := run(t, p)
	if len(c.asked) != 1 || !c.asked[0].Preview || len(b.jobs) != 0 || len(r.SubmitFiles) != 1 {
		t.Errorf("dry run = %+v, asked %d, jobs %v", r, len(c.asked), b.jobs)
	}
}

func TestDamagedLedgerIsNamed(t *testing.T) {
	p, _, _ := newPass(t, 3, 3)
	file := filepath.Join(p.Config.Directory, "ledger.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("pass over a damaged ledger: %v, want its path and the way out", err)
	}
}
