package state

import "floe/protocol"

// PutUser makes a person known or changes role, group and password.
type PutUser struct {
	By   Action          `cbor:"1,keyasint"`
	User protocol.UserID `cbor:"2,keyasint"`
	// Role is viewer, producer, operator or admin.
	Role   string             `cbor:"3,keyasint"`
	Groups []protocol.GroupID `cbor:"4,keyasint,omitempty"`
	// PasswordHash is the encoded hash; nil leaves it, empty forbids password logins.
	PasswordHash *string `cbor:"5,keyasint,omitempty"`
	Disabled     bool    `cbor:"6,keyasint,omitempty"`
}

// RemoveUser forgets a person and revokes every token of theirs.
type RemoveUser struct {
	By   Action          `cbor:"1,keyasint"`
	User protocol.UserID `cbor:"2,keyasint"`
}

// PutToken records an opaque token by its digest.
type PutToken struct {
	By   Action          `cbor:"1,keyasint"`
	Hash protocol.Digest `cbor:"2,keyasint"`
	User protocol.UserID `cbor:"3,keyasint"`
	Role string          `cbor:"4,keyasint"`
	// Expires is when it ends; zero is never.
	Expires     RecordTime `cbor:"5,keyasint,omitempty"`
	Description string     `cbor:"6,keyasint,omitempty"`
}

// RevokeToken ends a token, or a join token, by its digest.
type RevokeToken struct {
	By   Action          `cbor:"1,keyasint"`
	Hash protocol.Digest `cbor:"2,keyasint"`
}

// JoinKind is what a join token invites.
type JoinKind uint8

// The kinds. The numbers are part of the log.
const (
	JoinSite JoinKind = iota + 1
	JoinCoordinator
)

var joinKinds = [...]string{"", "site", "coordinator"}

func (k JoinKind) String() string {
	if k == 0 || int(k) >= len(joinKinds) {
		return "invalid join kind"
	}
	return joinKinds[k]
}

// PutJoinToken records an invitation by its digest.
type PutJoinToken struct {
	By   Action          `cbor:"1,keyasint"`
	Hash protocol.Digest `cbor:"2,keyasint"`
	For  JoinKind        `cbor:"3,keyasint"`
	// Name is the site or coordinator that may join.
	Name    string     `cbor:"4,keyasint"`
	Uses    uint32     `cbor:"5,keyasint"`
	Expires RecordTime `cbor:"6,keyasint"`
}

// UseJoinToken spends one use of an invitation. A site's makes the site known.
// The same Holder may repeat it: it is answered as at first.
type UseJoinToken struct {
	Hash protocol.Digest `cbor:"1,keyasint"`
	For  JoinKind        `cbor:"2,keyasint"`
	// Holder is the digest of the public key that the joiner will be certified for.
	Holder protocol.Digest `cbor:"3,keyasint"`
	From   string          `cbor:"4,keyasint,omitempty"`
}

// Kind returns the command's number in the log.
func (*PutUser) Kind() Kind { return KindPutUser }

// Kind returns the command's number in the log.
func (*RemoveUser) Kind() Kind { return KindRemoveUser }

// Kind returns the command's number in the log.
func (*PutToken) Kind() Kind { return KindPutToken }

// Kind returns the command's number in the log.
func (*RevokeToken) Kind() Kind { return KindRevokeToken }

// Kind returns the command's number in the log.
func (*PutJoinToken) Kind() Kind { return KindPutJoinToken }

// Kind returns the command's number in the log.
func (*UseJoinToken) Kind() Kind { return KindUseJoinToken }
