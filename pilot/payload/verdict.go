package payload

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"floe/protocol"
)

// facts are what is known about a module that did not succeed.
type facts struct {
	stopped reason           // what the pilot ended it for, or stopNone
	detail  string           // the limit and the value, or the reason of the context's end
	prepare error            // it was never started: its command could not be made
	start   error            // the kernel refused to start it
	hook    error            // stage refused before or after it
	statist error            // its statistics cannot be used
	said    string           // what the shim or the library says went wrong
	blames  protocol.Verdict // whose fault the library says it was, or 0
	exit    int
	signal  syscall.Signal
	// built says that the environment has a metaproject or an env_shell;
	// fromBuilt that the program itself comes from one.
	built, fromBuilt bool
	outside          bool // its image was never entered
	killedByGroup    int  // kills by the kernel for the attempt's own memory limit
	killedByNode     bool // the kernel killed something for lack of memory on the node
	free             protocol.ByteSize
	log              string // the last lines
	saved            bool   // this attempt has saved a checkpoint, which spares kept
	kept             time.Duration
	again            bool // its exit code says that it is to run again from there
}

// reason is why the pilot ended a module.
type reason uint8

const (
	stopNone reason = iota
	stopWalltime
	stopMemory
	stopDisk
	stopProcesses
	stopContext // drain, abandon, fence
	stopSlot    // the batch slot ends
)

// diskFull is how little free space makes a failure the node's.
const diskFull = 4 << 20

// killed tells a kill, also one that a shell reports as its own exit code.
func (f *facts) killed() bool {
	return f.signal == syscall.SIGKILL || f.exit == 128+int(syscall.SIGKILL)
}

// ending says how the first process ended.
func (f *facts) ending() string {
	switch {
	case f.signal != 0:
		return fmt.Sprintf("killed by signal %d (%s)", int(f.signal), unix.SignalName(f.signal))
	case f.exit > 128 && f.exit < 128+65 && unix.SignalName(syscall.Signal(f.exit-128)) != "":
		return fmt.Sprintf("exit code %d, which shells give for signal %s", f.exit, unix.SignalName(syscall.Signal(f.exit-128)))
	case f.exit == 127:
		return "exit code 127, which shells give for a command not found"
	}
	return fmt.Sprintf("exit code %d", f.exit)
}

// hookVerdict is the verdict that an error of stage brings with it, or 0.
func hookVerdict(err error) protocol.Verdict {
	var v interface{ Verdict() protocol.Verdict }
	if errors.As(err, &v) {
		return v.Verdict()
	}
	return 0
}

// own is the verdict that a predefined module, or an error of stage, brings, or 0.
func (f *facts) own() protocol.Verdict { return cmp.Or(f.blames, hookVerdict(f.hook)) }

// judge applies the rules.
func judge(f *facts) (protocol.Verdict, string) {
	rules := theRules().rules
	for i := range rules {
		r := &rules[i]
		if !r.applies(f) {
			continue
		}
		v, text := r.verdict, r.evidence(f)
		if v == 0 {
			v = f.own()
		}
		if f.log != "" && v != protocol.VerdictPreempted && f.hook == nil {
			text += "; log ends: " + f.log
		}
		return v, text
	}
	panic("the last rule applies to everything")
}

// clip shortens evidence to what a report may hold, at a character.
func clip(s string) string {
	const mark = " …"
	if len(s) <= protocol.MaxEvidence {
		return s
	}
	return strings.ToValidUTF8(s[:protocol.MaxEvidence-len(mark)], "") + mark
}
