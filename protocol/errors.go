package protocol

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is why a request was not served. The set is closed and append-only; each
// code carries its advice.
type Code uint8

// The wire errors. The numbers are part of the wire.
const (
	CodeOK           Code = iota // served
	CodeBadRequest               // the request itself is wrong: never repeat it unchanged
	CodeUnauthorized             // who are you: enrol, join or log in
	CodeForbidden                // you may not
	CodeNotFound                 // no such thing
	CodeConflict                 // the thing is in another state, or a key was reused with another content
	CodeStale                    // the lease is no longer current: stop, drop the result
	CodeTooLarge                 // over a limit that the message names
	CodeBusy                     // admission limit or watermark: repeat after Retry-After
	CodeNotLeader                // repeat at the leader named in the error
	CodeUnknown                  // fate unknown: repeat the same request, it is idempotent
	CodeInternal                 // a defect of floe; the log of the coordinator has more
	CodeReadOnly                 // nothing is written until the coordinators agree again: repeat later
)

var codes = [...]struct {
	text   string
	status int
	advice string
}{
	CodeOK:           {"ok", http.StatusOK, ""},
	CodeBadRequest:   {"bad-request", http.StatusUnprocessableEntity, "correct the request"},
	CodeUnauthorized: {"unauthorized", http.StatusUnauthorized, "enrol, join or log in again"},
	CodeForbidden:    {"forbidden", http.StatusForbidden, "ask an operator for the role"},
	CodeNotFound:     {"not-found", http.StatusNotFound, "check the name"},
	CodeConflict:     {"conflict", http.StatusConflict, "look at the present state first"},
	CodeStale:        {"stale", http.StatusGone, "stop and drop the result"},
	CodeTooLarge:     {"too-large", http.StatusRequestEntityTooLarge, "send less"},
	CodeBusy:         {"busy", http.StatusTooManyRequests, "repeat later"},
	CodeNotLeader:    {"not-leader", http.StatusMisdirectedRequest, "repeat at the leader"},
	CodeUnknown:      {"unknown", http.StatusServiceUnavailable, "repeat the same request"},
	CodeInternal:     {"internal", http.StatusInternalServerError, "tell the operator"},
	CodeReadOnly:     {"read-only", http.StatusServiceUnavailable, "tell the operator, and repeat later"},
}

func (c Code) String() string {
	if int(c) >= len(codes) {
		return fmt.Sprintf("code %d", c)
	}
	return codes[c].text
}

// Advice says what the caller should do.
func (c Code) Advice() string {
	if int(c) >= len(codes) {
		return codes[CodeInternal].advice
	}
	return codes[c].advice
}

// HTTPStatus is the status the code travels under.
func (c Code) HTTPStatus() int {
	if int(c) >= len(codes) {
		return http.StatusInternalServerError
	}
	return codes[c].status
}

// Retryable tells whether repeating the same request may help.
func (c Code) Retryable() bool {
	return c == CodeBusy || c == CodeNotLeader || c == CodeUnknown || c == CodeReadOnly
}

// MarshalText writes the code's word.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the code's word; a word this build does not know is CodeInternal.
func (c *Code) UnmarshalText(b []byte) error {
	for i := range codes {
		if codes[i].text == string(b) {
			*c = Code(i)
			return nil
		}
	}
	*c = CodeInternal
	return nil
}

// Error is a refusal as it travels: its JSON form is an RFC 9457 problem
// document, its CBOR form has integer keys.
type Error struct {
	Code    Code   `cbor:"1,keyasint" json:"code"`
	Message string `cbor:"2,keyasint" json:"detail"`
	// Leader is host:port of the leader, for CodeNotLeader.
	Leader string `cbor:"3,keyasint,omitempty" json:"leader,omitempty"`
	// RetryAfter is how long to wait, for CodeBusy.
	RetryAfter Seconds `cbor:"4,keyasint,omitempty" json:"retry_after,omitempty"`
	// Details are further messages, such as every problem of a steering file.
	Details []string `cbor:"5,keyasint,omitempty" json:"errors,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Is matches another *Error by code, so that errors.Is(err, &Error{Code: CodeStale}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == ""
}

// Errorf makes an *Error of the code.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Message: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of err: that of the *Error in its chain, CodeOK for
// nil, CodeInternal otherwise.
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
