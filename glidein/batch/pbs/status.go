package pbs

import (
	"context"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"floe/glidein/batch"
	"floe/protocol"
)

// perCall is how many jobs one qstat is asked about: a command line of 16 kB.
const perCall = 500

// Status implements batch.System.
func (s *System) Status(ctx context.Context, _ []batch.Known) ([]batch.Entry, error) {
	if _, err := s.speak(ctx); err != nil { // that these are the tools of PBS
		return nil, err
	}
	mine, err := s.mine(ctx)
	if err != nil {
		return nil, err
	}
	var entries []batch.Entry
	seen := map[batch.JobID]bool{}
	for ids := range slices.Chunk(mine, perCall) {
		// -t: with those of arrays one by one.
		a, err := s.tool.Run(ctx, nil, "qstat", append([]string{"-f", "-t"}, ids...)...)
		if err != nil {
			return nil, err
		}
		a.Command = "qstat -f -t" // without the ids, for messages
		// Jobs end between the two questions.
		gone := a.Mentions("unknown job id", "job has finished")
		if a.Exit != 0 && !gone {
			return nil, a.Fail(batch.ErrTransient)
		}
		records := read(a.Stdout)
		if err := complete(ids, records, string(a.Stderr)); err != nil {
			return nil, a.Garbled(err.Error())
		}
		for i := range records {
			e, ours, err := records[i].entry()
			if err != nil {
				return nil, a.Garbled(err.Error())
			}
			if ours && !seen[e.ID] {
				seen[e.ID] = true
				entries = append(entries, e)
			}
		}
	}
	return entries, nil
}

// mine are the ids of the user's jobs, an array being one.
func (s *System) mine(ctx context.Context) ([]string, error) {
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("pbs: %w: who am I: %w", batch.ErrTransient, err)
	}
	a, err := s.tool.Run(ctx, nil, "qselect", "-u", me.Username)
	if err != nil {
		return nil, err
	}
	if a.Exit != 0 {
		return nil, a.Fail(batch.ErrTransient)
	}
	var ids []string
	for line := range strings.Lines(string(a.Stdout)) {
		id := strings.TrimSpace(line)
		if id == "" {
			continue
		}
		if !jobID.MatchString(id) {
			return nil, a.Garbled(fmt.Sprintf("job id %q", id))
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// complete is an error when qstat has said nothing of a job that it was asked about.
func complete(ids []string, records []record, complaints string) error {
	told := map[string]bool{}
	for i := range records {
		told[number(records[i].ID)] = true
	}
	for line := range strings.Lines(strings.ToLower(complaints)) {
		if !strings.Contains(line, "unknown job id") && !strings.Contains(line, "job has finished") {
			continue
		}
		for word := range strings.FieldsSeq(line) {
			if jobID.MatchString(word) {
				told[number(word)] = true
			}
		}
	}
	for _, id := range ids {
		if !told[number(id)] {
			return fmt.Errorf("nothing of job %s", id)
		}
	}
	return nil
}

// number is a job's or its array's, without the server.
func number(id string) string {
	if m := jobID.FindStringSubmatch(id); m != nil {
		return m[1]
	}
	return id
}

// entry is a record as one of our jobs, if it is one. The record of a whole array
// is not. The variable alone makes none ours: a pilot job has it in its environment,
// and hands it on to what is submitted from there with -V.
func (r *record) entry() (e batch.Entry, ours bool, err error) {
	launch, named := batch.LaunchOf(r.Name)
	if !named {
		return e, false, nil
	}
	m := jobID.FindStringSubmatch(r.ID)
	switch {
	case m == nil:
		return e, false, fmt.Errorf("job id %q", r.ID)
	case m[2] == "[]":
		return e, false, nil
	case r.Launch != "":
		launch = protocol.LaunchID(r.Launch)
	case len(r.Name) >= maxName:
		return e, false, fmt.Errorf("job %s is called %s and has no %s", r.ID, r.Name, launchVariable)
	}
	e = batch.Entry{ID: batch.JobID(r.ID), Launch: launch, State: r.state(), Since: clock(r.Queued)}
	if m[3] != "" {
		if e.Index, err = strconv.Atoi(m[3]); err != nil {
			return e, false, fmt.Errorf("job id %q: %w", r.ID, err)
		}
	}
	switch e.State {
	case 0:
		return e, false, fmt.Errorf("job %s has the state %q, which is not known", r.ID, r.State)
	case batch.Running:
		e.Since = clock(r.Started)
	case batch.Queued, batch.Held:
		e.Reason = r.reason()
	}
	return e, true, nil
}

// state reads the letter of a job. Source: qstat(1B) of both dialects.
func (r *record) state() batch.State {
	switch r.State {
	case "Q", "W", "T", "M": // T is on its way, M has moved to another server
		if strings.Contains(strings.ToLower(r.Comment), "can never run") {
			return batch.Held
		}
		return batch.Queued
	case "H":
		return batch.Held
	case "R", "E", "S", "U": // U: suspended while somebody types
		return batch.Running
	case "C", "F", "X":
		return batch.Ended
	}
	return 0
}

// reason is why a job does not start. What began or ran is told in the same place.
func (r *record) reason() string {
	switch {
	case r.Comment != "" && !strings.HasPrefix(r.Comment, "Job "):
		return r.Comment
	case r.State == "H":
		return "held (" + r.Holds + ")"
	}
	return ""
}

// clock reads a time.
func clock(s string) time.Time {
	t, err := time.ParseInLocation(time.ANSIC, s, time.Local)
	if err != nil {
		return time.Time{}
	}
	return t
}
