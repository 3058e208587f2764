package stage

import (
	"errors"
	"fmt"
)

// Whose fault a failed transfer is.
var (
	// ErrInput: the input is missing at its source or its bytes are wrong.
	ErrInput = errors.New("bad input")
	// ErrOutput: the payload did not leave the file it should, or left something else there.
	ErrOutput = errors.New("missing output")
	// ErrStorage: the storage area cannot be reached, refuses, or lost what it took.
	ErrStorage = errors.New("storage failed")
	// ErrNode: the node's own disk failed or is full.
	ErrNode = errors.New("local disk failed")
	// ErrUnsupported: no scheme for the URL, or no program for the compression.
	ErrUnsupported = errors.New("not supported")
)

// fault attaches a class to an error that has none yet.
func fault(class, err error) error {
	for _, c := range []error{ErrInput, ErrOutput, ErrStorage, ErrNode, ErrUnsupported} {
		if err == nil || errors.Is(err, c) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", class, err)
}
