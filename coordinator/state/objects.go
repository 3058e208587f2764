package state

import "floe/protocol"

// LeaseState is where a lease stands in the record. Phases are leader memory.
type LeaseState uint8

// The states of a lease that has not ended.
const (
	Live   LeaseState = iota + 1 // its holder works; its task is processing
	Lapsed                       // its holder fell silent; its task is queued and may be claimed
	Copied                       // its report was accepted; its holder cleans up
)

// Lease is one current attempt. A task has at most one.
type Lease struct {
	ID      protocol.LeaseID `cbor:"1,keyasint"`
	Task    protocol.TaskID  `cbor:"2,keyasint"`
	State   LeaseState       `cbor:"3,keyasint"`
	Attempt uint32           `cbor:"4,keyasint"`
	Pilot   protocol.PilotID `cbor:"5,keyasint"`
	Site    protocol.SiteID  `cbor:"6,keyasint"`
	// Nonce is that of the granting entry; the passkey is derived from it.
	Nonce   Nonce      `cbor:"7,keyasint"`
	Granted RecordTime `cbor:"8,keyasint"`
	Wall    UnixMillis `cbor:"9,keyasint"`
	// Parents are the accepted attempts whose outputs this one reads, in the order of
	// the task's parents.
	Parents []protocol.LeaseID `cbor:"10,keyasint,omitempty"`
	// Shape is which shape of the requirements was granted: 0 is the first, others
	// are alternatives counted from 1.
	Shape uint8 `cbor:"11,keyasint,omitempty"`
	// Counted is what it takes of its site, where the site's policy has it counted.
	Counted *SiteUse `cbor:"12,keyasint,omitempty"`
}

// Pilot is one pilot process.
type Pilot struct {
	ID        protocol.PilotID   `cbor:"1,keyasint"`
	Site      protocol.SiteID    `cbor:"2,keyasint"`
	Launch    protocol.LaunchID  `cbor:"3,keyasint,omitempty"`
	PublicKey []byte             `cbor:"4,keyasint"`
	Host      string             `cbor:"5,keyasint,omitempty"`
	BatchID   string             `cbor:"6,keyasint,omitempty"`
	Resources protocol.Resources `cbor:"7,keyasint"`
	Version   string             `cbor:"8,keyasint,omitempty"`
	Enrolled  RecordTime         `cbor:"9,keyasint"`
	Wall      UnixMillis         `cbor:"10,keyasint"`
	Draining  bool               `cbor:"11,keyasint,omitempty"`
	Revoked   bool               `cbor:"12,keyasint,omitempty"`
	// Left is when the pilot ended, zero while it runs. It is remembered for
	// PilotMemory, so that spooled reports can be answered.
	Left RecordTime `cbor:"13,keyasint,omitempty"`
	// Leases are the tasks it holds, oldest lease first.
	Leases []HeldTask `cbor:"14,keyasint,omitempty"`
	// Sequence is that of its last Acquire which was granted something.
	Sequence uint64 `cbor:"15,keyasint,omitempty"`
	// Ended are leases that ended otherwise than by the pilot's own report, oldest
	// first, at most MaxEnded.
	Ended []EndedLease `cbor:"16,keyasint,omitempty"`

	gen generation
}

// HeldTask is one task a pilot holds.
type HeldTask struct {
	Lease protocol.LeaseID `cbor:"1,keyasint"`
	Task  protocol.TaskID  `cbor:"2,keyasint"`
	// Sequence is that of the Acquire it answered.
	Sequence uint64 `cbor:"3,keyasint,omitempty"`
}

// EndedLease is a lease that was taken from its pilot.
type EndedLease struct {
	Lease protocol.LeaseID `cbor:"1,keyasint"`
	// Counted says that a late report's usage was counted as waste.
	Counted bool `cbor:"2,keyasint,omitempty"`
}

// Site is one site of the federation.
type Site struct {
	ID          protocol.SiteID `cbor:"1,keyasint"`
	Suspended   bool            `cbor:"2,keyasint,omitempty"`
	Revoked     bool            `cbor:"3,keyasint,omitempty"`
	Description string          `cbor:"4,keyasint,omitempty"`
	Joined      UnixMillis      `cbor:"5,keyasint"`
	// Holder is the digest of the public key it joined with; zero for a site that an
	// operator made by hand.
	Holder   protocol.Digest `cbor:"6,keyasint"`
	Pilots   uint64          `cbor:"7,keyasint,omitempty"` // running
	Launches uint64          `cbor:"8,keyasint,omitempty"` // granted and not enrolled
	Leases   uint64          `cbor:"9,keyasint,omitempty"` // live, lapsed and copied
	// Shapes are the kinds of its pilot jobs, by name; at most protocol.MaxShapes. Since
	// format 2, like all that follows.
	Shapes []Shape `cbor:"10,keyasint,omitempty"`
	// Policy is the site's own, nil for none, put by the entry PolicyIndex; it is never
	// changed, only replaced. Use is counted where the policy asks for it.
	Policy      *protocol.SitePolicy `cbor:"11,keyasint,omitempty"`
	PolicyIndex uint64               `cbor:"12,keyasint,omitempty"`
	Use         SiteUse              `cbor:"13,keyasint,omitzero"`
	// Opening is what its hours and downtimes are; the entry OpeningIndex opened or
	// closed it last.
	Opening      Opening `cbor:"14,keyasint,omitzero"`
	OpeningIndex uint64  `cbor:"15,keyasint,omitempty"`
	// Own is the standing order of its own people, Central that of operators.
	Own     *SiteOrder `cbor:"16,keyasint,omitempty"`
	Central *SiteOrder `cbor:"17,keyasint,omitempty"`

	gen generation
}

// Launch is one launch lease: demand reserved for one pilot job.
type Launch struct {
	ID         protocol.LaunchID  `cbor:"1,keyasint"`
	Site       protocol.SiteID    `cbor:"2,keyasint"`
	Shape      string             `cbor:"3,keyasint"`
	Offer      protocol.Resources `cbor:"4,keyasint"`
	TicketHash protocol.Digest    `cbor:"5,keyasint"`
	Granted    RecordTime         `cbor:"6,keyasint"`
	// Expires is when it ends if no pilot has enrolled.
	Expires RecordTime `cbor:"7,keyasint"`
	// Pilot is who enrolled with it; empty before.
	Pilot protocol.PilotID `cbor:"8,keyasint,omitempty"`
}

// Ticket lets pilots enrol that no glidein launched.
type Ticket struct {
	Hash    protocol.Digest `cbor:"1,keyasint"`
	Site    protocol.SiteID `cbor:"2,keyasint"`
	Uses    uint32          `cbor:"3,keyasint"` // left
	Expires RecordTime      `cbor:"4,keyasint"`
}

// User is one person.
type User struct {
	ID           protocol.UserID    `cbor:"1,keyasint"`
	Role         string             `cbor:"2,keyasint"`
	Groups       []protocol.GroupID `cbor:"3,keyasint,omitempty"`
	PasswordHash string             `cbor:"4,keyasint,omitempty"`
	Disabled     bool               `cbor:"5,keyasint,omitempty"`
	Created      UnixMillis         `cbor:"6,keyasint"`
}

// Token is one opaque token of a person, known by its digest only.
type Token struct {
	Hash        protocol.Digest `cbor:"1,keyasint"`
	User        protocol.UserID `cbor:"2,keyasint"`
	Role        string          `cbor:"3,keyasint"`
	Expires     RecordTime      `cbor:"4,keyasint,omitempty"` // zero is never
	Created     UnixMillis      `cbor:"5,keyasint"`
	Description string          `cbor:"6,keyasint,omitempty"`
}

// JoinToken is one invitation.
type JoinToken struct {
	Hash    protocol.Digest `cbor:"1,keyasint"`
	For     JoinKind        `cbor:"2,keyasint"`
	Name    string          `cbor:"3,keyasint"`
	Uses    uint32          `cbor:"4,keyasint"` // left
	Expires RecordTime      `cbor:"5,keyasint"`
	// Holders have used it.
	Holders []protocol.Digest `cbor:"6,keyasint,omitempty"`
}
