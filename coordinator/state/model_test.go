package state

import (
	"cmp"
	"slices"

	"floe/protocol"
)

// model is the record as dumb as it can be: one struct per task in maps and
// slices, no index, no bitmap, no sharing. It says what docs/state-machine.md says.
type model struct {
	format   uint32
	datasets []*modelDataset // by number from 1
	pilots   map[protocol.PilotID]*modelPilot
	sites    map[protocol.SiteID]*modelSite
	nodes    map[string]*modelNode
	now      RecordTime
	// changedAt is when what is known of a node last changed, or its quarantine ends.
	changedAt map[string]RecordTime
}

type modelSite struct{ suspended, revoked bool }

type modelPilot struct {
	site                    protocol.SiteID
	has                     protocol.Resources
	host                    string
	left, revoked, draining bool
	leftAt                  RecordTime
	taken                   map[protocol.LeaseID]bool // leases that ended otherwise than by its report
}

type modelDataset struct {
	id                 protocol.DatasetID
	specs              []TaskSpec
	priority           int
	sites              SiteRule
	suspended, retired bool
	jobs               []*modelJob
	failing            map[protocol.TaskIndex][]string // nodes where tasks failed fast since one succeeded
}

type modelJob struct {
	tasks []*modelTask
	wasOK bool // what its tasks passed on is gone
}

type modelTask struct {
	state    protocol.TaskState
	lease    *modelLease
	ended    uint32
	accepted protocol.LeaseID // what children read; zero when gone
	asks     protocol.Requirements
	class    int
	// Budgets.
	failed, payload, data, lost, memory, walltime, disk uint32
	hosts                                               []string
	lostAt                                              []string // of the losses in a row
	// saved is what the next attempt goes on from, if it reads savedOf; empty is nothing.
	saved   string
	savedOf []protocol.LeaseID
}

type modelLease struct {
	id    protocol.LeaseID
	pilot protocol.PilotID
	state LeaseState

	granted RecordTime
}

func newModel() *model {
	return &model{
		pilots: map[protocol.PilotID]*modelPilot{}, sites: map[protocol.SiteID]*modelSite{},
		nodes: map[string]*modelNode{}, changedAt: map[string]RecordTime{},
	}
}

func (d *modelDataset) held() bool { return d.suspended || d.retired }

func (d *modelDataset) depth(t protocol.TaskIndex) int {
	deepest := 0
	for _, p := range d.specs[t].Parents {
		deepest = max(deepest, d.depth(p)+1)
	}
	return deepest
}

func (t *modelTask) finished() bool {
	return t.state == protocol.TaskOK || t.state == protocol.TaskCopied
}

func (d *modelDataset) ready(j *modelJob, t int) bool {
	for _, p := range d.specs[t].Parents {
		if !j.tasks[p].finished() {
			return false
		}
	}
	return true
}

func (d *modelDataset) addJobs(n uint32) {
	for range n {
		j := &modelJob{}
		index := protocol.JobIndex(len(d.jobs))
		for t := range d.specs {
			task := &modelTask{state: protocol.TaskWaiting}
			if len(d.specs[t].Parents) == 0 {
				task.state = protocol.TaskQueued
			}
			for c := range d.specs[t].Classes {
				jobs := d.specs[t].Classes[c].Jobs
				if len(jobs) == 0 || slices.ContainsFunc(jobs, func(r protocol.JobRange) bool { return r.First <= index && index <= r.Last }) {
					task.asks, task.class = d.specs[t].Classes[c].Requirements, c
				}
			}
			j.tasks = append(j.tasks, task)
		}
		d.jobs = append(d.jobs, j)
	}
}

func (m *model) task(id protocol.TaskID) (*modelDataset, *modelJob, *modelTask) {
	d := m.datasets[id.Dataset-1]
	j := d.jobs[id.Job]
	return d, j, j.tasks[id.Task]
}

// jobState derives a job's state from those of its tasks.
func (j *modelJob) state() protocol.JobState {
	has := func(states ...protocol.TaskState) bool {
		return slices.ContainsFunc(j.tasks, func(t *modelTask) bool { return slices.Contains(states, t.state) })
	}
	switch {
	case has(protocol.TaskError):
		return protocol.JobError
	case has(protocol.TaskSuspended):
		return protocol.JobSuspended
	case has(protocol.TaskProcessing, protocol.TaskCopied):
		return protocol.JobProcessing
	case has(protocol.TaskQueued, protocol.TaskWaiting):
		return protocol.JobQueued
	}
	return protocol.JobOK
}

// settle notes that a job is ok: its temp files go and its failures are forgiven.
func (j *modelJob) settle() {
	if j.state() != protocol.JobOK {
		return
	}
	j.wasOK = true
	for _, t := range j.tasks {
		t.accepted = protocol.LeaseID{}
		t.failed, t.payload, t.data, t.lost = 0, 0, 0, 0
	}
}

// end ends a task's lease, taking it from its pilot or not, and counts the attempt.
func (m *model) end(t *modelTask, taken bool) {
	if t.lease == nil {
		return
	}
	copied := t.lease.state == Copied
	m.freeCanary(t)
	if !copied {
		t.ended++
	}
	if taken {
		m.pilots[t.lease.pilot].taken[t.lease.id] = true
	}
	t.lease = nil
}

// withdraw takes back a task's accepted attempt.
func (m *model) withdraw(t *modelTask) {
	t.saved = ""
	m.end(t, true)
	if t.finished() {
		t.ended++
		t.accepted = protocol.LeaseID{}
	}
}

func (t *modelTask) forgive() {
	t.failed, t.payload, t.data, t.lost, t.memory, t.walltime, t.disk = 0, 0, 0, 0, 0, 0, 0
	t.hosts, t.lostAt, t.saved = nil, nil, ""
}

// parents are the attempts that a task reads.
func (d *modelDataset) parents(j *modelJob, task protocol.TaskIndex) (read []protocol.LeaseID) {
	for _, p := range d.specs[task].Parents {
		read = append(read, j.tasks[p].accepted)
	}
	return read
}

// save notes what an attempt that is live has saved.
func (m *model) save(id protocol.TaskID, file *protocol.FileRecord) {
	d, j, t := m.task(id)
	if file != nil && t.lease.state == Live {
		t.saved, t.savedOf = file.URL, d.parents(j, id.Task)
	}
}

// charge counts a failure and tells whether a budget is spent.
func (m *model) charge(t *modelTask, v protocol.Verdict, host string) bool {
	spent := false
	raise := func(n *uint32) {
		if *n == 8 {
			spent = true
		} else {
			*n++
		}
	}
	own := func(n *uint32, budget uint32) {
		if *n+1 >= budget {
			spent = true
		}
		if *n+1 < budget || m.format > 1 {
			*n++
		}
	}
	if v != protocol.VerdictLost {
		t.lost, t.lostAt = 0, nil
	}
	switch v {
	case protocol.VerdictPayload:
		own(&t.payload, 3)
	case protocol.VerdictMemory:
		raise(&t.memory)
	case protocol.VerdictWalltime:
		raise(&t.walltime)
	case protocol.VerdictDisk:
		raise(&t.disk)
	case protocol.VerdictData:
		own(&t.data, 3)
	case protocol.VerdictLost:
		own(&t.lost, 10)
		if m.format > 1 {
			t.lostAt = append(t.lostAt, host)
			if n := len(t.lostAt); n >= 3 && (t.lostAt[n-1] != t.lostAt[n-2] || t.lostAt[n-2] != t.lostAt[n-3]) {
				spent = true
			}
		}
	}
	if v != protocol.VerdictLost && v != protocol.VerdictPreempted {
		t.failed++
		if t.failed > 10 || t.failed == 10 && m.format > 1 {
			spent = true
		}
	}
	switch v {
	case protocol.VerdictPayload, protocol.VerdictNode, protocol.VerdictSoftware:
		t.avoid(host)
	}
	return spent
}

func (t *modelTask) avoid(host string) {
	if host != "" && !slices.Contains(t.hosts, host) {
		t.hosts = append(t.hosts, host)
		t.hosts = t.hosts[max(0, len(t.hosts)-3):]
	}
}

func (p *modelPilot) node() string { return string(p.site) + " " + p.host }

// unlose takes back the last loss.
func (t *modelTask) unlose() {
	t.lost--
	t.lostAt = t.lostAt[:max(0, len(t.lostAt)-1)]
}

// requirements are what a task asks for now.
func (t *modelTask) requirements() protocol.Requirements {
	r := t.asks
	for range t.memory {
		r.Memory += r.Memory / 2
	}
	for range t.walltime {
		if r.Walltime == 0 {
			r.Walltime = 3600
		}
		r.Walltime += r.Walltime / 2
	}
	for range t.disk {
		if r.Disk == 0 {
			r.Disk = protocol.GB
		}
		r.Disk += r.Disk / 2
	}
	return r
}

// lapse lets a silent lease's task be pulled.
func (m *model) lapse(j *modelJob, t *modelTask) {
	switch {
	case t.lease.state == Copied:
		m.freeCanary(t)
		t.lease, t.state = nil, protocol.TaskOK
	case t.lease.state == Lapsed:
		return
	case m.charge(t, protocol.VerdictLost, m.pilots[t.lease.pilot].node()):
		m.end(t, true)
		t.state = protocol.TaskError
	default:
		m.freeCanary(t)
		t.lease.state, t.state = Lapsed, protocol.TaskQueued
	}
	j.settle()
}

// leave ends a lease with its pilot.
func (m *model) leave(j *modelJob, t *modelTask) {
	if t.lease.state == Copied {
		m.freeCanary(t)
		t.lease, t.state = nil, protocol.TaskOK
	} else {
		m.end(t, true)
		t.state = protocol.TaskQueued
	}
	j.settle()
}

// leases visits every current lease.
func (m *model) leases(visit func(protocol.TaskID, *modelJob, *modelTask)) {
	for _, d := range m.datasets {
		for ji, j := range d.jobs {
			for ti, t := range j.tasks {
				if t.lease != nil {
					visit(protocol.TaskID{Dataset: d.id, Job: protocol.JobIndex(ji), Task: protocol.TaskIndex(ti)}, j, t)
				}
			}
		}
	}
}

func (m *model) endPilot(id protocol.PilotID, v protocol.Verdict) {
	p := m.pilots[id]
	m.leases(func(_ protocol.TaskID, j *modelJob, t *modelTask) {
		if t.lease.pilot != id {
			return
		}
		if v == protocol.VerdictLost {
			m.lapse(j, t)
		} else {
			m.leave(j, t)
		}
	})
	if !p.left {
		p.left, p.leftAt = true, m.now
	}
	p.revoked = v == protocol.VerdictWithdrawn
}

// report ends an attempt and tells the code that it is answered.
func (m *model) report(r *Report) protocol.Code {
	p := m.pilots[r.Pilot]
	if p == nil {
		return protocol.CodeStale
	}
	d, j, t := m.task(r.Task)
	switch {
	case t.lease == nil || t.lease.id != r.Lease:
		if p.taken[r.Lease] {
			return protocol.CodeStale
		}
		return protocol.CodeOK // reported before
	case t.lease.state == Copied:
		if r.Verdict == protocol.VerdictOK && r.Cleaned {
			m.freeCanary(t)
			t.lease, t.state = nil, protocol.TaskOK
			j.settle()
		}
		return protocol.CodeOK
	case t.lease.state == Lapsed:
		t.unlose()
	}
	switch {
	case !r.Verdict.KeepsCheckpoint():
		t.saved = ""
	case savedBy(r.Outputs) != nil:
		t.saved, t.savedOf = savedBy(r.Outputs).URL, d.parents(j, r.Task.Task)
	}
	if r.Verdict == protocol.VerdictOK {
		m.nodeSucceeded(d, t.lease, r.Task)
		t.accepted, t.lost, t.hosts, t.lostAt = r.Lease, 0, nil, nil
		t.state, t.lease.state = protocol.TaskCopied, Copied
		if r.Cleaned {
			m.freeCanary(t)
			t.state, t.lease = protocol.TaskOK, nil
		}
		for c := range j.tasks {
			if j.tasks[c].state == protocol.TaskWaiting && d.ready(j, c) {
				j.tasks[c].state = protocol.TaskQueued
			}
		}
	} else {
		m.fail(d, j, t, r, p.host)
	}
	j.settle()
	return protocol.CodeOK
}

func (m *model) fail(d *modelDataset, j *modelJob, t *modelTask, r *Report, host string) {
	producer := -1
	if r.Verdict == protocol.VerdictData {
		for i := range j.tasks {
			id := r.Task
			id.Task = protocol.TaskIndex(i)
			if r.BadInput == "out."+id.String() {
				producer = i // tests name only ancestors
			}
		}
	}
	blamed := m.nodeFailed(d, t, r, producer < 0)
	m.end(t, false)
	if blamed {
		t.state, t.lost, t.lostAt = protocol.TaskQueued, 0, nil
		t.avoid(host)
		return
	}
	if producer < 0 {
		t.state = protocol.TaskQueued
		if m.charge(t, r.Verdict, host) {
			t.state = protocol.TaskError
		}
		return
	}
	t.state = protocol.TaskWaiting
	spent := m.charge(j.tasks[producer], protocol.VerdictData, "")
	m.withdraw(j.tasks[producer])
	j.tasks[producer].state = protocol.TaskQueued
	if spent {
		j.tasks[producer].state = protocol.TaskError
	}
	m.sink(d, j, func(*modelTask) {})
}

// sink returns what hangs on an unfinished parent to waiting.
func (m *model) sink(d *modelDataset, j *modelJob, also func(*modelTask)) {
	for i, t := range j.tasks {
		if t.state != protocol.TaskWaiting && t.state != protocol.TaskSuspended && !d.ready(j, i) {
			m.withdraw(t)
			t.state = protocol.TaskWaiting
			also(t)
		}
	}
}

// reset resets tasks of one job.
func (m *model) reset(d *modelDataset, j *modelJob, chosen []bool) {
	if j.wasOK { // the inputs of what runs again are gone, so their makers run again
		for i := len(j.tasks) - 1; i >= 0; i-- {
			// So do those that read what a chosen task made, and their inputs.
			for grown := true; grown; {
				grown = false
				for c := range j.tasks {
					for _, p := range d.specs[c].Parents {
						child, parent := j.tasks[c], j.tasks[p]
						if chosen[c] && !chosen[p] && parent.finished() ||
							chosen[p] && !chosen[c] && parent.finished() && child.state != protocol.TaskWaiting && child.state != protocol.TaskSuspended {
							chosen[c], chosen[p], grown = true, true, true
						}
					}
				}
			}
		}
	}
	for i, t := range j.tasks {
		if !chosen[i] {
			continue
		}
		m.withdraw(t)
		t.forgive()
		t.state = protocol.TaskWaiting
	}
	m.sink(d, j, (*modelTask).forgive)
	for i, t := range j.tasks {
		if t.state == protocol.TaskWaiting && d.ready(j, i) {
			t.state = protocol.TaskQueued
		}
	}
}

func (m *model) suspend(d *modelDataset, each func(visit func(*modelJob, int))) (n uint64) {
	each(func(j *modelJob, i int) {
		t := j.tasks[i]
		switch t.state {
		case protocol.TaskOK, protocol.TaskCopied, protocol.TaskSuspended:
			return
		}
		m.end(t, true)
		t.state = protocol.TaskSuspended
		n++
	})
	return n
}

// candidate is a task that may be pulled, with what decides its turn.
type candidate struct {
	id    protocol.TaskID
	turn  [4]int
	class int
	steps [3]uint32
	asks  protocol.Requirements
}

// best returns the tasks of the lane that is to be served next, lowest job first.
func (m *model) best(site protocol.SiteID, free *protocol.Resources) []candidate {
	var all []candidate
	for _, d := range m.datasets {
		if d.held() || len(d.sites.Allowed) > 0 && !slices.Contains(d.sites.Allowed, site) || slices.Contains(d.sites.Excluded, site) {
			continue
		}
		for ji, j := range d.jobs {
			for ti, t := range j.tasks {
				r := t.requirements()
				if t.state == protocol.TaskQueued && r.Cores <= free.Cores && r.Memory <= free.Memory && r.Disk <= free.Disk &&
					(free.Remaining == 0 || r.Walltime <= free.Remaining) {
					index := protocol.TaskIndex(ti)
					all = append(all, candidate{
						protocol.TaskID{Dataset: d.id, Job: protocol.JobIndex(ji), Task: index},
						[4]int{-d.priority, -d.depth(index), int(d.id), ti},
						t.class,
						[3]uint32{t.memory, t.walltime, t.disk},
						r,
					})
				}
			}
		}
	}
	order := func(a, b candidate) int {
		return cmp.Or(slices.Compare(a.turn[:], b.turn[:]), cmp.Compare(a.class, b.class), slices.Compare(a.steps[:], b.steps[:]))
	}
	slices.SortStableFunc(all, order)
	for i := range all {
		if order(all[0], all[i]) != 0 {
			return all[:i]
		}
	}
	return all
}
