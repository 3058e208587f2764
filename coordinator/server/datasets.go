package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"floe/coordinator/blob"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/steering"
	"floe/protocol/transport"
)

// submit makes a dataset of a steering document.
func (s *Server) submit(ctx context.Context, in *struct{ Body protocol.SubmitRequest }) (*body[protocol.SubmitReply], error) {
	request := &in.Body
	caller := transport.CallerOf(ctx)
	if request.Jobs > protocol.MaxJobs {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "%d jobs: at most %d", request.Jobs, uint32(protocol.MaxJobs))
	}
	if !request.DryRun {
		if err := s.roomFor("further datasets"); err != nil {
			return nil, err
		}
	}
	name := request.File
	if name == "" {
		name = "steering"
	}
	source := []byte(request.Steering)
	doc, problems := steering.Parse(name, source)
	if problems.HasErrors() {
		return nil, refuseProblems(name, problems)
	}
	n := &submission{
		server: s, user: caller.User, request: request, doc: doc, warnings: problems,
		pins: map[string]protocol.ModulePin{}, files: map[protocol.Digest]string{},
	}
	defer n.close()
	if request.Seed == 0 {
		request.Seed = drawSeed()
	}
	for {
		// Fetching takes its time; others submit meanwhile.
		reply, err := s.prepare(ctx, n)
		if reply == nil && err == nil {
			reply, err = s.submitInTurn(ctx, caller, n)
		}
		// Another dataset took the number meanwhile: requirements, seeds and addresses of
		// modules may depend on it, so the document is compiled again under the next one.
		if errors.Is(err, errMoreToFetch) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &body[protocol.SubmitReply]{*reply}, nil
	}
}

// prepare fetches what the dataset needs under the number that it would have now. A
// request that was answered before is answered again, whatever has become of the
// outside since.
func (s *Server) prepare(ctx context.Context, n *submission) (*protocol.SubmitReply, error) {
	var compile steering.CompileInput
	s.Record.Read(func(m *state.Machine) { compile = n.compile(m.NextDataset()) })
	uses, err := n.externals(compile)
	if err != nil || len(uses) == 0 {
		return nil, err
	}
	if reply, known, err := s.answered(n); known {
		return reply, err
	}
	// What is wrong for other reasons is told before anything is asked of the outside.
	if _, problems := steering.Compile(n.doc, compile); problems.HasErrors() {
		return nil, refuseProblems(n.request.File, problems)
	}
	return nil, n.fetch(ctx, uses)
}

// answered is what a request with the same key was answered before.
func (s *Server) answered(n *submission) (reply *protocol.SubmitReply, known bool, err error) {
	var again state.Answer
	s.Record.Read(func(m *state.Machine) {
		again, known = m.Answered(&state.Action{Actor: n.user, Key: n.request.Key}, state.KindSubmitDataset)
	})
	if !known || n.request.DryRun {
		return nil, false, nil
	}
	if err := again.Err(); err != nil {
		return nil, true, err
	}
	return &protocol.SubmitReply{Dataset: again.Dataset, Jobs: n.request.Jobs, Tasks: uint64(n.request.Jobs) * uint64(len(n.doc.Tasks))}, true, nil
}

// submitInTurn submits when no other submission is under way here: it would take the
// same number.
func (s *Server) submitInTurn(ctx context.Context, caller transport.Caller, n *submission) (*protocol.SubmitReply, error) {
	select {
	case s.submitting <- struct{}{}:
		defer func() { <-s.submitting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		reply, err := s.submitOnce(ctx, caller, n)
		// By another leader; nothing has to be fetched unless an address has the number in it.
		if protocol.CodeOf(err) == protocol.CodeConflict && errors.Is(err, errNumberTaken) {
			continue
		}
		return reply, err
	}
}

// Why a submission begins again: another dataset took its number, and perhaps an
// address of a module has the number in it.
var (
	errNumberTaken = errors.New("dataset number taken")
	errMoreToFetch = errors.New("other modules under another number")
)

// compile is what the document is compiled with under a number.
func (n *submission) compile(number protocol.DatasetID) steering.CompileInput {
	return steering.CompileInput{Dataset: number, Seed: n.request.Seed, JobCount: n.request.Jobs, Options: n.request.Options}
}

func (s *Server) submitOnce(ctx context.Context, caller transport.Caller, n *submission) (*protocol.SubmitReply, error) {
	request, doc := n.request, n.doc
	var number protocol.DatasetID
	s.Record.Read(func(m *state.Machine) { number = m.NextDataset() })
	compile := n.compile(number)
	plan, problems := steering.Compile(doc, compile)
	if problems.HasErrors() {
		return nil, refuseProblems(request.File, problems)
	}
	uses, err := n.externals(compile)
	if err != nil {
		return nil, err
	}
	pins, here := n.pinned(uses)
	if !here {
		return nil, errMoreToFetch
	}
	software, unknown := s.pinSoftware(doc, compile, plan)
	if unknown.HasErrors() {
		// What was submitted before stays submitted, whatever was retired since.
		if reply, known, err := s.answered(n); known {
			return reply, err
		}
		return nil, refuseProblems(request.File, n.quote(unknown))
	}
	problems = append(problems, unknown...)
	problems = append(problems, steering.Lint(doc, compile, s.liveDatasets(ctx, number))...)
	reply := &protocol.SubmitReply{
		Jobs: request.Jobs, Tasks: uint64(request.Jobs) * uint64(len(plan.Tasks)), Modules: pins, Software: software.list(),
		Warnings: append(texts(n.warnings), texts(n.quote(append(problems, s.lintModules(ctx, n, uses)...)))...),
	}
	if request.DryRun {
		return reply, nil
	}
	modules, err := n.store(ctx, pins)
	if err != nil {
		return nil, err
	}
	digest := protocol.DigestOf([]byte(request.Steering))
	if _, err := s.keep(ctx, blob.Durable, datasetOwner(digest), []byte(request.Steering)); err != nil {
		return nil, err
	}
	bill, err := s.storeBill(ctx, software)
	if err != nil {
		return nil, err
	}
	command := &state.SubmitDataset{
		By:      state.Action{Actor: caller.User, Key: request.Key, From: caller.Remote.String()},
		Dataset: number, Jobs: request.Jobs, Priority: request.Priority,
		Facts: state.Facts{
			Alias: request.Alias, Title: first(request.Title, doc.Title), Description: cut(doc.Description, state.MaxText),
			Owner: caller.User, Group: request.Group, Parent: request.Parent, Steering: digest,
			LanguageVersion: protocol.LanguageVersion, Seed: request.Seed, Modules: modules, Software: bill,
			Categories: doc.Categories, Options: pairs(request.Options),
		},
		Sites: state.SiteRule{Allowed: sorted(request.Sites), Excluded: sorted(request.Exclude)},
	}
	for _, t := range plan.InOrder() {
		spec := state.TaskSpec{Name: t.Name, Parents: t.Parents, Exclusive: t.Exclusive, Reproducible: t.Reproducible == steering.ReproducibleBytes}
		for _, c := range t.Classes {
			class := state.Class{Requirements: c.Requirements}
			if t.PerJob {
				class.Jobs = c.Jobs
			}
			spec.Classes = append(spec.Classes, class)
		}
		command.Tasks = append(command.Tasks, spec)
	}
	if err := command.Validate(); err != nil {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	a, err := s.Record.Propose(ctx, command)
	if err != nil {
		return nil, err
	}
	if a.Code == protocol.CodeConflict {
		var next protocol.DatasetID
		s.Record.Read(func(m *state.Machine) { next = m.NextDataset() })
		if next != number {
			return nil, fmt.Errorf("%w: %w", errNumberTaken, a.Err())
		}
	}
	if err := a.Err(); err != nil {
		return nil, err
	}
	reply.Dataset = a.Dataset
	s.Logger.Info("dataset submitted", "dataset", a.Dataset, "jobs", request.Jobs, "user", caller.User)
	return reply, nil
}

// maxCompared is how many unfinished datasets a new one's seeds are compared with,
// newest first.
const maxCompared = 64

// liveDatasets are the unfinished datasets whose seeds must not collide.
func (s *Server) liveDatasets(ctx context.Context, before protocol.DatasetID) []steering.LiveDataset {
	var live []steering.LiveDataset
	var documents []protocol.Digest
	s.Record.Read(func(m *state.Machine) {
		for d := range m.Datasets(before) {
			if d.State != protocol.DatasetProcessing && d.State != protocol.DatasetSuspended {
				continue
			}
			if len(live) == maxCompared {
				break
			}
			live = append(live, steering.LiveDataset{Number: d.ID, Jobs: d.Jobs, Seed: d.Facts.Seed, Options: optionsOf(d.Facts)})
			documents = append(documents, d.Facts.Steering)
		}
	})
	kept := live[:0]
	for i, l := range live {
		doc, err := s.document(ctx, documents[i])
		if err != nil {
			s.Logger.Warn("seeds not compared with a dataset whose steering document is out of reach", "dataset", l.Number, "err", err)
			continue
		}
		l.Doc = doc
		kept = append(kept, l)
	}
	return kept
}

func optionsOf(f *state.Facts) map[string]string {
	options := make(map[string]string, len(f.Options))
	for _, o := range f.Options {
		options[o.Name] = o.Value
	}
	return options
}

// refuseProblems is the answer to a document with errors: every one of them.
func refuseProblems(file string, problems steering.Problems) error {
	e := protocol.Errorf(protocol.CodeBadRequest, "%s: %d problems", first(file, "steering"), len(problems))
	e.Details = texts(problems)
	return e
}

func texts(problems steering.Problems) []string {
	var all []string
	for i := range problems {
		all = append(all, problems[i].Error())
	}
	return all
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// cut shortens a text at a character's border.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "")
}

func pairs(m map[string]string) []state.Pair {
	var all []state.Pair
	for name, value := range m {
		all = append(all, state.Pair{Name: name, Value: value})
	}
	slices.SortFunc(all, func(a, b state.Pair) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func sorted(sites []protocol.SiteID) []protocol.SiteID {
	sites = slices.Clone(sites)
	slices.Sort(sites)
	return slices.Compact(sites)
}

type datasetsInput struct {
	State string `query:"state" enum:"processing,suspended,complete,errors,"`
	Owner string `query:"owner"`
	Page
}

// datasets lists datasets, newest first.
func (s *Server) datasets(_ context.Context, in *datasetsInput) (*body[protocol.DatasetPage], error) {
	before, err := in.after(0)
	if err != nil {
		return nil, err
	}
	limit := in.limit()
	reply := protocol.DatasetPage{Datasets: []protocol.Dataset{}}
	s.Record.Read(func(m *state.Machine) {
		for d := range m.Datasets(protocol.DatasetID(before)) {
			if in.State != "" && d.State.String() != in.State || in.Owner != "" && string(d.Facts.Owner) != in.Owner {
				continue
			}
			if len(reply.Datasets) == limit {
				reply.Next = fmt.Sprint(reply.Datasets[limit-1].ID)
				break
			}
			reply.Datasets = append(reply.Datasets, describe(&d))
		}
	})
	return &body[protocol.DatasetPage]{reply}, nil
}

// DatasetPath is the part of an address that names a dataset. It and its like are
// exported because huma fills embedded structs only then.
type DatasetPath struct {
	Dataset uint32 `path:"dataset" minimum:"1"`
}

func (p *DatasetPath) id() protocol.DatasetID { return protocol.DatasetID(p.Dataset) }

// dataset shows one dataset with its tasks.
func (s *Server) dataset(ctx context.Context, in *DatasetPath) (*body[protocol.Dataset], error) {
	d, err := s.view(in.id())
	if err != nil {
		return nil, err
	}
	reply := describe(&d)
	for i, t := range d.Tasks {
		reply.Tasks = append(reply.Tasks, protocol.TaskSummary{
			Index: protocol.TaskIndex(i), Name: t.Spec.Name, Parents: t.Spec.Parents, Requirements: t.Requirements, Counts: taskCounts(&t.Counts),
		})
	}
	pins, err := s.modulePins(ctx, d.Facts.Modules)
	if err != nil {
		s.Logger.Warn("modules of a dataset not shown", "dataset", d.ID, "err", err)
	} else {
		reply.Modules = pins.Pins
	}
	return &body[protocol.Dataset]{reply}, nil
}

// view finds a dataset in the record.
func (s *Server) view(id protocol.DatasetID) (d state.Dataset, err error) {
	var ok bool
	s.Record.Read(func(m *state.Machine) { d, ok = m.Dataset(id) })
	if !ok {
		return d, protocol.Errorf(protocol.CodeNotFound, "no dataset %d", id)
	}
	return d, nil
}

func describe(d *state.Dataset) protocol.Dataset {
	reply := protocol.Dataset{
		ID: d.ID, Alias: d.Facts.Alias, Title: d.Facts.Title, Description: d.Facts.Description,
		Owner: d.Facts.Owner, Group: d.Facts.Group, Priority: d.Priority, State: d.State, Parent: d.Facts.Parent,
		Jobs: d.Jobs, JobCounts: protocol.StateCounts{}, TaskCounts: protocol.StateCounts{},
		Steering: d.Facts.Steering, Software: d.Facts.Software, Seed: d.Facts.Seed, Sites: d.Sites.Allowed, Exclude: d.Sites.Excluded,
		Categories: d.Facts.Categories, Submitted: int64(d.Submitted), Finished: int64(d.Finished),
	}
	for _, st := range protocol.JobStates {
		if n := d.JobCounts[st]; n > 0 {
			reply.JobCounts[st.String()] = n
		}
	}
	for i := range d.Tasks {
		for word, n := range taskCounts(&d.Tasks[i].Counts) {
			reply.TaskCounts[word] += n
		}
	}
	return reply
}

func taskCounts(c *state.TaskCounts) protocol.StateCounts {
	counts := protocol.StateCounts{}
	for _, st := range protocol.TaskStates {
		if n := c[st]; n > 0 {
			counts[st.String()] = n
		}
	}
	return counts
}

// patternAct is the verb that controls a dataset, in the table of rights.
const patternAct = "POST /v1/datasets/{dataset}/actions"

// act suspends, resumes or resets, or says what that would do.
func (s *Server) act(ctx context.Context, in *struct {
	DatasetPath
	Body protocol.ActionRequest
},
) (*body[protocol.ActionReply], error) {
	d, err := s.view(in.id())
	if err != nil {
		return nil, err
	}
	if err := s.Policy.AllowOn(principalOf(ctx), patternAct, d.Facts.Owner, d.Facts.Group); err != nil {
		return nil, err
	}
	request := &in.Body
	selection := state.Selection{Dataset: d.ID, States: request.States}
	if selection.Jobs, err = protocol.ParseJobs(request.Jobs, d.Jobs); err != nil {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	for _, name := range request.Tasks {
		i := slices.IndexFunc(d.Tasks, func(t state.Task) bool { return t.Spec.Name == name })
		if i < 0 {
			return nil, protocol.Errorf(protocol.CodeBadRequest, "task %q: dataset %d has %s", name, d.ID, taskNames(&d))
		}
		selection.Tasks = append(selection.Tasks, protocol.TaskIndex(i))
	}
	slices.Sort(selection.Tasks)
	caller := transport.CallerOf(ctx)
	by := state.Action{Actor: caller.User, Reason: request.Reason, From: caller.Remote.String()}
	whole := request.Jobs == "" && len(request.Tasks) == 0 && len(request.States) == 0
	var command state.Command
	switch {
	case request.Action == "priority":
		command = &state.SetDataset{By: by, Dataset: d.ID, Priority: &request.Value}
	case request.Action == "retire":
		command = &state.SetDataset{By: by, Dataset: d.ID, Verb: state.DatasetRetire}
	case request.Action == "suspend" && whole:
		command = &state.SetDataset{By: by, Dataset: d.ID, Verb: state.DatasetSuspend}
	case request.Action == "resume" && whole:
		command = &state.SetDataset{By: by, Dataset: d.ID, Verb: state.DatasetResume}
	case request.Action == "suspend":
		command = &state.SuspendTasks{By: by, Select: selection}
	case request.Action == "resume":
		command = &state.ResumeTasks{By: by, Select: selection}
	case request.Action == "reset":
		command = &state.ResetTasks{By: by, Select: selection}
	}
	if err := command.Validate(); err != nil {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	var moved state.Moved
	if request.Preview {
		s.Record.Read(func(m *state.Machine) { moved = m.Preview(command) })
	} else {
		a, err := s.propose(ctx, command)
		if err != nil {
			return nil, err
		}
		moved = a.Moved
	}
	return &body[protocol.ActionReply]{protocol.ActionReply{
		Tasks: moved.Tasks, Descendants: moved.Relatives, Leases: moved.Leases, Applied: !request.Preview,
	}}, nil
}

func taskNames(d *state.Dataset) string {
	var names []string
	for _, t := range d.Tasks {
		names = append(names, t.Spec.Name)
	}
	return strings.Join(names, ", ")
}
