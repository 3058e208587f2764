package state

import "floe/protocol"

// PutSite makes a site known or changes what the record holds of it.
type PutSite struct {
	By   Action          `cbor:"1,keyasint"`
	Site protocol.SiteID `cbor:"2,keyasint"`
	// Suspended stops launches and leases at the site; what runs may finish.
	Suspended bool `cbor:"3,keyasint,omitempty"`
	// Description is free text for people.
	Description string `cbor:"4,keyasint,omitempty"`
}

// RemoveSite forgets a site. It is refused with CodeConflict while the site has
// pilots or launches.
type RemoveSite struct {
	By   Action          `cbor:"1,keyasint"`
	Site protocol.SiteID `cbor:"2,keyasint"`
}

// PutTicket lets pilots that no glidein launched enrol at a site.
type PutTicket struct {
	By   Action          `cbor:"1,keyasint"`
	Hash protocol.Digest `cbor:"2,keyasint"`
	Site protocol.SiteID `cbor:"3,keyasint"`
	// Uses is how many pilots may enrol with it, at least 1.
	Uses    uint32     `cbor:"4,keyasint"`
	Expires RecordTime `cbor:"5,keyasint"`
}

// GrantLaunches reserves demand for pilot jobs that a glidein pass will submit.
type GrantLaunches struct {
	Site     protocol.SiteID `cbor:"1,keyasint"`
	Launches []NewLaunch     `cbor:"2,keyasint"`
}

// NewLaunch is one launch lease to grant.
type NewLaunch struct {
	ID    protocol.LaunchID  `cbor:"1,keyasint"`
	Shape string             `cbor:"2,keyasint"`
	Offer protocol.Resources `cbor:"3,keyasint"`
	// TicketHash is the digest of the ticket the pilot will enrol with, once.
	TicketHash protocol.Digest `cbor:"4,keyasint"`
	Expires    RecordTime      `cbor:"5,keyasint"`
}

// EndLaunches ends launch leases whose pilot jobs are gone or unwanted.
// Unknown ones are passed over.
type EndLaunches struct {
	Site     protocol.SiteID     `cbor:"1,keyasint"`
	Launches []protocol.LaunchID `cbor:"2,keyasint"`
	Reason   string              `cbor:"3,keyasint,omitempty"`
	// Cause is how far it is held against their shapes.
	Cause EndCause `cbor:"4,keyasint,omitempty"`
	// Unused passes over those with which a pilot has enrolled.
	Unused bool `cbor:"5,keyasint,omitempty"`
}

// EnrolPilot makes a pilot known, spending its ticket. Enrolling the same pilot
// with the same key again is answered OK and changes nothing.
type EnrolPilot struct {
	Pilot protocol.PilotID `cbor:"1,keyasint"`
	Site  protocol.SiteID  `cbor:"2,keyasint"`
	// Launch is empty for a pilot with a ticket of PutTicket.
	Launch     protocol.LaunchID  `cbor:"3,keyasint,omitempty"`
	TicketHash protocol.Digest    `cbor:"4,keyasint"`
	PublicKey  []byte             `cbor:"5,keyasint"` // Ed25519, 32 bytes
	Host       string             `cbor:"6,keyasint,omitempty"`
	BatchID    string             `cbor:"7,keyasint,omitempty"`
	Resources  protocol.Resources `cbor:"8,keyasint"`
	Version    string             `cbor:"9,keyasint,omitempty"`
}

// DrainPilot stops or restarts giving tasks to a pilot; it keeps what it holds.
type DrainPilot struct {
	By    Action           `cbor:"1,keyasint"`
	Pilot protocol.PilotID `cbor:"2,keyasint"`
	// Undo takes the pilot back into service.
	Undo bool `cbor:"3,keyasint,omitempty"`
}

// LeavePilot ends a pilot. Leases it still held end with Verdict: preempted where
// it said good-bye, lost where it fell silent.
type LeavePilot struct {
	Pilot   protocol.PilotID `cbor:"1,keyasint"`
	Verdict protocol.Verdict `cbor:"2,keyasint"`
	Reason  string           `cbor:"3,keyasint,omitempty"`
}

// RevokePilot bars a pilot and withdraws its leases.
type RevokePilot struct {
	By    Action           `cbor:"1,keyasint"`
	Pilot protocol.PilotID `cbor:"2,keyasint"`
}

// RevokeSite bars a site and all its pilots and ends its launches.
type RevokeSite struct {
	By   Action          `cbor:"1,keyasint"`
	Site protocol.SiteID `cbor:"2,keyasint"`
}

// Acquire asks for tasks that fit what a pilot has free.
type Acquire struct {
	Pilot protocol.PilotID `cbor:"1,keyasint"`
	// Free is bounded by what the pilot registered.
	Free protocol.Resources `cbor:"2,keyasint"`
	// Want is how many leases to grant at most.
	Want uint16 `cbor:"3,keyasint"`
	// Sequence is that of the exchange. A number that was granted something is answered
	// with the leases it was given, as far as they are still live. Zero repeats nothing.
	Sequence uint64 `cbor:"4,keyasint,omitempty"`
	// Ahead is what is granted beyond that, each for what the pilot has in all; nil is
	// nothing.
	Ahead *protocol.Ahead `cbor:"5,keyasint,omitempty"`
}

// Report ends an attempt as its pilot saw it. The server has checked signature
// and passkey. It is idempotent by Lease.
type Report struct {
	Lease      protocol.LeaseID        `cbor:"1,keyasint"`
	Task       protocol.TaskID         `cbor:"2,keyasint"`
	Pilot      protocol.PilotID        `cbor:"3,keyasint"`
	Verdict    protocol.Verdict        `cbor:"4,keyasint"`
	Evidence   string                  `cbor:"5,keyasint,omitempty"`
	ExitCode   int                     `cbor:"6,keyasint,omitempty"`
	Signal     int                     `cbor:"7,keyasint,omitempty"`
	Usage      protocol.Usage          `cbor:"8,keyasint"`
	Statistics []protocol.Statistic    `cbor:"9,keyasint,omitempty"`
	Outputs    []protocol.FileRecord   `cbor:"10,keyasint,omitempty"`
	Modules    []protocol.ModuleResult `cbor:"11,keyasint,omitempty"`
	Log        protocol.LogRecord      `cbor:"12,keyasint,omitempty"`
	Host       string                  `cbor:"13,keyasint,omitempty"`
	// Cleaned says that nothing is left to publish or remove: the task is ok at once.
	// A second report of an accepted lease may carry it later.
	Cleaned     bool   `cbor:"14,keyasint,omitempty"`
	BadInput    string `cbor:"15,keyasint,omitempty"`
	StartedUnix int64  `cbor:"16,keyasint,omitempty"` // seconds, the node's clock
	EndedUnix   int64  `cbor:"17,keyasint,omitempty"`
}

// ReportFrom translates a pilot's report. The passkey stays behind.
func ReportFrom(r *protocol.Report) *Report {
	return &Report{
		Lease: r.Lease, Task: r.Task, Pilot: r.Pilot,
		Verdict: r.Verdict, Evidence: r.Evidence, ExitCode: r.ExitCode, Signal: r.Signal,
		Usage: r.Usage, Statistics: r.Statistics, Outputs: r.Outputs, Modules: r.Modules,
		Log: r.Log, Host: r.Host, Cleaned: r.Cleaned, BadInput: r.BadInput,
		StartedUnix: r.StartedUnix, EndedUnix: r.EndedUnix,
	}
}

// Expire lets a silent lease lapse: its task may be pulled again. It is refused
// where the leader that decided so no longer leads (Term is its term). A lease
// whose task is copied ends instead, and the task is ok though nobody cleaned.
type Expire struct {
	Lease protocol.LeaseID `cbor:"1,keyasint"`
	Task  protocol.TaskID  `cbor:"2,keyasint"`
	Term  uint64           `cbor:"3,keyasint"`
	// Saved is the checkpoint that its pilot said it has stored, for the next attempt;
	// nil where it said nothing.
	Saved *protocol.FileRecord `cbor:"4,keyasint,omitempty"`
}

// Revive makes a lapsed lease live again: its pilot is back and nobody has
// claimed the task. One of a pilot that has left is not revived: nobody would
// renew it. Its report may still come, from a spool.
type Revive struct {
	Lease protocol.LeaseID `cbor:"1,keyasint"`
	Task  protocol.TaskID  `cbor:"2,keyasint"`
}

// Kind returns the command's number in the log.
func (*PutSite) Kind() Kind { return KindPutSite }

// Kind returns the command's number in the log.
func (*RemoveSite) Kind() Kind { return KindRemoveSite }

// Kind returns the command's number in the log.
func (*PutTicket) Kind() Kind { return KindPutTicket }

// Kind returns the command's number in the log.
func (*GrantLaunches) Kind() Kind { return KindGrantLaunches }

// Kind returns the command's number in the log.
func (*EndLaunches) Kind() Kind { return KindEndLaunches }

// Kind returns the command's number in the log.
func (*EnrolPilot) Kind() Kind { return KindEnrolPilot }

// Kind returns the command's number in the log.
func (*DrainPilot) Kind() Kind { return KindDrainPilot }

// Kind returns the command's number in the log.
func (*LeavePilot) Kind() Kind { return KindLeavePilot }

// Kind returns the command's number in the log.
func (*RevokePilot) Kind() Kind { return KindRevokePilot }

// Kind returns the command's number in the log.
func (*RevokeSite) Kind() Kind { return KindRevokeSite }

// Kind returns the command's number in the log.
func (*Acquire) Kind() Kind { return KindAcquire }

// Kind returns the command's number in the log.
func (*Report) Kind() Kind { return KindReport }

// Kind returns the command's number in the log.
func (*Expire) Kind() Kind { return KindExpire }

// Kind returns the command's number in the log.
func (*Revive) Kind() Kind { return KindRevive }
