package batchtest

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Outcome is what became of one promise.
type Outcome struct {
	Part    string        `json:"part"`
	Promise string        `json:"promise"`
	Verdict Verdict       `json:"verdict"`
	Said    []string      `json:"said,omitempty"` // what was expected and what came, or why it was left out
	Took    time.Duration `json:"took"`           // nanoseconds
}

// Verdict is whether a promise was kept.
type Verdict string

// The verdicts.
const (
	Kept    Verdict = "kept"
	Broken  Verdict = "broken"
	LeftOut Verdict = "left out"
)

// Check runs the contract outside of go test and tells what became of each promise,
// as it comes. Its files are in dir. It ends early with ctx. Promises that only a
// fake can be tried for are not tried.
func Check(ctx context.Context, dir string, setup func(t T) Target, tell func(Outcome)) {
	Run(&checker{ctx: ctx, dir: dir, tell: tell}, func(t *checker) Target { return setup(t) })
}

// checker is a T without package testing. Only the goroutine of its part calls it.
type checker struct {
	ctx     context.Context //nolint:containedctx // as testing.T has one
	dir     string
	tell    func(Outcome)
	said    []string
	broken  bool
	leftOut bool
	clean   []func()
}

// Run implements Parent. What is not a part of the contract is one of a part's.
func (c *checker) Run(name string, do func(t *checker)) bool {
	at := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
	if at < 0 || c.ctx.Err() != nil {
		return true // parts of a part break tools, which only a fake lets them
	}
	if parts[at].fake {
		return true
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	one := &checker{ctx: ctx, dir: c.dir}
	start := time.Now()
	one.guard(func() { do(one) })
	cancel()
	for len(one.clean) > 0 {
		last := len(one.clean) - 1
		undo := one.clean[last]
		one.clean = one.clean[:last]
		one.guard(undo)
	}
	o := Outcome{Part: name, Promise: parts[at].promise, Verdict: Kept, Said: one.said, Took: time.Since(start)}
	switch {
	case one.broken:
		o.Verdict = Broken
	case one.leftOut:
		o.Verdict = LeftOut
	}
	c.tell(o)
	return !one.broken
}

// guard runs do in a goroutine, which Fatal and Skip end.
func (c *checker) guard(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				c.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		do()
	}()
	<-done
}

func (c *checker) Helper() {}

func (c *checker) Log(args ...any) {
	c.said = append(c.said, strings.TrimSuffix(fmt.Sprintln(args...), "\n"))
}

func (c *checker) Logf(format string, args ...any) { c.Log(fmt.Sprintf(format, args...)) }

func (c *checker) Error(args ...any) {
	c.broken = true
	c.Log(args...)
}

func (c *checker) Errorf(format string, args ...any) { c.Error(fmt.Sprintf(format, args...)) }

func (c *checker) Fatal(args ...any) {
	c.Error(args...)
	runtime.Goexit()
}

func (c *checker) Fatalf(format string, args ...any) { c.Fatal(fmt.Sprintf(format, args...)) }

func (c *checker) Skip(args ...any) {
	c.leftOut = true
	c.Log(args...)
	runtime.Goexit()
}

func (c *checker) Skipf(format string, args ...any) { c.Skip(fmt.Sprintf(format, args...)) }

func (c *checker) TempDir() string {
	dir, err := os.MkdirTemp(c.dir, "floe-batchtest-")
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (c *checker) Setenv(key, value string) {
	old, had := os.LookupEnv(key)
	if err := os.Setenv(key, value); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		if !had {
			_ = os.Unsetenv(key)
			return
		}
		_ = os.Setenv(key, old)
	})
}

func (c *checker) Cleanup(do func()) { c.clean = append(c.clean, do) }

func (c *checker) Context() context.Context { return c.ctx }
