package payload

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// DrainWithin is an ErrDrain by somebody who gives a payload time to save its work, or
// to come to its end.
type DrainWithin struct {
	grace time.Duration
	once  sync.Once
	hurry chan struct{}
}

// NewDrainWithin gives payloads so much time.
func NewDrainWithin(grace time.Duration) *DrainWithin {
	return &DrainWithin{grace: grace, hurry: make(chan struct{})}
}

func (d *DrainWithin) Error() string { return fmt.Sprintf("the pilot leaves within %v", d.grace) }

// Is makes it an ErrDrain.
func (d *DrainWithin) Is(target error) bool { return target == ErrDrain }

// Hurry takes the time back: from now on, payloads have as much as for any drain.
func (d *DrainWithin) Hurry() { d.once.Do(func() { close(d.hurry) }) }

// hurried is closed when a payload that was given time has no more of it; nil for
// other causes.
func hurried(cause error) <-chan struct{} {
	if d := drainWithin(cause); d != nil {
		return d.hurry
	}
	return nil
}

// graceOf is how long a payload may take because of a cause; zero where it is as ever.
func graceOf(cause error) time.Duration {
	d := drainWithin(cause)
	if d == nil {
		return 0
	}
	select {
	case <-d.hurry:
		return 0
	default:
		return d.grace
	}
}

func drainWithin(cause error) *DrainWithin {
	var d *DrainWithin
	errors.As(cause, &d)
	return d
}
