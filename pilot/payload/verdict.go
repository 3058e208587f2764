package payload

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"floe/protocol"
)

// RulesVersion is the version of the table below. It rises with every change of
// a rule's meaning; the pilot's log names it.
const RulesVersion = 2

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
	killedByGroup    int  // kills by the kernel for the attempt's own memory limit
	killedByNode     bool // the kernel killed something for lack of memory on the node
	free             protocol.ByteSize
	log              string // the last lines
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
)

// rule is one line of the table.
type rule struct {
	name    string
	when    func(f *facts) bool
	verdict protocol.Verdict
	because func(f *facts) string
}

// diskFull is how little free space makes a failure the node's.
const diskFull = 4 << 20

// rules is the whole classification; the first rule that applies gives the
// verdict. What comes first is what the pilot did, then what the kernel says,
// then what the module says.
var rules = []rule{
	{
		"drain", func(f *facts) bool { return f.stopped == stopContext }, protocol.VerdictPreempted,
		func(f *facts) string {
			if f.exit == 0 && f.signal == 0 {
				return "ended by the pilot between modules: " + f.detail
			}
			return "ended by the pilot: " + f.detail + "; " + f.ending()
		},
	},
	{
		"walltime", func(f *facts) bool { return f.stopped == stopWalltime }, protocol.VerdictWalltime,
		func(f *facts) string { return f.detail },
	},
	{
		"memory limit", func(f *facts) bool { return f.stopped == stopMemory }, protocol.VerdictMemory,
		func(f *facts) string { return f.detail },
	},
	{
		"memory group", func(f *facts) bool { return f.killedByGroup > 0 }, protocol.VerdictMemory,
		func(f *facts) string {
			return fmt.Sprintf("the kernel killed %d processes at the memory limit; %s", f.killedByGroup, f.ending())
		},
	},
	{
		"disk limit", func(f *facts) bool { return f.stopped == stopDisk }, protocol.VerdictDisk,
		func(f *facts) string { return f.detail },
	},
	{
		"too many processes", func(f *facts) bool { return f.stopped == stopProcesses }, protocol.VerdictPayload,
		func(f *facts) string { return f.detail },
	},

	{"no python", func(f *facts) bool { return errors.Is(f.prepare, errNoPython) && f.built }, protocol.VerdictSoftware, preparation},
	{"no python", func(f *facts) bool { return errors.Is(f.prepare, errNoPython) }, protocol.VerdictNode, preparation},
	{
		"disk full", func(f *facts) bool { return errors.Is(errors.Join(f.prepare, f.start, f.hook), syscall.ENOSPC) }, protocol.VerdictNode,
		func(f *facts) string { return errors.Join(f.prepare, f.start, f.hook).Error() },
	},
	{"env_shell", func(f *facts) bool { return f.prepare != nil && strings.HasPrefix(f.prepare.Error(), "env_shell") }, protocol.VerdictSoftware, preparation},
	{"no library", func(f *facts) bool { return errors.Is(f.prepare, errNoLibrary) }, protocol.VerdictFramework, preparation},
	{"steering", func(f *facts) bool { return f.prepare != nil }, protocol.VerdictPayload, preparation},
	{"stage", func(f *facts) bool { return f.hook != nil && hookVerdict(f.hook) != 0 }, 0, // the error's own
		func(f *facts) string { return f.hook.Error() }},
	{
		"stage", func(f *facts) bool { return f.hook != nil }, protocol.VerdictFramework,
		func(f *facts) string { return f.hook.Error() },
	},

	{"no isolation", func(f *facts) bool { return errors.Is(f.start, errIsolation) }, protocol.VerdictNode, func(f *facts) string { return f.start.Error() }},
	{"built for another platform", func(f *facts) bool { return errors.Is(f.start, syscall.ENOEXEC) && f.fromBuilt }, protocol.VerdictSoftware, starting},
	{"exec format", func(f *facts) bool { return errors.Is(f.start, syscall.ENOEXEC) }, protocol.VerdictPayload, starting},
	// The file was there a moment ago: what is missing is its interpreter or loader.
	{
		"no interpreter", func(f *facts) bool { return errors.Is(f.start, fs.ErrNotExist) && f.fromBuilt }, protocol.VerdictSoftware,
		func(f *facts) string { return "no interpreter: " + f.start.Error() },
	},
	{
		"no interpreter", func(f *facts) bool { return errors.Is(f.start, fs.ErrNotExist) }, protocol.VerdictNode,
		func(f *facts) string { return "no interpreter: " + f.start.Error() },
	},
	{"may not run", func(f *facts) bool { return errors.Is(f.start, fs.ErrPermission) && f.fromBuilt }, protocol.VerdictSoftware, starting},
	{"may not run", func(f *facts) bool { return errors.Is(f.start, fs.ErrPermission) || errors.Is(f.start, syscall.E2BIG) }, protocol.VerdictPayload, starting},
	{"cannot start", func(f *facts) bool { return f.start != nil }, protocol.VerdictNode, starting},

	{
		"out of memory on the node", func(f *facts) bool { return f.killed() && f.killedByNode }, protocol.VerdictNode,
		func(f *facts) string {
			return "the node ran out of memory while this attempt was within its limit; " + f.ending()
		},
	},
	{"processor limit", func(f *facts) bool { return f.signal == syscall.SIGXCPU }, protocol.VerdictWalltime, (*facts).ending},
	{"file size limit", func(f *facts) bool { return f.signal == syscall.SIGXFSZ }, protocol.VerdictDisk, (*facts).ending},
	{
		"built for another processor", func(f *facts) bool { return f.signal == syscall.SIGILL && f.built }, protocol.VerdictSoftware,
		func(f *facts) string { return f.ending() + ": built for another processor" },
	},
	{"loader", func(f *facts) bool { return f.exit != 0 && f.built && loaderFailed(f.log) }, protocol.VerdictSoftware, (*facts).ending},
	{"loader", func(f *facts) bool { return f.exit != 0 && loaderFailed(f.log) }, protocol.VerdictNode, (*facts).ending},
	{"no python inside env_shell", func(f *facts) bool { return f.exit == 127 && strings.Contains(f.log, "floe: no python3") }, protocol.VerdictSoftware, (*facts).ending},
	{
		"disk full", func(f *facts) bool { return f.free < diskFull }, protocol.VerdictNode,
		func(f *facts) string { return fmt.Sprintf("scratch disk full, %v free; %s", f.free, f.ending()) },
	},
	{
		"statistics", func(f *facts) bool { return f.statist != nil }, protocol.VerdictPayload,
		func(f *facts) string { return f.statist.Error() },
	},
	{
		"predefined module", func(f *facts) bool { return f.said != "" && f.blames != 0 }, 0, // the library's own
		func(f *facts) string { return f.said },
	},
	{
		"class", func(f *facts) bool { return f.said != "" }, protocol.VerdictPayload,
		func(f *facts) string { return f.said },
	},
	{"anything else", func(*facts) bool { return true }, protocol.VerdictPayload, (*facts).ending},
}

func preparation(f *facts) string { return f.prepare.Error() }

func starting(f *facts) string { return "cannot start: " + f.start.Error() }

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

func loaderFailed(log string) bool {
	return strings.Contains(log, "error while loading shared libraries") ||
		strings.Contains(log, "version `GLIBC") && strings.Contains(log, "not found")
}

// hookVerdict is the verdict that an error of stage brings with it, or 0.
func hookVerdict(err error) protocol.Verdict {
	var v interface{ Verdict() protocol.Verdict }
	if errors.As(err, &v) {
		return v.Verdict()
	}
	return 0
}

// judge applies the table.
func judge(f *facts) (protocol.Verdict, string) {
	for i := range rules {
		if r := &rules[i]; r.when(f) {
			v, text := r.verdict, r.because(f)
			if v == 0 {
				v = cmp.Or(f.blames, hookVerdict(f.hook))
			}
			if f.log != "" && v != protocol.VerdictPreempted && f.hook == nil {
				text += "; log ends: " + f.log
			}
			return v, text
		}
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
