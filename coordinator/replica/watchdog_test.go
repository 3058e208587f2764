package replica

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// frozenWriter makes this test binary one that writes under a watchdog: it says when
// the write has begun, ends it when a byte comes, and says how the fuse is.
const frozenWriter = "FLOE_TEST_FROZEN_WRITER"

// A process that was stopped in the middle of a write, as by SIGSTOP or with its
// machine, does not take its disk for dead when it goes on.
func TestAFrozenProcessDoesNotBlameItsDisk(t *testing.T) {
	const limit = 2 * time.Second
	if os.Getenv(frozenWriter) != "" {
		w := &watchdog{fuse: newFuse(func() {}), name: ErrLogStore, limit: limit}
		err := w.guard("append", func() error {
			fmt.Println("writing")
			_, err := os.Stdin.Read(make([]byte, 1))
			return err
		})
		fmt.Println("wrote:", err)
		os.Exit(0)
	}
	t.Parallel()
	c := exec.Command(os.Args[0], "-test.run=^TestAFrozenProcessDoesNotBlameItsDisk$")
	c.Env = append(os.Environ(), frozenWriter+"=1")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	said := bufio.NewScanner(out)
	if !said.Scan() || said.Text() != "writing" {
		t.Fatalf("it said %q, %v", said.Text(), said.Err())
	}
	signal := func(s syscall.Signal) {
		if err := c.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	<-time.After(limit + limit/2) // real time: what is measured is a real process
	signal(syscall.SIGCONT)
	<-time.After(limit / 8) // a timer that is due has its turn before the write ends
	if _, err := in.Write([]byte{'.'}); err != nil {
		t.Fatal(err)
	}
	if !said.Scan() || said.Text() != "wrote: <nil>" {
		t.Errorf("after it was frozen for %v, with a limit of %v, it said %q", limit+limit/2, limit, said.Text())
	}
}

// A write that takes too long blows the fuse also when it ends well after all.
func TestASlowWriteBlowsTheFuse(t *testing.T) {
	w := &watchdog{fuse: newFuse(func() {}), name: ErrLogStore, limit: 20 * time.Millisecond}
	if err := w.guard("append", func() error { <-w.fuse.blown; return nil }); !errors.Is(err, ErrStalled) {
		t.Errorf("guard = %v, want ErrStalled", err)
	}
}
