package batch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Limits of what a tool of a batch system may print, and how long one call may
// take when the pass allows more. A list of 100,000 jobs is some 20 MB.
const (
	maxToolOutput = 64 << 20
	toolTime      = 2 * time.Minute
)

// Tool runs the commands of a batch system.
type Tool struct {
	// System names the batch system in messages.
	System string
	// Env are variables for the tools, beside those of the pass.
	Env []string
	// Prefix is put before each command.
	Prefix []string
	// Time is how long a call may take when the pass allows more; 0 is two minutes.
	Time time.Duration
}

// Answer is what a tool said.
type Answer struct {
	Command string // as it was called, for messages
	Stdout  []byte
	Stderr  []byte
	Exit    int
}

// Run calls a tool. The error is not nil, and ErrTransient, only when the tool gave
// no answer at all: it could not be started, was killed, hung, or printed without
// end. Any exit status is an answer; what it means is the caller's matter.
func (t Tool) Run(ctx context.Context, stdin io.Reader, name string, args ...string) (*Answer, error) {
	limit := cmp.Or(t.Time, toolTime)
	deadline, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	line := append(append([]string(nil), t.Prefix...), name)
	line = append(line, args...)
	c := exec.CommandContext(deadline, line[0], line[1:]...)
	// Tools translate their messages and write numbers with commas, where they are let.
	c.Env = append(append(os.Environ(), "LC_ALL=C", "LANGUAGE="), t.Env...)
	c.Stdin = stdin
	out, errout := &capped{limit: maxToolOutput, full: cancel}, &capped{limit: maxToolOutput, full: cancel}
	c.Stdout, c.Stderr = out, errout
	// A tool that is a script leaves its children behind unless all of them are killed.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 2 * time.Second
	err := c.Run()
	a := &Answer{Command: strings.Join(append([]string{name}, args...), " "), Stdout: out.kept.Bytes(), Stderr: errout.kept.Bytes()}
	var exit *exec.ExitError
	switch {
	case out.over || errout.over:
		return nil, fmt.Errorf("%s: %s: %w: it printed more than %d MiB", t.System, a.Command, ErrTransient, maxToolOutput>>20)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %s: %w: no answer in the time of the pass: %w", t.System, a.Command, ErrTransient, ctx.Err())
	case deadline.Err() != nil:
		return nil, fmt.Errorf("%s: %s: %w: no answer in %v", t.System, a.Command, ErrTransient, limit)
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("%s: %w: there is no %s on the PATH of this pass (cron's is short: set PATH in the crontab)", t.System, ErrTransient, line[0])
	case errors.As(err, &exit) && exit.Exited():
		a.Exit = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return nil, fmt.Errorf("%s: %s: %w: %w", t.System, a.Command, ErrTransient, err)
	}
	return a, nil
}

// Said is the first line of what the tool complained of, for messages.
func (a *Answer) Said() string {
	for _, text := range [][]byte{a.Stderr, a.Stdout} {
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" {
				return shorten(line)
			}
		}
	}
	return "(it printed nothing)"
}

// Mentions tells whether the tool printed one of the texts, in any case.
func (a *Answer) Mentions(texts ...string) bool {
	all := strings.ToLower(string(a.Stderr) + "\n" + string(a.Stdout))
	for _, t := range texts {
		if strings.Contains(all, strings.ToLower(t)) {
			return true
		}
	}
	return false
}

// Fail is an error of a class with the tool's own words.
func (a *Answer) Fail(class error) error {
	return fmt.Errorf("%s: %w: exit status %d: %s", a.Command, class, a.Exit, a.Said())
}

// Garbled is the error of an answer that cannot be understood: its outcome is
// not known.
func (a *Answer) Garbled(what string) error {
	return fmt.Errorf("%s: %w: cannot understand its answer: %s", a.Command, ErrTransient, what)
}

func shorten(s string) string {
	const limit = 300
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// capped is a buffer that ends the command when it is full. The buffer is not
// embedded: io.Copy would fill it by its own ReadFrom, past the limit.
type capped struct {
	kept  bytes.Buffer
	limit int
	over  bool
	full  func()
}

func (c *capped) Write(p []byte) (int, error) {
	if c.kept.Len()+len(p) > c.limit {
		if !c.over {
			c.over = true
			c.full()
		}
		return len(p), nil
	}
	return c.kept.Write(p)
}
