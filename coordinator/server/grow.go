package server

import (
	"context"
	"slices"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/steering"
	"floe/protocol/transport"
)

// patternGrow is the verb that adds jobs, in the table of rights.
const patternGrow = "POST /v1/datasets/{dataset}/jobs"

// grow adds jobs to a dataset (paper §5.2: processing of detector data begins with
// none). The request says how many the dataset had, so that repeating it is safe.
func (s *Server) grow(ctx context.Context, in *struct {
	DatasetPath
	Body protocol.GrowRequest
},
) (*body[protocol.GrowReply], error) {
	d, err := s.view(in.id())
	if err != nil {
		return nil, err
	}
	if err := s.Policy.AllowOn(principalOf(ctx), patternGrow, d.Facts.Owner, d.Facts.Group); err != nil {
		return nil, err
	}
	if err := s.roomFor("further jobs"); err != nil {
		return nil, err
	}
	request := &in.Body
	total := uint64(request.From) + uint64(request.Jobs)
	if total > protocol.MaxJobs {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "%d jobs: at most %d", total, uint64(protocol.MaxJobs))
	}
	classes, err := s.addedClasses(ctx, &d, request.From, uint32(total))
	if err != nil {
		return nil, err
	}
	caller := transport.CallerOf(ctx)
	command := &state.AddJobs{
		By:      state.Action{Actor: caller.User, Key: request.Key, From: caller.Remote.String()},
		Dataset: d.ID, From: request.From, Jobs: request.Jobs, Classes: classes,
	}
	if _, err := s.propose(ctx, command); err != nil {
		return nil, err
	}
	return &body[protocol.GrowReply]{protocol.GrowReply{Jobs: uint32(total)}}, nil
}

// addedClasses are the requirements of new jobs, of tasks whose requirements
// depend on the job.
func (s *Server) addedClasses(ctx context.Context, d *state.Dataset, from, total uint32) ([]state.AddedClasses, error) {
	doc, err := s.document(ctx, d.Facts.Steering)
	if err != nil {
		return nil, err
	}
	if err := s.checkGrown(ctx, d, doc, total); err != nil {
		return nil, err
	}
	compile := steering.CompileInput{Dataset: d.ID, Seed: d.Facts.Seed, JobCount: total, Options: optionsOf(d.Facts)}
	plan, problems := steering.Compile(doc, compile)
	software, err := s.softwareOf(ctx, d, doc, compile)
	if err != nil {
		return nil, err
	}
	if problems = append(problems, software.require(doc, plan)...); problems.HasErrors() {
		return nil, refuseProblems("steering", problems)
	}
	var added []state.AddedClasses
	for i, t := range plan.InOrder() {
		if !t.PerJob {
			continue
		}
		of := state.AddedClasses{Task: protocol.TaskIndex(i)}
		for _, c := range t.Classes {
			if jobs := beyond(c.Jobs, protocol.JobIndex(from)); len(jobs) > 0 {
				of.Classes = append(of.Classes, state.Class{Requirements: c.Requirements, Jobs: jobs})
			}
		}
		added = append(added, of)
	}
	return added, nil
}

// beyond cuts ranges of jobs to those from a job on.
func beyond(ranges []protocol.JobRange, from protocol.JobIndex) []protocol.JobRange {
	kept := slices.DeleteFunc(slices.Clone(ranges), func(r protocol.JobRange) bool { return r.Last < from })
	for i := range kept {
		kept[i].First = max(kept[i].First, from)
	}
	return kept
}
