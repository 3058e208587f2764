package protocol

import (
	"crypto/subtle"
	"log/slog"
)

// Passkey is the temporary secret of one attempt (paper §3.8.3). It is derived
// from the lease outside the record, so a new leader gives the same one, and it
// dies with the lease.
type Passkey string

// Matches compares in constant time; an empty passkey matches nothing.
func (p Passkey) Matches(q Passkey) bool {
	return p != "" && subtle.ConstantTimeCompare([]byte(p), []byte(q)) == 1
}

// LogValue hides the secret from logs.
func (Passkey) LogValue() slog.Value { return slog.StringValue("[passkey]") }

// String hides the secret from fmt, too.
func (Passkey) String() string { return "[passkey]" }

// GoString hides the secret from %#v.
func (Passkey) GoString() string { return "[passkey]" }

// Reveal returns the secret itself, for the one place that puts it on the wire
// or into a request header.
func (p Passkey) Reveal() string { return string(p) }
