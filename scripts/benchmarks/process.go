package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a child of ours. It ends with this process, whatever ends that.
type process struct {
	*os.Process
	ended chan struct{} // closed when it was waited for
	log   string        // file of what it says
	state *os.ProcessState
}

// startProcess starts a program that writes to a log file.
func startProcess(log string, env []string, program string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	c := exec.Command(program, args...)
	c.Env, c.Stdout, c.Stderr = append(os.Environ(), env...), file, file
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{ended: make(chan struct{}), log: log}
	started := make(chan error)
	go func() {
		// The kernel's signal is sent when the thread that started the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.Start()
		p.Process = c.Process
		started <- err
		if err == nil {
			_ = c.Wait() // how it ended is in its state
			p.state = c.ProcessState
			close(p.ended)
		}
	}()
	return p, <-started
}

// said is what the process has written so far.
func (p *process) said() string {
	text, _ := os.ReadFile(p.log) // empty where it said nothing
	return string(text)
}

// end asks the process to end, and kills it when it does not.
func (p *process) end(grace time.Duration) {
	_ = p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.kill()
	}
}

// kill is kill -9, and returns when the process is gone.
func (p *process) kill() {
	_ = p.Kill()
	<-p.ended
}

// usage is what a process has used since it began.
type usage struct {
	CPU              time.Duration
	Children         time.Duration // of those that have ended
	RSS, Peak        int64         // bytes
	Written          int64         // bytes sent to disks
	Threads, Handles int
}

// usageOf reads what the kernel knows of a process; "self" is this one.
func usageOf(pid string) (usage, error) {
	var u usage
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return u, errors.New("short /proc/PID/stat")
	}
	for i, f := range fields[11:15] { // utime, stime, cutime and cstime, in hundredths of a second
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, err
		}
		if i < 2 {
			u.CPU += time.Duration(n) * 10 * time.Millisecond
		} else {
			u.Children += time.Duration(n) * 10 * time.Millisecond
		}
	}
	number := func(file, name string) (n int64) {
		_, _ = fmt.Sscan(field("/proc/"+pid+"/"+file, name), &n) // 0 where the kernel does not say
		return n
	}
	u.RSS, u.Peak = number("status", "VmRSS")<<10, number("status", "VmHWM")<<10
	u.Threads, u.Written = int(number("status", "Threads")), number("io", "write_bytes")
	return u, nil
}

func (p *process) usage() usage {
	u, _ := usageOf(strconv.Itoa(p.Pid)) // zero when it has ended
	return u
}

// descendants is the processor time of a process's children: of those that have
// ended, and of those that live.
func (p *process) descendants() time.Duration {
	pid := strconv.Itoa(p.Pid)
	sum := p.usage().Children
	threads, _ := os.ReadDir("/proc/" + pid + "/task") // none when it has ended
	for _, thread := range threads {
		text, _ := os.ReadFile("/proc/" + pid + "/task/" + thread.Name() + "/children")
		for _, child := range strings.Fields(string(text)) {
			u, _ := usageOf(child)
			sum += u.CPU + u.Children
		}
	}
	return sum
}
