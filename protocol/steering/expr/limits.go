package expr

import (
	"errors"
	"fmt"
)

// The bounds of one expansion. They are far above what production files use
// (a few dozen steps) and far below what would hurt the process that expands.
const (
	// MaxDepth is how deep phrases nest, and how long a chain of parameters
	// that name each other is. Source: the public IceProd's depth.
	MaxDepth = 20
	// MaxSteps is how many phrases and operations one expansion performs.
	MaxSteps = 100_000
	// MaxString is the longest text, in bytes.
	MaxString = 64 << 10
	// MaxIntBits is the largest integer's size.
	MaxIntBits = 4096

	// bytesPerStep charges long texts, so that the steps bound memory too.
	bytesPerStep = 64
	// maxNesting is how deep parentheses and operators of one $eval nest.
	maxNesting = 100
)

// ErrLimit is wrapped by every refusal that comes from a bound above, not from
// the expression's meaning.
var ErrLimit = errors.New("limit of expressions")

// budget counts what an expansion may still spend.
type budget struct {
	steps int
}

func newBudget() *budget { return &budget{steps: MaxSteps} }

// step spends one step.
func (b *budget) step() error { return b.spend(1) }

func (b *budget) spend(n int) error {
	if b.steps -= n; b.steps < 0 {
		return fmt.Errorf("%w: more than %d steps", ErrLimit, MaxSteps)
	}
	return nil
}

// bytes spends for a text of n bytes that is about to be made.
func (b *budget) bytes(n int) error {
	if n > MaxString {
		return fmt.Errorf("%w: text longer than %d bytes", ErrLimit, MaxString)
	}
	return b.spend(n / bytesPerStep)
}
