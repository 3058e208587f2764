package main

import (
	"context"
	"errors"
	"fmt"

	"floe/protocol"
)

// The exit codes are a contract with scripts; docs/commands.md lists them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitDenied      = 4
	exitUnreachable = 5
	exitWaitFailed  = 6
	exitCorrupt     = 74 // a store did not pass its preflight (EX_IOERR)
	exitTimeout     = 124
	exitInterrupted = 130
)

// exitError carries the exit code that belongs to an error.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// withExit attaches an exit code to an error; nil stays nil.
func withExit(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

// usageErrorf is a mistake in how the command was written.
func usageErrorf(format string, args ...any) error {
	return withExit(exitUsage, fmt.Errorf(format, args...))
}

// exitCode is the process's exit code for err.
func exitCode(err error) int {
	var e *exitError
	if err == nil {
		return exitOK
	}
	if errors.As(err, &e) {
		return e.code
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return exitTimeout
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	var refused *protocol.Error
	if errors.As(err, &refused) {
		switch refused.Code {
		case protocol.CodeNotFound:
			return exitNotFound
		case protocol.CodeUnauthorized, protocol.CodeForbidden:
			return exitDenied
		case protocol.CodeNotLeader, protocol.CodeUnknown, protocol.CodeBusy, protocol.CodeReadOnly:
			return exitUnreachable
		}
		return exitFailure
	}
	return exitFailure
}
