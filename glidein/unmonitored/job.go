package unmonitored

import (
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"floe/glidein/batch"
	"floe/protocol"
)

// State is where a job stands.
type State uint8

const (
	Waiting   State = iota + 1 // not submitted
	Submitted                  // handed in; the batch system has not shown it yet
	Queued
	Held
	Running
	OK
	Failed
	Lost    // its batch job is gone and has said nothing
	Removed // taken back by a person
)

var stateNames = []string{"invalid state", "waiting", "submitted", "queued", "held", "running", "ok", "failed", "lost", "removed"}

// String names the state as the ledger does.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return stateNames[0]
	}
	return stateNames[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *State) UnmarshalText(b []byte) error {
	for i, name := range stateNames[1:] {
		if string(b) == name {
			*s = State(i + 1)
			return nil
		}
	}
	return fmt.Errorf("state %q is not known", b)
}

// UnderWay tells whether the batch system may have the job.
func (s State) UnderWay() bool { return s >= Submitted && s <= Running }

// Again tells whether the job can be submitted: it was not, or it did not go well.
func (s State) Again() bool { return s == Waiting || s >= Failed }

// Job is one job of a run.
type Job struct {
	Job   protocol.JobIndex `json:"job"`
	State State             `json:"state"`
	// Attempt counts submissions, from 1; 0 was never submitted.
	Attempt int               `json:"attempt,omitempty"`
	Launch  protocol.LaunchID `json:"launch,omitempty"`
	// Leader and Index say which job of which array it is; no leader, no array.
	Leader    protocol.LaunchID `json:"leader,omitempty"`
	Index     int               `json:"index,omitempty"`
	BatchID   batch.JobID       `json:"batch_id,omitempty"` // empty until the submission is answered
	Submitted time.Time         `json:"submitted,omitzero"`
	// Reason is why it waits or was not submitted, in the batch system's words.
	Reason string `json:"reason,omitempty"`
	// Removing: a person has taken it back, and it has not ended yet.
	Removing bool    `json:"removing,omitempty"`
	Result   *Result `json:"result,omitempty"`
}

// place is where a job stands in the batch system's list.
type place struct {
	launch protocol.LaunchID
	index  int
}

func (j *Job) place() place {
	if j.Leader != "" {
		return place{j.Leader, j.Index}
	}
	return place{launch: j.Launch}
}

// Dir is the directory of a job in that of its run.
func Dir(run string, job protocol.JobIndex) string {
	return filepath.Join(run, "job-"+strconv.FormatUint(uint64(job), 10))
}

// batchDir is the directory of its present attempt.
func (r *Run) batchDir(j *Job) string {
	return filepath.Join(Dir(r.dir, j.Job), "batch-"+strconv.Itoa(j.Attempt))
}

// OutputPath is what the present attempt of a job prints, or has printed.
func (r *Run) OutputPath(j *Job) string { return filepath.Join(r.batchDir(j), batch.Output) }
