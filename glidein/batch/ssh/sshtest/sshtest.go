// Package sshtest starts a real sshd for tests: of this machine's packages, on a port
// of loopback, as the user of the test, with keys of its own, behind a wire that can
// be cut.
package sshtest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Host is what ssh calls the server.
const Host = "cluster"

// Server is an sshd of this machine's packages, and a wire to it that can be cut.
type Server struct {
	Dir     string   // of keys and configuration: host, id, known_hosts
	Options []string // for ssh, to which the server is Host
	Wire    *Wire
}

// Run runs a program that must succeed, and returns what it printed.
func Run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Write writes a file of the test's own.
func Write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Read reads a file that must be there.
func Read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Serve starts an sshd with more lines in its configuration.
func Serve(t *testing.T, more string) *Server {
	t.Helper()
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		if sshd = "/usr/sbin/sshd"; exec.Command(sshd, "-V").Err != nil {
			t.Skip("no sshd (Debian: openssh-server)")
		}
		if _, err := os.Stat(sshd); err != nil {
			t.Skip("no sshd (Debian: openssh-server)")
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" { // where packages start no services, nobody has made it
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &Server{Dir: Short(t)}
	at := func(name string) string { return filepath.Join(s.Dir, name) }
	for _, key := range []string{"host", "id"} {
		Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at(key))
	}
	port := freePort(t)
	Write(t, at("sshd_config"), fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
%s`, port, at("host"), at("id.pub"), more))
	c := exec.Command(sshd, "-D", "-e", "-f", at("sshd_config"))
	log, err := os.Create(at("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.Stderr = log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("sshd said:\n%s", Read(t, at("log")))
		}
	})
	s.Wire = newWire(t, port)
	awaitPort(t, port)
	Write(t, at("ssh_config"), fmt.Sprintf(`Host `+Host+`
HostName 127.0.0.1
Port %d
User %s
IdentityFile %s
IdentitiesOnly yes
UserKnownHostsFile %s
GlobalKnownHostsFile /dev/null
`, s.Wire.port, me.Username, at("id"), at("known_hosts")))
	s.Know(t, "host.pub")
	// Programs of tests are large, and loopback is fast.
	s.Options = []string{"-F", at("ssh_config"), "-o", "Compression=no"}
	return s
}

// Know makes a key the one that is known of the host; an empty name forgets it.
func (s *Server) Know(t *testing.T, key string) {
	t.Helper()
	text := ""
	if key != "" {
		text = fmt.Sprintf("[127.0.0.1]:%d %s", s.Wire.port, Read(t, filepath.Join(s.Dir, key)))
	}
	Write(t, filepath.Join(s.Dir, "known_hosts"), text)
}

// Short is a directory in whose path a socket has room.
func Short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "floe-ssh-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func awaitPort(t *testing.T, port int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("sshd: %v", err)
		}
	}
}

// Wire carries connections to a port of this machine, and can be made to break.
type Wire struct {
	port int

	mu sync.Mutex
	// up and down are how many more bytes go to the server and come from it, of all
	// connections together; below 0 is without end. Guarded by mu, as what follows.
	up, down int64
	open     map[net.Conn]bool
}

func newWire(t *testing.T, to int) *Wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{port: l.Addr().(*net.TCPAddr).Port, up: -1, down: -1, open: map[net.Conn]bool{}}
	var running sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		w.Limit(0, 0)
		running.Wait()
	})
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.carry(c, to) })
		}
	})
	return w
}

// Limit cuts all connections, and lets new ones carry so many bytes more.
func (w *Wire) Limit(up, down int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up, w.down = up, down
	for c := range w.open {
		c.Close()
	}
	clear(w.open)
}

func (w *Wire) carry(c net.Conn, to int) {
	defer c.Close()
	s, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
	if err != nil {
		return
	}
	defer s.Close()
	w.mu.Lock()
	w.open[c], w.open[s] = true, true
	w.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { w.copy(s, c, &w.up); s.Close(); c.Close() })
	both.Go(func() { w.copy(c, s, &w.down); s.Close(); c.Close() })
	both.Wait()
}

func (w *Wire) copy(to io.Writer, from io.Reader, left *int64) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		w.mu.Lock()
		if *left >= 0 {
			n = int(min(int64(n), *left))
			*left -= int64(n)
		}
		over := *left == 0
		w.mu.Unlock()
		if _, werr := to.Write(b[:n]); werr != nil || err != nil || over {
			return
		}
	}
}
