package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is one that this run started and waits for.
type process struct {
	*os.Process
	ended chan struct{} // closed when it was waited for
	state *os.ProcessState
}

// start starts a program in a namespace, with its output appended to a log. It
// leads a process group of its own, so that Ctrl-C on a terminal reaches it only
// through us, and the kernel ends it if we die.
func start(h *host, env []string, log string, program string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	c := exec.Command("ip", append([]string{"netns", "exec", h.name, program}, args...)...)
	c.Env, c.Stdout, c.Stderr = env, out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel's promise holds as long as this thread lives
		defer runtime.UnlockOSThread()
		err := c.Start()
		p.Process = c.Process
		_ = out.Close()
		started <- err
		if err == nil {
			_ = c.Wait()
			p.state = c.ProcessState
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	return p, nil
}

// running tells whether it has not ended.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// end asks it to end, and ends it after the grace. It tells whether it listened.
func (p *process) end(grace time.Duration) bool {
	_ = p.Signal(syscall.SIGCONT)
	_ = p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended:
		return true
	case <-timer.C:
		p.kill()
		return false
	}
}

// kill is kill -9, and returns when it is gone.
func (p *process) kill() {
	_ = p.Kill()
	<-p.ended
}

// command is the program a process runs, or nothing if it is gone.
func command(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(string(b), "\x00")
	return filepath.Base(name)
}

// parent is the id of a process's parent, 0 if it is gone.
func parent(pid int) (id int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	var state string
	_, after, _ := strings.Cut(string(b), ") ")
	_, _ = fmt.Sscan(after, &state, &id)
	return id
}

// tail is the end of a file.
func tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
