package server

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"

	"floe/coordinator/history"
	"floe/coordinator/state"
	"floe/protocol"
)

type jobsInput struct {
	DatasetPath
	State string `query:"state" enum:"queued,processing,ok,error,suspended,"`
	Page
}

// jobs lists the jobs of a dataset in order of index.
func (s *Server) jobs(_ context.Context, in *jobsInput) (*body[protocol.JobPage], error) {
	d, err := s.view(in.id())
	if err != nil {
		return nil, err
	}
	var want protocol.JobState
	if in.State != "" {
		if err := want.UnmarshalText([]byte(in.State)); err != nil {
			return nil, protocol.Errorf(protocol.CodeBadRequest, "%v", err)
		}
	}
	from, err := in.after(-1)
	if err != nil {
		return nil, err
	}
	limit := in.limit()
	reply := protocol.JobPage{Jobs: []protocol.Job{}}
	s.Record.Read(func(m *state.Machine) {
		for j, jobState := range m.Jobs(d.ID, want, protocol.JobIndex(from+1)) {
			if len(reply.Jobs) == limit {
				reply.Next = fmt.Sprint(reply.Jobs[limit-1].Index)
				break
			}
			reply.Jobs = append(reply.Jobs, protocol.Job{Dataset: d.ID, Index: j, State: jobState})
		}
	})
	return &body[protocol.JobPage]{reply}, nil
}

// JobPath names a job.
type JobPath struct {
	DatasetPath
	Job uint32 `path:"job"`
}

// job shows one job with its tasks.
func (s *Server) job(_ context.Context, in *JobPath) (*body[protocol.Job], error) {
	d, err := s.jobView(in)
	if err != nil {
		return nil, err
	}
	reply := protocol.Job{Dataset: d.ID, Index: protocol.JobIndex(in.Job)}
	s.Record.Read(func(m *state.Machine) {
		reply.State, _ = m.JobState(d.ID, reply.Index)
		for i := range d.Tasks {
			reply.Tasks = append(reply.Tasks, s.describeTask(m, &d, protocol.TaskID{Dataset: d.ID, Job: reply.Index, Task: protocol.TaskIndex(i)}))
		}
	})
	return &body[protocol.Job]{reply}, nil
}

func (s *Server) jobView(in *JobPath) (state.Dataset, error) {
	d, err := s.view(in.id())
	if err == nil && in.Job >= d.Jobs {
		err = protocol.Errorf(protocol.CodeNotFound, "dataset %d has %d jobs, no job %d", d.ID, d.Jobs, in.Job)
	}
	return d, err
}

// describeTask is a task as people see it. It runs while the record is read.
func (s *Server) describeTask(m *state.Machine, d *state.Dataset, id protocol.TaskID) protocol.Task {
	t := protocol.Task{ID: id, Name: d.Tasks[id.Task].Spec.Name}
	t.State, _ = m.TaskState(id)
	if l, ok := m.Lease(id); ok && l.State != state.Lapsed {
		t.Lease, t.Site, t.Pilot = l.ID.String(), l.Site, l.Pilot
		if p := s.core.watch.phase(l.ID); p != 0 {
			t.Phase = p.String()
		}
		t.Progress = s.core.watch.progress(l.ID)
		if p, ok := m.Pilot(l.Pilot); ok {
			t.Host = p.Host
		}
	}
	return t
}

type tasksInput struct {
	DatasetPath
	State string `query:"state" enum:"waiting,queued,processing,copied,ok,error,suspended,"`
	Task  string `query:"task"`
	Page
}

// tasks lists the tasks of a dataset, task by task and within each by job. The
// cursor is task.job of the last one.
func (s *Server) tasks(_ context.Context, in *tasksInput) (*body[protocol.TaskPage], error) {
	d, err := s.view(in.id())
	if err != nil {
		return nil, err
	}
	states := protocol.TaskStates
	if in.State != "" {
		states = make([]protocol.TaskState, 1)
		if err := states[0].UnmarshalText([]byte(in.State)); err != nil {
			return nil, protocol.Errorf(protocol.CodeBadRequest, "%v", err)
		}
	}
	first, last := 0, len(d.Tasks)-1
	if in.Task != "" {
		if first = taskByName(&d, in.Task); first < 0 {
			return nil, protocol.Errorf(protocol.CodeNotFound, "task %q: dataset %d has %s", in.Task, d.ID, taskNames(&d))
		}
		last = first
	}
	from := protocol.JobIndex(0)
	if in.Cursor != "" {
		var task, job uint32
		if _, err := fmt.Sscanf(in.Cursor, "%d.%d", &task, &job); err != nil {
			return nil, protocol.Errorf(protocol.CodeBadRequest, "cursor %q: not one that a page named", in.Cursor)
		}
		first, from = max(first, int(task)), protocol.JobIndex(job)+1
	}
	limit := in.limit()
	reply := protocol.TaskPage{Tasks: []protocol.Task{}}
	s.Record.Read(func(m *state.Machine) {
		for t := first; t <= last; t++ {
			for id := range tasksOf(m, &d, protocol.TaskIndex(t), states, from) {
				if len(reply.Tasks) == limit {
					end := reply.Tasks[limit-1].ID
					reply.Next = fmt.Sprintf("%d.%d", end.Task, end.Job)
					return
				}
				reply.Tasks = append(reply.Tasks, s.describeTask(m, &d, id))
			}
			from = 0
		}
	})
	return &body[protocol.TaskPage]{reply}, nil
}

// tasksOf yields one task in the jobs from a job on, in any of the states.
func tasksOf(m *state.Machine, d *state.Dataset, t protocol.TaskIndex, states []protocol.TaskState, from protocol.JobIndex) iter.Seq[protocol.TaskID] {
	return func(yield func(protocol.TaskID) bool) {
		if len(states) == 1 {
			for j := range m.Tasks(d.ID, t, states[0], from) {
				if !yield(protocol.TaskID{Dataset: d.ID, Job: j, Task: t}) {
					return
				}
			}
			return
		}
		for j := from; uint32(j) < d.Jobs; j++ {
			if !yield(protocol.TaskID{Dataset: d.ID, Job: j, Task: t}) {
				return
			}
		}
	}
}

// taskByName finds a task by name or index; -1 when there is none.
func taskByName(d *state.Dataset, name string) int {
	if i := slices.IndexFunc(d.Tasks, func(t state.Task) bool { return t.Spec.Name == name }); i >= 0 {
		return i
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(d.Tasks) {
		return i
	}
	return -1
}

// TaskPath names a task.
type TaskPath struct {
	JobPath
	Task string `path:"task" doc:"name or index"`
}

// taskOf resolves a task's address.
func (s *Server) taskOf(in *TaskPath) (state.Dataset, protocol.TaskID, error) {
	d, err := s.jobView(&in.JobPath)
	if err != nil {
		return d, protocol.TaskID{}, err
	}
	i := taskByName(&d, in.Task)
	if i < 0 {
		return d, protocol.TaskID{}, protocol.Errorf(protocol.CodeNotFound, "task %q: dataset %d has %s", in.Task, d.ID, taskNames(&d))
	}
	return d, protocol.TaskID{Dataset: d.ID, Job: protocol.JobIndex(in.Job), Task: protocol.TaskIndex(i)}, nil
}

// task shows one task with its ended attempts.
func (s *Server) task(ctx context.Context, in *TaskPath) (*body[protocol.Task], error) {
	d, id, err := s.taskOf(in)
	if err != nil {
		return nil, err
	}
	var reply protocol.Task
	s.Record.Read(func(m *state.Machine) { reply = s.describeTask(m, &d, id) })
	attempts, err := s.attempts(ctx, id)
	if err != nil {
		return nil, err
	}
	reply.Attempts = attempts
	return &body[protocol.Task]{reply}, nil
}

// attempts asks the ledger, once it has all that is applied.
func (s *Server) attempts(ctx context.Context, id protocol.TaskID) ([]protocol.Attempt, error) {
	if err := s.caughtUp(ctx); err != nil {
		return nil, err
	}
	found, err := s.Ledger.Attempts(id)
	if err != nil {
		return nil, err
	}
	all := make([]protocol.Attempt, 0, len(found))
	for i := range found {
		all = append(all, found[i].Public())
	}
	return all, nil
}

// statistics sums up what the modules counted.
func (s *Server) statistics(ctx context.Context, in *DatasetPath) (*body[protocol.StatisticsReply], error) {
	d, err := s.view(in.id())
	if err != nil {
		return nil, err
	}
	if err := s.caughtUp(ctx); err != nil {
		return nil, err
	}
	reply := protocol.StatisticsReply{}
	// Over the whole dataset first, then task by task.
	if reply.Statistics, err = s.statisticsOf(d.ID, nil, "", []protocol.StatisticSummary{}); err != nil {
		return nil, err
	}
	for i := range d.Tasks {
		task := protocol.TaskIndex(i)
		if reply.Statistics, err = s.statisticsOf(d.ID, &task, d.Tasks[i].Spec.Name, reply.Statistics); err != nil {
			return nil, err
		}
	}
	totals, err := s.Ledger.Usage(d.ID)
	if err != nil {
		return nil, err
	}
	sum := history.Sum(totals)
	reply.Used, reply.Wasted = total(&sum.Used), total(&sum.Wasted)
	return &body[protocol.StatisticsReply]{reply}, nil
}

// statisticsOf appends the statistics of a task, or of all tasks together.
func (s *Server) statisticsOf(id protocol.DatasetID, task *protocol.TaskIndex, name string, all []protocol.StatisticSummary) ([]protocol.StatisticSummary, error) {
	for after, more := "", true; more; {
		found, goesOn, err := s.Ledger.Statistics(history.StatisticQuery{Dataset: id, Task: task, After: after})
		if err != nil {
			return nil, err
		}
		for _, x := range found {
			x.Task, after = name, x.Name
			all = append(all, x)
		}
		more = goesOn
	}
	return all, nil
}

func total(u *history.UsageSum) protocol.UsageTotal {
	sum := protocol.UsageTotal{Attempts: u.Attempts, WallMillis: u.WallMillis, CPUMillis: u.CPUMillis, KeptMillis: u.KeptMillis}
	if u.GPUKnown > 0 {
		sum.GPUMillis = &u.GPUBusyMillis
	}
	return sum
}

type outputsInput struct {
	DatasetPath
	Page
}

// outputs lists the permanent outputs of accepted attempts.
func (s *Server) outputs(ctx context.Context, in *outputsInput) (*body[protocol.OutputPage], error) {
	d, err := s.view(in.id())
	if err != nil {
		return nil, err
	}
	if err := s.caughtUp(ctx); err != nil {
		return nil, err
	}
	found, err := s.Ledger.Outputs(ctx, d.ID, in.Cursor, in.limit())
	if err != nil {
		return nil, err
	}
	reply := protocol.OutputPage{Outputs: []protocol.Output{}, Next: found.Next}
	for _, o := range found.Outputs {
		url, intended := first(o.Published, o.URL), ""
		if o.Uncleaned {
			url, intended = o.URL, o.Published
		}
		reply.Outputs = append(reply.Outputs, protocol.Output{
			Job: o.Task.Job, Task: d.Tasks[o.Task.Task].Spec.Name, Name: o.Name,
			URL: url, Intended: intended, Size: o.Size, Digest: o.Digest,
		})
	}
	return &body[protocol.OutputPage]{reply}, nil
}

// steering gives the document a dataset was submitted with.
func (s *Server) steering(w http.ResponseWriter, r *http.Request) error {
	in, err := pathOf(r)
	if err != nil {
		return err
	}
	d, err := s.view(in.id())
	if err != nil {
		return err
	}
	text, err := s.documentText(r.Context(), d.Facts.Steering)
	if err != nil {
		return err
	}
	plain(w)
	_, _ = w.Write(text)
	return nil
}

// log gives an attempt's log: live from the leader's memory, or stored. Parameters:
// attempt (its number; the newest without), offset, and wait in seconds for more.
// Floe-Offset of the answer is where it begins, Floe-Live says whether more can come.
func (s *Server) log(w http.ResponseWriter, r *http.Request) error {
	in, err := pathOf(r)
	if err != nil {
		return err
	}
	_, id, err := s.taskOf(in)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	offset, err := number(q.Get("offset"))
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "offset: %v", err)
	}
	wait, err := number(q.Get("wait"))
	if err != nil || protocol.Seconds(wait) > protocol.MaxWait {
		return protocol.Errorf(protocol.CodeBadRequest, "wait: want 0 to %d seconds", protocol.MaxWait)
	}
	var lease state.Lease
	var live bool
	s.Record.Read(func(m *state.Machine) { lease, live = m.Lease(id) })
	live = live && lease.State != state.Copied
	attempt := q.Get("attempt")
	if live && (attempt == "" || attempt == fmt.Sprint(lease.Attempt)) {
		return s.liveLog(w, r, lease.ID, offset, protocol.Seconds(wait))
	}
	return s.storedLog(w, r, id, attempt, offset)
}

func (s *Server) liveLog(w http.ResponseWriter, r *http.Request, lease protocol.LeaseID, offset int64, wait protocol.Seconds) error {
	// Nothing may have come yet, and then there is something to wait for all the same.
	if err := s.tails.Append(lease, 0, nil); err != nil {
		return err
	}
	if wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), wait.Duration())
		_ = s.tails.Wait(ctx, lease, offset) // whatever is there when the wait ends is the answer
		cancel()
	}
	piece, err := s.tails.Read(lease, offset, protocol.MaxLogTail)
	if err != nil {
		return err
	}
	plain(w)
	w.Header().Set("Floe-Live", "yes")
	w.Header().Set("Floe-Offset", fmt.Sprint(piece.Offset))
	_, _ = w.Write(piece.Data)
	return nil
}

func (s *Server) storedLog(w http.ResponseWriter, r *http.Request, id protocol.TaskID, attempt string, offset int64) error {
	attempts, err := s.attempts(r.Context(), id)
	if err != nil {
		return err
	}
	for _, a := range slices.Backward(attempts) {
		if attempt != "" && attempt != fmt.Sprint(a.Number) || a.Log.Digest.IsZero() {
			continue
		}
		body, _, err := s.openBlob(r.Context(), a.Log.Digest, true)
		if err != nil {
			return err
		}
		defer body.Close()
		plain(w)
		w.Header().Set("Floe-Offset", fmt.Sprint(offset))
		return copyFrom(w, body, offset)
	}
	return protocol.Errorf(protocol.CodeNotFound, "no log of task %v is stored yet", id)
}

// plain marks an answer as text that no browser may take for anything else.
func plain(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
}
