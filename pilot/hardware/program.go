package hardware

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// probeTime bounds each program and each mount that is asked. nvidia-smi
// takes some seconds on a node whose driver is not kept loaded.
const probeTime = 20 * time.Second

// testTime bounds the test of a card. Several at once wait for each other while a
// driver that is not kept loaded starts them.
const testTime = time.Minute

// errNoAnswer: a program or a mount took longer than it may.
var errNoAnswer = errors.New("no answer")

// late says why waiting ended: the caller gave up, or there was no answer.
func late(ctx context.Context, limit time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%w in %v", errNoAnswer, limit)
}

// runFor runs programs of the node, each for at most limit.
func runFor(limit time.Duration) Runner {
	return func(ctx context.Context, name string, args ...string) ([]byte, error) {
		return run(ctx, limit, name, args...)
	}
}

func run(caller context.Context, limit time.Duration, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(caller, limit)
	defer cancel()
	type answer struct {
		out []byte
		err error
	}
	// A client in an uninterruptible call of its driver cannot be killed, and
	// waiting for it would not end: its goroutine is left behind.
	done := make(chan answer, 1)
	go func() {
		c := exec.CommandContext(ctx, name, args...)
		c.WaitDelay = time.Second
		out, err := c.Output()
		done <- answer{out, err}
	}()
	var a answer
	select {
	case a = <-done:
	case <-ctx.Done():
		grace := time.NewTimer(2 * time.Second)
		defer grace.Stop()
		select {
		case a = <-done:
		case <-grace.C:
			return nil, fmt.Errorf("%s: %w, and it cannot be killed", name, late(caller, limit))
		}
	}
	if ctx.Err() != nil && a.err != nil {
		return a.out, fmt.Errorf("%s: %w", name, late(caller, limit))
	}
	var exit *exec.ExitError
	if errors.As(a.err, &exit) {
		return a.out, fmt.Errorf("%s: %w: %s", name, a.err, firstLine(string(exit.Stderr)+string(a.out)))
	}
	return a.out, a.err
}

// within calls what may hang, and waits no longer than probeTime. A call that hangs in
// the kernel is left behind with its goroutine.
func within[T any](caller context.Context, call func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(caller, probeTime)
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		v, err := call()
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, late(caller, probeTime)
	}
}
