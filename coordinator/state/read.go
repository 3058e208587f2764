package state

import (
	"iter"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"floe/protocol"
)

// Index is the log index of the last applied entry, Term its proposer's term.
func (r *Record) Index() uint64 { return r.index }

// Term is the term of the last leader whose entry was applied.
func (r *Record) Term() uint64 { return r.term }

// Time is the record time after the last applied entry.
func (r *Record) Time() RecordTime { return r.time }

// Wall is the wall clock of the last applied entry.
func (r *Record) Wall() UnixMillis { return r.wall }

// Format is the format the record was raised to.
func (r *Record) Format() uint32 { return r.format }

// NextDataset is the number the next dataset must have.
func (r *Record) NextDataset() protocol.DatasetID { return r.next }

// Totals counts the record's things.
type Totals struct {
	Datasets, Sites, Pilots, Launches, Leases uint64
	// Barred counts nodes that are quarantined, on probation or excluded, or whose GPUs are.
	Barred uint64
	// Tasks counts tasks by state.
	Tasks TaskCounts
}

// TaskCounts counts tasks by TaskState.
type TaskCounts [protocol.TaskSuspended + 1]uint64

// JobCounts counts jobs by JobState.
type JobCounts [protocol.JobSuspended + 1]uint64

// Totals counts in time proportional to the number of datasets.
func (r *Record) Totals() Totals {
	t := Totals{
		Datasets: uint64(r.datasets.Len()), Sites: uint64(r.sites.Len()),
		Launches: uint64(r.launches.Len()), Pilots: r.running, Leases: r.leases,
	}
	r.nodes.Scan(func(_ string, n *Node) bool {
		if n.State != NodeWatched {
			t.Barred++
		}
		return true
	})
	r.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
		for i := range d.tasks {
			for s, n := range d.tasks[i].taskCounts(d.jobs) {
				t.Tasks[s] += n
			}
		}
		return true
	})
	return t
}

func (v *vertex) taskCounts(jobs uint32) (c TaskCounts) {
	for _, s := range protocol.TaskStates {
		c[s] = v.count(s, jobs)
	}
	return c
}

// Dataset is what the record holds of a dataset.
type Dataset struct {
	ID        protocol.DatasetID
	Facts     *Facts // shared, never changed
	Jobs      uint32
	Priority  int
	Sites     SiteRule
	State     protocol.DatasetState
	Retired   bool
	Submitted UnixMillis
	Finished  UnixMillis // zero while a job is not final
	JobCounts JobCounts
	Tasks     []Task // one per vertex of the DAG
}

// Task is one vertex of a dataset's DAG in all its jobs.
type Task struct {
	Spec *TaskSpec // shared, never changed; Classes are those of the submission
	// Requirements are one per class, those of jobs added later included.
	Requirements []protocol.Requirements
	Counts       TaskCounts
}

// Dataset returns a dataset by its number.
func (r *Record) Dataset(id protocol.DatasetID) (Dataset, bool) {
	d, known := r.datasets.Get(id)
	if !known {
		return Dataset{}, false
	}
	return d.value(), true
}

func (d *dataset) value() Dataset {
	v := Dataset{
		ID: d.id, Facts: d.facts, Jobs: d.jobs, Priority: d.priority, Sites: d.sites,
		State: d.state(), Retired: d.retired, Submitted: d.submitted, Finished: d.finished,
		Tasks: make([]Task, len(d.tasks)),
	}
	for _, s := range protocol.JobStates {
		v.JobCounts[s] = d.jobCount(s)
	}
	for t := range d.tasks {
		w := &d.tasks[t]
		v.Tasks[t] = Task{Spec: w.spec, Counts: w.taskCounts(d.jobs)}
		for i := range w.classes {
			v.Tasks[t].Requirements = append(v.Tasks[t].Requirements, w.classes[i].requirements)
		}
	}
	return v
}

// Datasets yields the datasets with numbers below before, newest first; all where
// before is zero.
func (r *Record) Datasets(before protocol.DatasetID) iter.Seq[Dataset] {
	return func(yield func(Dataset) bool) {
		if before == 0 {
			before = r.next
		}
		r.datasets.Descend(before-1, func(_ protocol.DatasetID, d *dataset) bool { return yield(d.value()) })
	}
}

// vertexOf finds a task.
func (r *Record) vertexOf(t protocol.TaskID) (*dataset, *vertex) {
	d, known := r.datasets.Get(t.Dataset)
	if !known || uint32(t.Job) >= d.jobs || int(t.Task) >= len(d.tasks) {
		return nil, nil
	}
	return d, &d.tasks[t.Task]
}

// TaskState returns where a task stands; false where there is no such task.
func (r *Record) TaskState(t protocol.TaskID) (protocol.TaskState, bool) {
	_, v := r.vertexOf(t)
	if v == nil {
		return 0, false
	}
	return v.taskState(uint32(t.Job)), true
}

// JobState returns where a job stands; false where there is no such job.
func (r *Record) JobState(dataset protocol.DatasetID, j protocol.JobIndex) (protocol.JobState, bool) {
	d, known := r.datasets.Get(dataset)
	if !known || uint32(j) >= d.jobs {
		return 0, false
	}
	return d.jobState(uint32(j)), true
}

// Attempt returns the number of a task's current attempt, or of its next.
func (r *Record) Attempt(t protocol.TaskID) uint32 {
	_, v := r.vertexOf(t)
	if v == nil {
		return 0
	}
	return v.attempt(uint32(t.Job))
}

// Jobs yields, from a job on, those in a state, or all where state is zero.
func (r *Record) Jobs(dataset protocol.DatasetID, s protocol.JobState, from protocol.JobIndex) iter.Seq2[protocol.JobIndex, protocol.JobState] {
	return func(yield func(protocol.JobIndex, protocol.JobState) bool) {
		d, known := r.datasets.Get(dataset)
		if !known {
			return
		}
		if s == 0 {
			for j := uint32(from); j < d.jobs; j++ {
				if !yield(protocol.JobIndex(j), d.jobState(j)) {
					return
				}
			}
			return
		}
		set := d.marks[s].view()
		if s == protocol.JobQueued {
			set = roaring.New()
			set.AddRange(0, uint64(d.jobs))
			for _, other := range protocol.JobStates[1:] {
				set.AndNot(d.marks[other].view())
			}
		}
		ascend(set, from, func(j protocol.JobIndex) bool { return yield(j, s) })
	}
}

// Tasks yields, from a job on, the jobs whose task is in a state.
func (r *Record) Tasks(dataset protocol.DatasetID, t protocol.TaskIndex, s protocol.TaskState, from protocol.JobIndex) iter.Seq[protocol.JobIndex] {
	return func(yield func(protocol.JobIndex) bool) {
		d, known := r.datasets.Get(dataset)
		if known && int(t) < len(d.tasks) {
			ascend(d.tasks[t].set(s, d.jobs), from, yield)
		}
	}
}

func ascend(set *roaring.Bitmap, from protocol.JobIndex, yield func(protocol.JobIndex) bool) {
	it := set.Iterator()
	it.AdvanceIfNeeded(uint32(from))
	for it.HasNext() {
		if !yield(protocol.JobIndex(it.Next())) {
			return
		}
	}
}

// AnyQueued tells whether a task is queued in any job.
func (r *Record) AnyQueued(dataset protocol.DatasetID, t protocol.TaskIndex) bool {
	d, known := r.datasets.Get(dataset)
	return known && int(t) < len(d.tasks) && d.tasks[t].count(protocol.TaskQueued, d.jobs) > 0
}

// Lease returns a task's current lease.
func (r *Record) Lease(t protocol.TaskID) (Lease, bool) {
	d, v := r.vertexOf(t)
	if v == nil {
		return Lease{}, false
	}
	l, current := d.current(uint32(t.Job), t.Task)
	if !current {
		return Lease{}, false
	}
	return *l, true
}

// Leases yields every current lease, by dataset, job and task.
func (r *Record) Leases() iter.Seq[Lease] {
	return func(yield func(Lease) bool) {
		r.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
			more := true
			d.live.Scan(func(_ uint64, l *Lease) bool {
				more = yield(*l)
				return more
			})
			return more
		})
	}
}

// PilotLeases returns the current leases of a pilot, oldest first.
func (r *Record) PilotLeases(id protocol.PilotID) []Lease {
	p, known := r.pilots.Get(id)
	if !known {
		return nil
	}
	list := make([]Lease, 0, len(p.Leases))
	for _, h := range p.Leases {
		if l, current := r.Lease(h.Task); current {
			list = append(list, l)
		}
	}
	return list
}

// GrantOf returns the grant of a current lease again, as its Acquire was answered.
func (r *Record) GrantOf(t protocol.TaskID) (Grant, bool) {
	d, v := r.vertexOf(t)
	if v == nil {
		return Grant{}, false
	}
	l, current := d.current(uint32(t.Job), t.Task)
	if !current || l.State != Live {
		return Grant{}, false
	}
	return grantOf(d, l), true
}

// Inputs returns the outputs of all ancestors of a task in its job, as their
// accepted reports recorded them, in the order of the DAG.
func (r *Record) Inputs(t protocol.TaskID) []protocol.FileRecord {
	d, v := r.vertexOf(t)
	if v == nil {
		return nil
	}
	var files []protocol.FileRecord
	for _, a := range d.ancestors(t.Task) {
		if made, kept := d.accepted.Get(taskKey(uint32(t.Job), a)); kept {
			files = append(files, made.Outputs...)
		}
	}
	return files
}

// Pilot returns a pilot, also one that left less than PilotMemory ago.
func (r *Record) Pilot(id protocol.PilotID) (p *Pilot, known bool) {
	if p, known = r.pilots.Get(id); !known {
		return nil, false
	}
	return p.forReading(), true
}

// forReading is a copy that shares nothing that changes. Ended is left out: only
// reports look at it, and it is longer than all else.
func (p *Pilot) forReading() *Pilot {
	c := *p
	c.Leases, c.Ended = slices.Clone(p.Leases), nil
	return &c
}

// Signer is what there is to know of who signed a report.
type Signer struct {
	Site      protocol.SiteID
	PublicKey []byte // never changed
}

// Signer returns by whom the reports of a pilot are signed, and whether it is known.
func (r *Record) Signer(id protocol.PilotID) (Signer, bool) {
	p, known := r.pilots.Get(id)
	if !known {
		return Signer{}, false
	}
	return Signer{p.Site, p.PublicKey}, true
}

// Pilots yields pilots with names after a name, those that left included.
func (r *Record) Pilots(after protocol.PilotID) iter.Seq[*Pilot] {
	return func(yield func(*Pilot) bool) {
		r.pilots.Ascend(after, func(id protocol.PilotID, p *Pilot) bool {
			return id == after || yield(p.forReading())
		})
	}
}

// Site returns a site.
func (r *Record) Site(id protocol.SiteID) (Site, bool) { return value(r.sites.Get(id)) }

// Sites yields all sites by name.
func (r *Record) Sites() iter.Seq[Site] { return values(r.sites.Scan) }

// Launch returns a launch lease.
func (r *Record) Launch(id protocol.LaunchID) (Launch, bool) { return value(r.launches.Get(id)) }

// Launches yields all launch leases by name.
func (r *Record) Launches() iter.Seq[Launch] { return values(r.launches.Scan) }

// Ticket returns a ticket made by hand.
func (r *Record) Ticket(hash protocol.Digest) (Ticket, bool) {
	return value(r.tickets.Get(string(hash[:])))
}

// User returns a person.
func (r *Record) User(id protocol.UserID) (User, bool) { return value(r.users.Get(id)) }

// Users yields all people by name.
func (r *Record) Users() iter.Seq[User] { return values(r.users.Scan) }

// Founded tells whether anybody is known: a record without a user is only being made.
func (r *Record) Founded() bool { return r.users.Len() > 0 }

// Token returns a token by its digest. It has not expired by record time.
func (r *Record) Token(hash protocol.Digest) (Token, bool) {
	t, known := value(r.tokens.Get(string(hash[:])))
	return t, known && (t.Expires == 0 || t.Expires > r.time)
}

// Tokens yields all tokens by digest.
func (r *Record) Tokens() iter.Seq[Token] { return values(r.tokens.Scan) }

// JoinToken returns an invitation by its digest.
func (r *Record) JoinToken(hash protocol.Digest) (JoinToken, bool) {
	return value(r.joins.Get(string(hash[:])))
}

// JoinTokens yields all invitations by digest.
func (r *Record) JoinTokens() iter.Seq[JoinToken] { return values(r.joins.Scan) }

func value[T any](p *T, known bool) (T, bool) {
	if !known {
		var none T
		return none, false
	}
	return *p, true
}

func values[K, T any](scan func(func(K, *T) bool)) iter.Seq[T] {
	return func(yield func(T) bool) {
		scan(func(_ K, p *T) bool { return yield(*p) })
	}
}
