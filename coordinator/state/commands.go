package state

import (
	"errors"
	"fmt"

	"floe/protocol"
)

// Kind is the number of a command in the log.
type Kind uint8

// The commands. Append only: a number is never changed or used again.
const (
	KindSubmitDataset Kind = 1
	KindAddJobs       Kind = 2
	KindSetDataset    Kind = 3
	KindResetTasks    Kind = 4
	KindSuspendTasks  Kind = 5
	KindResumeTasks   Kind = 6
	KindSkipDatasets  Kind = 7
	KindPutSite       Kind = 8
	KindRemoveSite    Kind = 9
	KindPutTicket     Kind = 10
	KindGrantLaunches Kind = 11
	KindEndLaunches   Kind = 12
	KindEnrolPilot    Kind = 13
	KindDrainPilot    Kind = 14
	KindLeavePilot    Kind = 15
	KindRevokePilot   Kind = 16
	KindRevokeSite    Kind = 17
	KindAcquire       Kind = 18
	KindReport        Kind = 19
	KindExpire        Kind = 20
	KindRevive        Kind = 21
	KindPutUser       Kind = 22
	KindRemoveUser    Kind = 23
	KindPutToken      Kind = 24
	KindRevokeToken   Kind = 25
	KindPutJoinToken  Kind = 26
	KindUseJoinToken  Kind = 27
	KindCheckpoint    Kind = 28
	KindSetFormat     Kind = 29
	KindTick          Kind = 30
	KindPutMember     Kind = 31
	KindRemoveMember  Kind = 32
	KindExcludeNode   Kind = 33
	KindReleaseNode   Kind = 34

	KindPublishSoftware Kind = 35
	KindRetireSoftware  Kind = 36
	KindPutPublisher    Kind = 37
	KindRevokePublisher Kind = 38

	KindPutSitePolicy Kind = 39
	KindSetOpening    Kind = 40
	KindOrderSite     Kind = 41

	KindSetRelease Kind = 42
)

// Command is one change of the record. The structs of this package implement it.
type Command interface {
	Kind() Kind
	// Validate refuses what no state of the record could accept: bad names, numbers
	// out of range, lists over their limits. The leader calls it before a command
	// may enter an entry.
	Validate() error

	apply(*Machine) Answer
}

// ErrUnknownCommand means that the log holds a command this build does not know.
// The node must stop: guessing would make it differ from the others.
var ErrUnknownCommand = errors.New("unknown command: this build is older than the log")

func newCommand(k Kind) Command {
	switch k {
	case KindSubmitDataset:
		return new(SubmitDataset)
	case KindAddJobs:
		return new(AddJobs)
	case KindSetDataset:
		return new(SetDataset)
	case KindResetTasks:
		return new(ResetTasks)
	case KindSuspendTasks:
		return new(SuspendTasks)
	case KindResumeTasks:
		return new(ResumeTasks)
	case KindSkipDatasets:
		return new(SkipDatasets)
	case KindPutSite:
		return new(PutSite)
	case KindRemoveSite:
		return new(RemoveSite)
	case KindPutTicket:
		return new(PutTicket)
	case KindGrantLaunches:
		return new(GrantLaunches)
	case KindEndLaunches:
		return new(EndLaunches)
	case KindEnrolPilot:
		return new(EnrolPilot)
	case KindDrainPilot:
		return new(DrainPilot)
	case KindLeavePilot:
		return new(LeavePilot)
	case KindRevokePilot:
		return new(RevokePilot)
	case KindRevokeSite:
		return new(RevokeSite)
	case KindAcquire:
		return new(Acquire)
	case KindReport:
		return new(Report)
	case KindExpire:
		return new(Expire)
	case KindRevive:
		return new(Revive)
	case KindPutUser:
		return new(PutUser)
	case KindRemoveUser:
		return new(RemoveUser)
	case KindPutToken:
		return new(PutToken)
	case KindRevokeToken:
		return new(RevokeToken)
	case KindPutJoinToken:
		return new(PutJoinToken)
	case KindUseJoinToken:
		return new(UseJoinToken)
	case KindCheckpoint:
		return new(Checkpoint)
	case KindSetFormat:
		return new(SetFormat)
	case KindTick:
		return new(Tick)
	case KindPutMember:
		return new(PutMember)
	case KindRemoveMember:
		return new(RemoveMember)
	case KindExcludeNode:
		return new(ExcludeNode)
	case KindReleaseNode:
		return new(ReleaseNode)
	case KindPublishSoftware:
		return new(PublishSoftware)
	case KindRetireSoftware:
		return new(RetireSoftware)
	case KindSetRelease:
		return new(SetRelease)
	case KindPutPublisher:
		return new(PutPublisher)
	case KindRevokePublisher:
		return new(RevokePublisher)
	case KindPutSitePolicy:
		return new(PutSitePolicy)
	case KindSetOpening:
		return new(SetOpening)
	case KindOrderSite:
		return new(OrderSite)
	}
	return nil
}

// EncodeCommand writes a command as entries hold it: its kind and its CBOR.
func EncodeCommand(c Command) ([]byte, error) {
	b, err := protocol.AppendMarshal(append(make([]byte, 0, 256), byte(c.Kind())), c)
	if err != nil {
		return nil, fmt.Errorf("encode command %d: %w", c.Kind(), err)
	}
	if len(b) > MaxCommandBytes {
		return nil, protocol.Errorf(protocol.CodeTooLarge, "command of %d bytes, limit %d", len(b), MaxCommandBytes)
	}
	return b, nil
}

// DecodeCommand reads what EncodeCommand wrote, strictly.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) == 0 {
		return nil, errors.New("empty command")
	}
	c := newCommand(Kind(b[0]))
	if c == nil {
		return nil, fmt.Errorf("%w: kind %d", ErrUnknownCommand, b[0])
	}
	if err := protocol.Unmarshal(b[1:], c); err != nil {
		return nil, fmt.Errorf("command of kind %d: %w", b[0], err)
	}
	return c, nil
}

// Action says who does something and why. Every command of a person carries one;
// it becomes the audit record (ActionTaken).
type Action struct {
	// Actor is the login name, or a component's name in angle brackets.
	Actor  protocol.UserID `cbor:"1,keyasint,omitempty"`
	Reason string          `cbor:"2,keyasint,omitempty"`
	// From is the address the request came from.
	From string `cbor:"3,keyasint,omitempty"`
	// Key, where not empty, makes the command idempotent: within KeyLifetime the same
	// key gets the first answer again and nothing happens.
	Key string `cbor:"4,keyasint,omitempty"`
}

// Pair is one entry of an ordered map of texts.
type Pair struct {
	_     struct{} `cbor:",toarray"`
	Name  string
	Value string
}

// Class gives the jobs of a task that ask for the same.
type Class struct {
	Requirements protocol.Requirements `cbor:"1,keyasint"`
	// Jobs are the class's jobs, sorted, disjoint. Empty means every job, those added
	// later included; such a class is the only one of its task.
	Jobs []protocol.JobRange `cbor:"2,keyasint,omitempty"`
}

// TaskSpec is one vertex of the job's DAG.
type TaskSpec struct {
	Name string `cbor:"1,keyasint"`
	// Parents are indexes of tasks that stand before this one in the list.
	Parents []protocol.TaskIndex `cbor:"2,keyasint,omitempty"`
	// Classes hold every job exactly once.
	Classes []Class `cbor:"3,keyasint"`
	// Exclusive says that the pilot fences the task itself before its lease ends.
	Exclusive bool `cbor:"4,keyasint,omitempty"`
	// Reproducible says that two attempts must give the same bytes.
	Reproducible bool `cbor:"5,keyasint,omitempty"`
}

// Facts are what a dataset was submitted with and keeps.
type Facts struct {
	Alias           string             `cbor:"1,keyasint,omitempty"`
	Title           string             `cbor:"2,keyasint,omitempty"`
	Description     string             `cbor:"3,keyasint,omitempty"`
	Owner           protocol.UserID    `cbor:"4,keyasint"`
	Group           protocol.GroupID   `cbor:"5,keyasint,omitempty"`
	Parent          protocol.DatasetID `cbor:"6,keyasint,omitempty"`
	Steering        protocol.Digest    `cbor:"7,keyasint"`
	LanguageVersion uint32             `cbor:"8,keyasint"`
	Seed            uint64             `cbor:"9,keyasint"`
	Categories      []string           `cbor:"10,keyasint,omitempty"`
	Labels          []Pair             `cbor:"11,keyasint,omitempty"`
	Options         []Pair             `cbor:"12,keyasint,omitempty"`
	// TempArea is the base URL for temp files whose remote is empty.
	TempArea string `cbor:"13,keyasint,omitempty"`
	// Modules names the protocol.ModulePins of external modules; zero is none.
	Modules protocol.Digest `cbor:"14,keyasint,omitzero"`
	// Software is the bill of software that the tasks may use (protocol/software);
	// zero where they use none of the catalog.
	Software protocol.Digest `cbor:"15,keyasint,omitzero"`
}

// SiteRule says at which sites a dataset may run. Empty Allowed is everywhere.
// Both lists are sorted.
type SiteRule struct {
	Allowed  []protocol.SiteID `cbor:"1,keyasint,omitempty"`
	Excluded []protocol.SiteID `cbor:"2,keyasint,omitempty"`
}

// SubmitDataset makes a dataset. Its size does not depend on Jobs.
// It is refused with CodeConflict where Dataset is not the next number: the
// server then compiles again under the right one.
type SubmitDataset struct {
	By       Action             `cbor:"1,keyasint"`
	Dataset  protocol.DatasetID `cbor:"2,keyasint"`
	Facts    Facts              `cbor:"3,keyasint"`
	Priority int                `cbor:"4,keyasint,omitempty"`
	Sites    SiteRule           `cbor:"5,keyasint"`
	Jobs     uint32             `cbor:"6,keyasint,omitempty"`
	Tasks    []TaskSpec         `cbor:"7,keyasint"`
	// Suspended submits without letting anything run.
	Suspended bool `cbor:"8,keyasint,omitempty"`
}

// AddJobs grows a dataset from From to From+Jobs jobs. It is refused with
// CodeConflict where the dataset does not have From jobs.
type AddJobs struct {
	By      Action             `cbor:"1,keyasint"`
	Dataset protocol.DatasetID `cbor:"2,keyasint"`
	From    uint32             `cbor:"3,keyasint,omitempty"`
	Jobs    uint32             `cbor:"4,keyasint"`
	// Classes give, for each task whose requirements depend on the job, the classes
	// of the new jobs; tasks of one open class are absent.
	Classes []AddedClasses `cbor:"5,keyasint,omitempty"`
}

// AddedClasses are the classes of new jobs of one task.
type AddedClasses struct {
	Task    protocol.TaskIndex `cbor:"1,keyasint,omitempty"`
	Classes []Class            `cbor:"2,keyasint"`
}

// SetDataset changes what a person may change of a dataset. Fields that are nil
// or DatasetUnchanged stay.
type SetDataset struct {
	By       Action             `cbor:"1,keyasint"`
	Dataset  protocol.DatasetID `cbor:"2,keyasint"`
	Verb     DatasetVerb        `cbor:"3,keyasint,omitempty"`
	Priority *int               `cbor:"4,keyasint,omitempty"`
	Sites    *SiteRule          `cbor:"5,keyasint,omitempty"`
}

// DatasetVerb is what SetDataset does to a dataset as a whole.
type DatasetVerb uint8

// The verbs. The numbers are part of the log.
const (
	DatasetUnchanged DatasetVerb = iota
	DatasetSuspend               // nothing more is leased; what runs may finish
	DatasetResume                // undoes suspend
	DatasetRetire                // what runs is withdrawn and nothing is leased ever again
)

// Selection chooses tasks of a dataset. Empty lists choose all.
type Selection struct {
	Dataset protocol.DatasetID   `cbor:"1,keyasint"`
	Jobs    []protocol.JobRange  `cbor:"2,keyasint,omitempty"`
	Tasks   []protocol.TaskIndex `cbor:"3,keyasint,omitempty"`
	States  []protocol.TaskState `cbor:"4,keyasint,omitempty"`
}

// ResetTasks returns the selected tasks to waiting or queued, with fresh retry
// budgets, and ends their leases in the same entry. Descendants of a task that
// was copied or ok are reset with it; in a finished job, whose temp files are
// gone, so are ancestors. States defaults to error.
type ResetTasks struct {
	By     Action    `cbor:"1,keyasint"`
	Select Selection `cbor:"2,keyasint"`
}

// SuspendTasks holds the selected tasks that are not copied or ok and ends
// their leases.
type SuspendTasks struct {
	By     Action    `cbor:"1,keyasint"`
	Select Selection `cbor:"2,keyasint"`
}

// ResumeTasks returns the selected suspended tasks to waiting or queued.
type ResumeTasks struct {
	By     Action    `cbor:"1,keyasint"`
	Select Selection `cbor:"2,keyasint"`
}

// SkipDatasets makes Next the least number a dataset may get: a restored cluster
// skips the numbers that were given out after its backup.
type SkipDatasets struct {
	By   Action             `cbor:"1,keyasint"`
	Next protocol.DatasetID `cbor:"2,keyasint"`
}

// Checkpoint asks every node to hash the record at this entry and to compare.
type Checkpoint struct{}

// SetFormat raises the state's format, once all voters know it.
type SetFormat struct {
	By     Action `cbor:"1,keyasint"`
	Format uint32 `cbor:"2,keyasint"`
}

// Tick does nothing but carry time: the leader proposes one when the log is idle
// and something is due to expire.
type Tick struct{}

// Kind returns the command's number in the log.
func (*SubmitDataset) Kind() Kind { return KindSubmitDataset }

// Kind returns the command's number in the log.
func (*AddJobs) Kind() Kind { return KindAddJobs }

// Kind returns the command's number in the log.
func (*SetDataset) Kind() Kind { return KindSetDataset }

// Kind returns the command's number in the log.
func (*ResetTasks) Kind() Kind { return KindResetTasks }

// Kind returns the command's number in the log.
func (*SuspendTasks) Kind() Kind { return KindSuspendTasks }

// Kind returns the command's number in the log.
func (*ResumeTasks) Kind() Kind { return KindResumeTasks }

// Kind returns the command's number in the log.
func (*SkipDatasets) Kind() Kind { return KindSkipDatasets }

// Kind returns the command's number in the log.
func (*Checkpoint) Kind() Kind { return KindCheckpoint }

// Kind returns the command's number in the log.
func (*SetFormat) Kind() Kind { return KindSetFormat }

// Kind returns the command's number in the log.
func (*Tick) Kind() Kind { return KindTick }
