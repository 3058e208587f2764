package protocol

import "fmt"

// TaskState is where a task stands. The words are those of the paper's
// Figure 2; docs/state-machine.md shows the mapping and every legal move.
type TaskState uint8

// The states of a task. The numbers are part of the record and of the wire.
const (
	TaskWaiting    TaskState = iota + 1 // a parent is unfinished
	TaskQueued                          // may be pulled
	TaskProcessing                      // leased to a pilot
	TaskCopied                          // outputs verified at their destination and counted; the pilot cleans up
	TaskOK                              // finished
	TaskError                           // its retry budget is spent; a person must reset it
	TaskSuspended                       // held by a person
)

var taskStates = [...]string{"", "waiting", "queued", "processing", "copied", "ok", "error", "suspended"}

// TaskStates lists every state in the order of a task's life.
var TaskStates = []TaskState{TaskWaiting, TaskQueued, TaskProcessing, TaskCopied, TaskOK, TaskError, TaskSuspended}

func (s TaskState) String() string { return nameOf(taskStates[:], int(s), "task state") }

// MarshalText writes the state's word.
func (s TaskState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the state's word.
func (s *TaskState) UnmarshalText(b []byte) error {
	i, err := indexOf(taskStates[:], string(b), "task state")
	*s = TaskState(i)
	return err
}

// Phase is how far the holder of a lease has come.
type Phase uint8

// The phases of a leased task, in order.
const (
	PhaseOffered  Phase = iota + 1 // granted; the pilot has not yet said that it has it
	PhaseStaging                   // fetching software and inputs
	PhaseRunning                   // running trays and modules
	PhaseCopying                   // uploading and verifying outputs
	PhaseCleaning                  // accepted; publishing outputs and removing the working directory
)

var phases = [...]string{"", "offered", "staging", "running", "copying", "cleaning"}

func (p Phase) String() string { return nameOf(phases[:], int(p), "phase") }

// MarshalText writes the phase's word.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the phase's word.
func (p *Phase) UnmarshalText(b []byte) error {
	i, err := indexOf(phases[:], string(b), "phase")
	*p = Phase(i)
	return err
}

// JobState summarises the states of a job's tasks.
type JobState uint8

// The states of a job. A job is in the first of error, suspended, processing,
// ok that applies, else queued.
const (
	JobQueued     JobState = iota + 1 // nothing of it has been leased yet, or the next task waits for a pilot
	JobProcessing                     // a task is leased or copied
	JobOK                             // all tasks are ok
	JobError                          // a task is in error
	JobSuspended                      // a task is suspended
)

var jobStates = [...]string{"", "queued", "processing", "ok", "error", "suspended"}

// JobStates lists every state of a job.
var JobStates = []JobState{JobQueued, JobProcessing, JobOK, JobError, JobSuspended}

func (s JobState) String() string { return nameOf(jobStates[:], int(s), "job state") }

// MarshalText writes the state's word.
func (s JobState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the state's word.
func (s *JobState) UnmarshalText(b []byte) error {
	i, err := indexOf(jobStates[:], string(b), "job state")
	*s = JobState(i)
	return err
}

// DatasetState is where a dataset stands.
type DatasetState uint8

// The states of a dataset.
const (
	DatasetProcessing DatasetState = iota + 1 // tasks may be pulled
	DatasetSuspended                          // a person stopped it
	DatasetComplete                           // every job is ok
	DatasetErrors                             // every job is final and at least one is in error
)

var datasetStates = [...]string{"", "processing", "suspended", "complete", "errors"}

func (s DatasetState) String() string { return nameOf(datasetStates[:], int(s), "dataset state") }

// MarshalText writes the state's word.
func (s DatasetState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the state's word.
func (s *DatasetState) UnmarshalText(b []byte) error {
	i, err := indexOf(datasetStates[:], string(b), "dataset state")
	*s = DatasetState(i)
	return err
}

// Verdict says whose fault the end of an attempt was. Each class has its own
// retry budget and consequence (docs/state-machine.md).
type Verdict uint8

// The verdicts. The numbers are part of the record and of the wire.
const (
	VerdictOK        Verdict = iota + 1 // the attempt did what the steering file asked
	VerdictPayload                      // the payload failed: non-zero exit, crash, missing output
	VerdictMemory                       // it needed more memory than granted
	VerdictWalltime                     // it needed more walltime than granted
	VerdictDisk                         // it needed more scratch space than granted
	VerdictNode                         // the node is broken: disk full, no interpreter, bad GPU
	VerdictSite                         // the site is broken: storage or network out of reach
	VerdictData                         // an input is missing or damaged
	VerdictSoftware                     // the software environment could not be had or did not verify
	VerdictPreempted                    // the batch system, the owner or a drain took the slot
	VerdictLost                         // the pilot vanished; given by the coordinator only
	VerdictFramework                    // floe itself is at fault
	VerdictWithdrawn                    // ended by reset, suspend or a newer claim; given by the coordinator only
)

var verdicts = [...]string{"", "ok", "payload", "memory", "walltime", "disk", "node", "site", "data", "software", "preempted", "lost", "framework", "withdrawn"}

// Verdicts lists every verdict.
var Verdicts = []Verdict{VerdictOK, VerdictPayload, VerdictMemory, VerdictWalltime, VerdictDisk, VerdictNode, VerdictSite, VerdictData, VerdictSoftware, VerdictPreempted, VerdictLost, VerdictFramework, VerdictWithdrawn}

func (v Verdict) String() string { return nameOf(verdicts[:], int(v), "verdict") }

// Reportable tells whether a pilot may give the verdict itself.
func (v Verdict) Reportable() bool {
	return v >= VerdictOK && v <= VerdictFramework && v != VerdictLost
}

// KeepsCheckpoint tells whether the next attempt may go on from what one that ended so,
// or an earlier one, has saved. It starts anew where the payload failed, as what it
// saved is not to be trusted, and where an input is made again.
func (v Verdict) KeepsCheckpoint() bool {
	switch v {
	case VerdictOK, VerdictPayload, VerdictData, VerdictWithdrawn:
		return false
	}
	return true
}

// MarshalText writes the verdict's word.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the verdict's word.
func (v *Verdict) UnmarshalText(b []byte) error {
	i, err := indexOf(verdicts[:], string(b), "verdict")
	*v = Verdict(i)
	return err
}

func nameOf(names []string, i int, what string) string {
	if i <= 0 || i >= len(names) {
		return fmt.Sprintf("invalid %s %d", what, i)
	}
	return names[i]
}

func indexOf(names []string, s, what string) (int, error) {
	for i, n := range names {
		if i > 0 && n == s {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%s %q: want one of %q", what, s, names[1:])
}
