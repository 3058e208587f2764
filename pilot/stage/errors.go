package stage

import (
	"errors"
	"fmt"
	"syscall"

	"floe/protocol"
)

// Whose fault a failed transfer is.
var (
	// ErrInput: the input is missing at its source or its bytes are wrong.
	ErrInput = errors.New("bad input")
	// ErrOutput: the payload did not leave the file it should, or left something else there.
	ErrOutput = errors.New("missing output")
	// ErrTooLarge: the payload left more than it may.
	ErrTooLarge = errors.New("output too large")
	// ErrStorage: the storage area cannot be reached, refuses, or lost what it took.
	ErrStorage = errors.New("storage failed")
	// ErrNode: the node's own disk failed or is full.
	ErrNode = errors.New("local disk failed")
	// ErrUnsupported: no scheme for the URL, or no program for the compression.
	ErrUnsupported = errors.New("not supported")
)

// fault attaches a class to an error that has none yet.
func fault(class, err error) error {
	for _, c := range []error{ErrInput, ErrOutput, ErrTooLarge, ErrStorage, ErrNode, ErrUnsupported} {
		if err == nil || errors.Is(err, c) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", class, err)
}

// faults are the verdicts of errors; the first row that applies counts.
var faults = []struct {
	err     error
	verdict protocol.Verdict
}{
	{ErrUnsupported, protocol.VerdictPayload},
	{ErrOutput, protocol.VerdictPayload},
	{ErrTooLarge, protocol.VerdictPayload},
	{ErrInput, protocol.VerdictData},
	{ErrStorage, protocol.VerdictSite},
	{syscall.ENOSPC, protocol.VerdictDisk},
	{syscall.EDQUOT, protocol.VerdictDisk},
	{ErrNode, protocol.VerdictNode},
}

// Verdict says whose fault an error of this package is; 0 for any other error.
func Verdict(err error) protocol.Verdict {
	for _, row := range faults {
		if errors.Is(err, row.err) {
			return row.verdict
		}
	}
	return 0
}
