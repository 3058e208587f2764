package ssh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"floe/glidein/batch"
)

// ErrHostKey is returned when a host has another key than the one that is known, or
// when none is known. It comes with batch.ErrRefused.
var ErrHostKey = errors.New("host key not known")

// uploadTime bounds the copying of one program.
const uploadTime = time.Hour

// maxSocket is how long the path of a socket may be, less what ssh appends to it
// while it makes one. Source: unix(7), 108 bytes; 17 for a name of its own.
const maxSocket = 108 - 18

// ssh calls a command of a shell there.
func (s *System) ssh(ctx context.Context, tool batch.Tool, stdin io.Reader, command string) (*batch.Answer, error) {
	args := append([]string{}, s.config.Options...)
	for _, o := range []string{
		"BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=20", "ServerAliveInterval=15", "ServerAliveCountMax=4",
		"ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no", "Compression=yes",
	} {
		args = append(args, "-o", o)
	}
	if socket := s.socket(); len(socket) <= maxSocket {
		args = append(args, "-o", "ControlMaster=auto", "-o", "ControlPath="+socket, "-o", "ControlPersist=10m")
	}
	a, err := tool.Run(ctx, stdin, "ssh", append(args, "-T", "--", s.config.Host, command)...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.config.Host, err)
	}
	if a.Exit == sshFailed {
		return nil, s.failed(a)
	}
	return a, nil
}

// socket is where one connection is shared by all calls, of the site's owner alone.
func (s *System) socket() string {
	sum := sha256.Sum256([]byte(s.config.Host))
	return filepath.Join(s.config.Directory, "ssh-"+hex.EncodeToString(sum[:4]))
}

// Disconnect ends the connection that calls share; without it, it ends after ten
// minutes in which nobody calls.
func (s *System) Disconnect(ctx context.Context) {
	if _, err := os.Stat(s.socket()); err != nil {
		return
	}
	args := append(append([]string{}, s.config.Options...), "-o", "ControlPath="+s.socket(), "-O", "exit", "--", s.config.Host)
	_, _ = s.tool.Run(ctx, nil, "ssh", args...) // it may be gone
}

// sshFailed is the exit status of ssh for its own errors. The agent has no such.
const sshFailed = 255

// failed is what an error of ssh means.
func (s *System) failed(a *batch.Answer) error {
	to, name := s.config.Host, s.config.Host
	if _, h, ok := strings.Cut(to, "@"); ok {
		name = h
	}
	switch {
	case a.Mentions("remote host identification has changed"):
		return fmt.Errorf("ssh %s: %w: %w: the host has another key than before. If that was announced, forget the old one with ssh-keygen -R %s and compare the new one's fingerprint: ssh %s", to, batch.ErrRefused, ErrHostKey, name, to)
	case a.Mentions("host key verification failed", "host key is known for"):
		return fmt.Errorf("ssh %s: %w: %w: connect once by hand and compare its fingerprint: ssh %s", to, batch.ErrRefused, ErrHostKey, to)
	case a.Mentions("permission denied (", "too many authentication failures"):
		return fmt.Errorf("ssh %s: %w: none of our keys is accepted, as cron has them (no agent, no passphrase): %s", to, batch.ErrRefused, last(a.Stderr))
	}
	return fmt.Errorf("ssh %s: %w: %s", to, batch.ErrTransient, last(a.Stderr))
}

// last is the last line that ssh or a shell said.
func last(text []byte) string {
	text = bytes.TrimSpace(text)
	if at := bytes.LastIndexByte(text, '\n'); at >= 0 {
		text = text[at+1:]
	}
	if len(text) == 0 {
		return "(it printed nothing)"
	}
	return strings.ToValidUTF8(string(text[:min(len(text), 300)]), "?")
}

// probe asks where we are there, and what is in bin. In single quotes, which every
// shell takes alike, for a shell that is sh.
const probe = `sh -c 'umask 077; cd && mkdir -p %[1]s/bin %[1]s/jobs && cd %[1]s && echo && echo "floe-directory: $(pwd)" && echo "floe-machine: $(uname -sm)" && for f in bin/*; do echo "floe-has: $f"; done'`

// upload takes a program from its standard input, and keeps it when it is whole.
const upload = `sh -c 'umask 077; cd && cd %[1]s/bin && cat >%[2]s.$$ && if test "$(sha256sum <%[2]s.$$ | cut -c1-64)" = %[3]s; then chmod 700 %[2]s.$$ && mv %[2]s.$$ %[2]s; else rm -f %[2]s.$$; echo cut on its way >&2; exit 9; fi'`

// machines are what uname -sm says where programs of ours run.
var machines = map[string]string{"amd64": "Linux x86_64", "arm64": "Linux aarch64", "ppc64le": "Linux ppc64le", "s390x": "Linux s390x"}

// arrive makes sure that all is there that a verb needs, once.
func (s *System) arrive(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.there != nil {
		return nil
	}
	dir := s.config.There
	a, err := s.ssh(ctx, s.tool, nil, fmt.Sprintf(probe, dir))
	if err != nil {
		return err
	}
	if a.Exit != 0 {
		return fmt.Errorf("ssh %s: %w: cannot use the directory %s: %s", s.config.Host, batch.ErrTransient, dir, last(a.Stderr))
	}
	t, err := parseProbe(a.Stdout)
	if err != nil {
		return fmt.Errorf("ssh %s: %w: cannot understand its answer: %w", s.config.Host, batch.ErrTransient, err)
	}
	if want := machines[runtime.GOARCH]; t.machine != want {
		return fmt.Errorf("ssh %s: %w: it is %s, and this floe is for %s: run the site with the floe and floe-pilot of that machine", s.config.Host, batch.ErrRefused, t.machine, want)
	}
	if s.agent, err = s.bring(ctx, t, "floe", s.config.Floe); err != nil {
		return err
	}
	if s.config.Pilot != "" {
		if s.pilot, err = s.bring(ctx, t, "floe-pilot", s.config.Pilot); err != nil {
			return err
		}
	}
	s.there = t
	return s.askProperties(ctx)
}

// bring copies a program there, unless it is there, and returns its path below the
// directory there.
func (s *System) bring(ctx context.Context, t *there, name, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("ssh: %s: %w", name, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("ssh: %s: %w", name, err)
	}
	digest := hex.EncodeToString(h.Sum(nil))
	file := name + "-" + digest
	to := "bin/" + file
	if t.has[to] {
		return to, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("ssh: %s: %w", name, err)
	}
	slow := s.tool
	slow.Time = uploadTime
	a, err := s.ssh(ctx, slow, f, fmt.Sprintf(upload, s.config.There, file, digest))
	if err != nil {
		return "", fmt.Errorf("copy %s: %w", name, err)
	}
	if a.Exit != 0 {
		return "", fmt.Errorf("copy %s to %s: %w: %s", name, s.config.Host, batch.ErrTransient, last(a.Stderr))
	}
	return to, nil
}
