package state

import "floe/protocol"

// Event is one thing that happened: the record's only outside view. History,
// logs, metrics, pages and the waking of parked pilots feed on events.
type Event struct {
	// Index and Ordinal say where: the log index of the entry and the position among
	// the entry's events from 0. Together they are unique and rising.
	Index   uint64
	Ordinal uint32
	// Time and Wall are the entry's.
	Time RecordTime
	Wall UnixMillis
	Body EventBody
	// Encoded is Body as EncodeEvent writes it, once EncodeEvents has filled it in.
	Encoded []byte
}

// EventBody is what happened: one of this package's event structs, by pointer.
type EventBody interface{ Kind() EventKind }

// EventKind is the number of an event in history.
type EventKind uint8

// The events. Append only: a number is never changed or used again.
const (
	EventDatasetSubmitted  EventKind = 1
	EventJobsAdded         EventKind = 2
	EventDatasetChanged    EventKind = 3
	EventTasksMoved        EventKind = 4
	EventLeaseGranted      EventKind = 5
	EventLeaseLapsed       EventKind = 6
	EventLeaseRevived      EventKind = 7
	EventAttemptEnded      EventKind = 8
	EventAttemptCleaned    EventKind = 9
	EventAttemptsWithdrawn EventKind = 10
	EventUsageWasted       EventKind = 11
	EventTasksReleased     EventKind = 12
	EventJobFinished       EventKind = 13
	EventDatasetFinished   EventKind = 14
	EventPilotEnrolled     EventKind = 15
	EventPilotChanged      EventKind = 16
	EventPilotLeft         EventKind = 17
	EventSiteChanged       EventKind = 18
	EventLaunchGranted     EventKind = 19
	EventLaunchEnded       EventKind = 20
	EventActionTaken       EventKind = 21
	EventCheckpointTaken   EventKind = 22
	EventFormatRaised      EventKind = 23
	EventLeaderChanged     EventKind = 24
	EventTokenChanged      EventKind = 25
	EventMemberChanged     EventKind = 26
	EventNodeChanged       EventKind = 27
)

// DatasetSubmitted says that a dataset exists.
type DatasetSubmitted struct {
	Dataset  protocol.DatasetID `cbor:"1,keyasint"`
	Facts    Facts              `cbor:"2,keyasint"`
	Jobs     uint32             `cbor:"3,keyasint"`
	Priority int                `cbor:"4,keyasint,omitempty"`
	// Tasks are the names of the tasks of a job, by index.
	Tasks []string `cbor:"5,keyasint"`
}

// JobsAdded says that a dataset grew to Jobs.
type JobsAdded struct {
	Dataset protocol.DatasetID `cbor:"1,keyasint"`
	From    uint32             `cbor:"2,keyasint"`
	Jobs    uint32             `cbor:"3,keyasint"`
}

// DatasetChanged gives what can change of a dataset as it now stands.
type DatasetChanged struct {
	Dataset  protocol.DatasetID    `cbor:"1,keyasint"`
	State    protocol.DatasetState `cbor:"2,keyasint"`
	Priority int                   `cbor:"3,keyasint,omitempty"`
	Sites    SiteRule              `cbor:"4,keyasint"`
	Retired  bool                  `cbor:"5,keyasint,omitempty"`
}

// TasksMoved says that a control action moved tasks, or that a node was blamed for
// their failure; one per task of the DAG and at most MaxEventRanges ranges.
type TasksMoved struct {
	Dataset protocol.DatasetID  `cbor:"1,keyasint"`
	Task    protocol.TaskIndex  `cbor:"2,keyasint"`
	By      Cause               `cbor:"3,keyasint"`
	Jobs    []protocol.JobRange `cbor:"4,keyasint"`
}

// MaxEventRanges is how many ranges of jobs one event holds; further ranges
// follow in further events.
const MaxEventRanges = 4096

// LeaseGranted says that an attempt began.
type LeaseGranted struct {
	Lease   protocol.LeaseID `cbor:"1,keyasint"`
	Task    protocol.TaskID  `cbor:"2,keyasint"`
	Attempt uint32           `cbor:"3,keyasint"`
	Pilot   protocol.PilotID `cbor:"4,keyasint"`
	Site    protocol.SiteID  `cbor:"5,keyasint"`
}

// LeaseLapsed says that the task of a silent lease may be pulled again.
type LeaseLapsed struct {
	Lease protocol.LeaseID `cbor:"1,keyasint"`
	Task  protocol.TaskID  `cbor:"2,keyasint"`
	Pilot protocol.PilotID `cbor:"3,keyasint"`
}

// LeaseRevived says that the holder of a lapsed lease is back.
type LeaseRevived struct {
	Lease protocol.LeaseID `cbor:"1,keyasint"`
	Task  protocol.TaskID  `cbor:"2,keyasint"`
	Pilot protocol.PilotID `cbor:"3,keyasint"`
}

// AttemptEnded says how an attempt ended. Every granted lease gets exactly one.
type AttemptEnded struct {
	Lease    protocol.LeaseID `cbor:"1,keyasint"`
	Task     protocol.TaskID  `cbor:"2,keyasint"`
	Attempt  uint32           `cbor:"3,keyasint"`
	Pilot    protocol.PilotID `cbor:"4,keyasint"`
	Site     protocol.SiteID  `cbor:"5,keyasint"`
	Host     string           `cbor:"6,keyasint,omitempty"`
	Verdict  protocol.Verdict `cbor:"7,keyasint"`
	Evidence string           `cbor:"8,keyasint,omitempty"`
	ExitCode int              `cbor:"9,keyasint,omitempty"`
	Signal   int              `cbor:"10,keyasint,omitempty"`
	// Accepted says that this attempt is the one that counts, until an
	// AttemptsWithdrawn names its task and job.
	Accepted bool `cbor:"11,keyasint,omitempty"`
	// Next is the state the task went to.
	Next        protocol.TaskState      `cbor:"12,keyasint"`
	Usage       protocol.Usage          `cbor:"13,keyasint"`
	Statistics  []protocol.Statistic    `cbor:"14,keyasint,omitempty"`
	Outputs     []protocol.FileRecord   `cbor:"15,keyasint,omitempty"`
	Modules     []protocol.ModuleResult `cbor:"16,keyasint,omitempty"`
	Log         protocol.LogRecord      `cbor:"17,keyasint,omitempty"`
	Granted     RecordTime              `cbor:"18,keyasint"`
	GrantedWall UnixMillis              `cbor:"19,keyasint"`
	StartedUnix int64                   `cbor:"20,keyasint,omitempty"`
	EndedUnix   int64                   `cbor:"21,keyasint,omitempty"`
	// Remove are checkpoints that nobody needs any more.
	Remove []protocol.FileRecord `cbor:"22,keyasint,omitempty"`
}

// AttemptCleaned says that an accepted attempt's task went from copied to ok.
type AttemptCleaned struct {
	Lease protocol.LeaseID `cbor:"1,keyasint"`
	Task  protocol.TaskID  `cbor:"2,keyasint"`
	// Uncleaned says that the pilot never said so: it vanished after its report was
	// accepted. Its outputs are where the report recorded them.
	Uncleaned bool `cbor:"3,keyasint,omitempty"`
}

// AttemptsWithdrawn takes back the accepted attempts of a task in these jobs:
// their statistics and files no longer count.
type AttemptsWithdrawn struct {
	Dataset protocol.DatasetID  `cbor:"1,keyasint"`
	Task    protocol.TaskIndex  `cbor:"2,keyasint"`
	Jobs    []protocol.JobRange `cbor:"3,keyasint"`
}

// UsageWasted gives the usage of an attempt that had ended before its report
// came. At most one per lease.
type UsageWasted struct {
	Lease protocol.LeaseID `cbor:"1,keyasint"`
	Task  protocol.TaskID  `cbor:"2,keyasint"`
	Pilot protocol.PilotID `cbor:"3,keyasint"`
	Site  protocol.SiteID  `cbor:"4,keyasint"`
	Usage protocol.Usage   `cbor:"5,keyasint"`
}

// TasksReleased says that tasks may be pulled that could not be before this
// entry. It wakes parked pilots: at most Count, and only those for which Fits
// says so.
type TasksReleased struct {
	Dataset      protocol.DatasetID    `cbor:"1,keyasint"`
	Task         protocol.TaskIndex    `cbor:"2,keyasint"`
	Count        uint64                `cbor:"3,keyasint"`
	Requirements protocol.Requirements `cbor:"4,keyasint"`
	Sites        SiteRule              `cbor:"5,keyasint"`
}

// JobFinished says that nothing more will happen in a job by itself.
type JobFinished struct {
	Dataset protocol.DatasetID `cbor:"1,keyasint"`
	Job     protocol.JobIndex  `cbor:"2,keyasint"`
	State   protocol.JobState  `cbor:"3,keyasint"` // ok or error
	// Remove are the job's temp files; empty unless the job is ok.
	Remove []protocol.FileRecord `cbor:"4,keyasint,omitempty"`
}

// DatasetFinished says that every job is ok or in error.
type DatasetFinished struct {
	Dataset protocol.DatasetID    `cbor:"1,keyasint"`
	State   protocol.DatasetState `cbor:"2,keyasint"` // complete or errors
}

// PilotEnrolled says that a pilot joined.
type PilotEnrolled struct {
	Pilot     protocol.PilotID   `cbor:"1,keyasint"`
	Site      protocol.SiteID    `cbor:"2,keyasint"`
	Launch    protocol.LaunchID  `cbor:"3,keyasint,omitempty"`
	Host      string             `cbor:"4,keyasint,omitempty"`
	BatchID   string             `cbor:"5,keyasint,omitempty"`
	Resources protocol.Resources `cbor:"6,keyasint"`
	Version   string             `cbor:"7,keyasint,omitempty"`
}

// PilotChanged says that a pilot was told to drain, or to go on.
type PilotChanged struct {
	Pilot    protocol.PilotID `cbor:"1,keyasint"`
	Site     protocol.SiteID  `cbor:"2,keyasint"`
	Draining bool             `cbor:"3,keyasint,omitempty"`
}

// PilotLeft says that a pilot ended.
type PilotLeft struct {
	Pilot    protocol.PilotID `cbor:"1,keyasint"`
	Site     protocol.SiteID  `cbor:"2,keyasint"`
	Verdict  protocol.Verdict `cbor:"3,keyasint"` // preempted, lost, or withdrawn for a revoked one
	Reason   string           `cbor:"4,keyasint,omitempty"`
	Enrolled RecordTime       `cbor:"5,keyasint"`
}

// SiteChanged gives a site as it now stands; Removed says that it is gone.
type SiteChanged struct {
	Site      protocol.SiteID `cbor:"1,keyasint"`
	Suspended bool            `cbor:"2,keyasint,omitempty"`
	Revoked   bool            `cbor:"3,keyasint,omitempty"`
	Removed   bool            `cbor:"4,keyasint,omitempty"`
}

// LaunchGranted says that demand was reserved for a pilot job.
type LaunchGranted struct {
	Launch protocol.LaunchID `cbor:"1,keyasint"`
	Site   protocol.SiteID   `cbor:"2,keyasint"`
	Shape  string            `cbor:"3,keyasint"`
}

// LaunchEnded says that a launch lease ended.
type LaunchEnded struct {
	Launch protocol.LaunchID `cbor:"1,keyasint"`
	Site   protocol.SiteID   `cbor:"2,keyasint"`
	// Pilot is who enrolled with it; empty where nobody did.
	Pilot  protocol.PilotID `cbor:"3,keyasint,omitempty"`
	Reason string           `cbor:"4,keyasint,omitempty"`
	// Cause is how far that is held against the shape of its pilot jobs.
	Cause EndCause `cbor:"5,keyasint,omitempty"`
}

// ActionTaken is the audit record of one control action.
type ActionTaken struct {
	By Action `cbor:"1,keyasint"`
	// Verb is the action in a word, Object what it was done to.
	Verb   string `cbor:"2,keyasint"`
	Object string `cbor:"3,keyasint,omitempty"`
	// Code is CodeOK, or why it was refused.
	Code   protocol.Code `cbor:"4,keyasint,omitempty"`
	Answer string        `cbor:"5,keyasint,omitempty"`
	Moved  Moved         `cbor:"6,keyasint"`
}

// CheckpointTaken asks the node to hash the record as it is after this entry.
type CheckpointTaken struct{}

// FormatRaised says that the state's format is now Format.
type FormatRaised struct {
	Format uint32 `cbor:"1,keyasint"`
}

// LeaderChanged is raised by the first entry of each leader.
type LeaderChanged struct {
	Term uint64 `cbor:"1,keyasint"`
	// Step is by how much the new leader's wall clock is ahead of the record's last
	// stamp, negative where it is behind.
	Step RecordTime `cbor:"2,keyasint"`
	// Clamped says that Step was below -MaxWallBack or above MaxWallStep: clocks need
	// an operator's look.
	Clamped bool `cbor:"3,keyasint,omitempty"`
}

// TokenChanged says that a token, join token or user was made, used or ended;
// caches of identities must look again.
type TokenChanged struct {
	Hash protocol.Digest `cbor:"1,keyasint"`
	User protocol.UserID `cbor:"2,keyasint,omitempty"`
}

// MemberChanged gives a coordinator as it now stands; Removed says that it left for
// good. Since format 2.
type MemberChanged struct {
	Node    protocol.NodeID `cbor:"1,keyasint"`
	Address string          `cbor:"2,keyasint,omitempty"`
	Raft    string          `cbor:"3,keyasint,omitempty"`
	Removed bool            `cbor:"4,keyasint,omitempty"`
}

// NodeChanged gives the standing of a node, or of its GPUs; a State of zero is a
// good one. A node that is only watched is in good standing.
type NodeChanged struct {
	Site   protocol.SiteID `cbor:"1,keyasint"`
	Host   string          `cbor:"2,keyasint"`
	Part   NodePart        `cbor:"3,keyasint,omitempty"`
	State  NodeState       `cbor:"4,keyasint,omitempty"`
	Until  RecordTime      `cbor:"5,keyasint,omitempty"`
	Reason string          `cbor:"6,keyasint,omitempty"`
}
