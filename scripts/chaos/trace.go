package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// trace is the story of a run, with times since its beginning. It may be told from
// several goroutines.
type trace struct {
	began time.Time

	mu       sync.Mutex
	out      io.Writer // guarded by mu
	failures []string  // guarded by mu
}

// note tells what happened.
func (t *trace) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%8.2f  %s\n", time.Since(t.began).Seconds(), fmt.Sprintf(format, args...))
}

// maxFailures bounds what is told of a run that has gone wrong.
const maxFailures = 50

// fail tells what must not happen; the run goes on and fails at its end.
func (t *trace) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.mu.Lock()
	t.failures = append(t.failures, text)
	n := len(t.failures)
	t.mu.Unlock()
	if n <= maxFailures {
		t.note("FAIL %s", text)
	}
}

// failed are the failures so far.
func (t *trace) failed() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failures
}
