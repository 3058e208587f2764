package state

import "floe/protocol"

// Answer is what one command of an entry is answered. Fields beyond Code and
// Reason are set by the commands that name them.
type Answer struct {
	Code protocol.Code
	// Reason says in a sentence why a command was refused, or which kind of OK it is.
	Reason string
	// Grants are the leases an Acquire was given.
	Grants []Grant
	// Dataset is the number a SubmitDataset was given.
	Dataset protocol.DatasetID
	// Moved counts what ResetTasks, SuspendTasks and ResumeTasks moved.
	Moved Moved
	// Name is the site or coordinator of a UseJoinToken.
	Name string
}

// Moved counts the effects of a control action.
type Moved struct {
	Tasks uint64 `cbor:"1,keyasint,omitempty"` // moved in all
	// Relatives were not selected but moved because a relative was reset.
	Relatives uint64 `cbor:"2,keyasint,omitempty"`
	Leases    uint64 `cbor:"3,keyasint,omitempty"` // running attempts ended
	Accepted  uint64 `cbor:"4,keyasint,omitempty"` // accepted attempts withdrawn
}

// Grant is one new lease.
type Grant struct {
	Lease Lease
	// Granted are the requirements for this attempt, raised after resource verdicts.
	Granted protocol.Requirements
	Facts   *Facts // of the dataset; shared, never changed
	Task    *TaskSpec
	Jobs    uint32
	// Earlier is the checkpoint that an earlier attempt has left; nil starts anew.
	Earlier *protocol.FileRecord
}

// Err returns the answer as a wire error, nil for CodeOK.
func (a *Answer) Err() error {
	if a.Code == protocol.CodeOK {
		return nil
	}
	return protocol.Errorf(a.Code, "%s", a.Reason)
}

func refuse(c protocol.Code, reason string) Answer { return Answer{Code: c, Reason: reason} }
