package glidein

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"floe/glidein/relay"
	"floe/protocol"
	"floe/protocol/transport"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// Files of a site's relay, in its directory.
const (
	relayKeyFile    = "relay.key"
	relayLockFile   = "relay.lock"
	relayRecordFile = "relay.json"
	relayLogFile    = "relay.log"
	relayOutFile    = "relay.out"

	// addressesFile is where the coordinators' addresses are kept, with all that joining
	// has brought.
	addressesFile = "cluster.json"
)

// RelayLock is the file that a running relay holds.
func RelayLock(dir string) string { return filepath.Join(dir, relayLockFile) }

// RecordRelay notes which relay runs, for passes that are to end it.
func RecordRelay(dir string, s *relay.Status) error {
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, relayRecordFile), append(b, '\n'), 0o600)
}

// RelayKey reads the key of a site's relay, or makes it.
func RelayKey(dir string) (*transport.RelayKey, error) {
	file := filepath.Join(dir, relayKeyFile)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = transport.NewRelayKey(); err != nil {
			return nil, err
		}
		err = renameio.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return nil, err
	}
	key, err := transport.ParseRelayKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; move it away, and the next pass makes another", file, err)
	}
	return key, nil
}

// RelayListen is where a relay listens that pilots reach at an address, unless the site
// says otherwise: there names may lead to more than one interface.
func RelayListen(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return net.JoinHostPort("", port)
}

// Relay watches over a site's relay.
type Relay struct {
	// Directory is the site's, Program the floe that is started.
	Directory, Program string
	// Address is where pilots reach the relay; empty wants none. Listen, Storage and Stage
	// are what it is started with.
	Address, Listen string
	Storage         []string
	Stage           string
	// Version is the one that must run.
	Version string
}

// relayWithin is how long a relay may take to answer, to begin and to end.
const relayWithin = 10 * time.Second

// Watch has the wanted relay run, and no other, and says what it found or did. It starts
// one that does not run, and replaces one that was started otherwise.
func (r *Relay) Watch(ctx context.Context) (string, error) {
	said, err := r.watch(ctx)
	if err != nil {
		return "", fmt.Errorf("relay: %w", err)
	}
	return said, nil
}

func (r *Relay) watch(ctx context.Context) (string, error) {
	was, err := r.record()
	if err != nil {
		return "", err
	}
	if r.Address == "" {
		if was == nil {
			return "", nil
		}
		if err := r.end(ctx, was); err != nil {
			return "", err
		}
		return "relay " + was.Address + " is not wanted any more and was ended", os.Remove(filepath.Join(r.Directory, relayRecordFile))
	}
	did := "started"
	s, err := r.ask(ctx, r.Address)
	switch {
	case err == nil && r.wanted(s):
		return fmt.Sprintf("relay %s serves %d pilots", r.Address, s.Pilots), nil
	case err == nil:
		did = "started again: it was another version, or was told otherwise"
	case r.running():
		did = fmt.Sprintf("started again: it did not answer (%v)", err)
	}
	if r.running() {
		if was == nil {
			return "", fmt.Errorf("%s is held by what left no %s: end it by hand", RelayLock(r.Directory), relayRecordFile)
		}
		if err := r.end(ctx, was); err != nil {
			return "", err
		}
	}
	if err := r.start(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("relay %s %s", r.Address, did), nil
}

func (r *Relay) wanted(s *relay.Status) bool {
	return s.Version == r.Version && s.Address == r.Address && s.Listen == r.listen() && slices.Equal(s.Storage, r.Storage) && s.Stage == r.Stage
}

func (r *Relay) listen() string {
	if r.Listen != "" {
		return r.Listen
	}
	return RelayListen(r.Address)
}

// record is what the last relay has written of itself; nil without one.
func (r *Relay) record() (*relay.Status, error) {
	b, err := os.ReadFile(filepath.Join(r.Directory, relayRecordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	s := new(relay.Status)
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", relayRecordFile, err)
	}
	return s, nil
}

// running tells whether a process holds the relay's lock.
func (r *Relay) running() bool {
	lock := flock.New(RelayLock(r.Directory))
	defer lock.Close()
	free, err := lock.TryLock()
	return err == nil && !free
}

// ask asks the relay at an address how it is.
func (r *Relay) ask(ctx context.Context, address string) (*relay.Status, error) {
	return r.call(ctx, http.MethodGet, address, relay.StatusPath)
}

func (r *Relay) call(ctx context.Context, method, address, path string) (*relay.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, relayWithin)
	defer cancel()
	key, err := RelayKey(r.Directory)
	if err != nil {
		return nil, err
	}
	pass := key.Issue(address, relay.PassName, time.Now().Add(time.Hour))
	conn, err := pass.Dial(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, nil)
	if err != nil {
		return nil, err
	}
	pass.Authorize(request.Header)
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	const mostStatus = 64 << 10
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, mostStatus)), request)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	s := new(relay.Status)
	return s, json.NewDecoder(resp.Body).Decode(s)
}

// end ends the relay that wrote s, by its own word or else by its process.
func (r *Relay) end(ctx context.Context, s *relay.Status) error {
	_, askErr := r.call(ctx, http.MethodPost, s.Address, relay.StopPath)
	if askErr == nil && r.ended(ctx) {
		return nil
	}
	host, err := os.Hostname()
	if err != nil || host != s.Host {
		return fmt.Errorf("%s on %s does not end (%w), and this is %s", s.Address, s.Host, askErr, host)
	}
	if !r.running() {
		return nil
	}
	// Who holds the lock of this site's directory, and wrote that it has this number,
	// is the relay: numbers of processes that are gone hold no locks.
	p, err := os.FindProcess(s.PID)
	if err != nil {
		return err
	}
	if !isRelay(s.PID) {
		return fmt.Errorf("%s does not end, and process %d is not a relay", s.Address, s.PID)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if !r.ended(ctx) {
		return fmt.Errorf("process %d of the relay does not end", s.PID)
	}
	return nil
}

// isRelay tells whether a process was started as a relay.
func isRelay(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Split(string(line), "\x00")
	return err == nil && len(words) > 1 && words[1] == "relay"
}

// ended waits until no process holds the relay's lock.
func (r *Relay) ended(ctx context.Context) bool {
	return until(ctx, func() bool { return !r.running() })
}

// until looks again until a condition holds, for as long as a relay may take.
func until(ctx context.Context, condition func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, relayWithin)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return condition()
		}
	}
	return true
}

// start starts a relay that outlives the pass, and waits until it answers.
func (r *Relay) start(ctx context.Context) error {
	at := func(name string) string { return filepath.Join(r.Directory, name) }
	out, err := os.OpenFile(at(relayOutFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	args := []string{"relay", "--site", r.Directory, "--address", r.Address, "--listen", r.listen(), "--log-file", at(relayLogFile)}
	for _, a := range r.Storage {
		args = append(args, "--storage", a)
	}
	if r.Stage != "" {
		args = append(args, "--stage", r.Stage)
	}
	c := exec.Command(r.Program, args...) //nolint:noctx // it outlives the pass
	c.Args[0] = "floe"
	c.Stdout, c.Stderr, c.Dir = out, out, r.Directory
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	gone := make(chan error, 1)
	go func() { gone <- c.Wait() }()
	var last error
	if until(ctx, func() bool {
		select {
		case err := <-gone:
			gone <- err
			return true
		default:
		}
		var s *relay.Status
		s, last = r.ask(ctx, r.Address)
		return last == nil && s.PID == c.Process.Pid
	}) && last == nil {
		return nil
	}
	select {
	case err := <-gone:
		said, _ := os.ReadFile(out.Name()) // it is only said
		return fmt.Errorf("it ended at once: %w: %s", err, strings.TrimSpace(string(said[max(0, len(said)-500):])))
	default:
	}
	return fmt.Errorf("process %d was started, and nobody answers at %s: %w; is that this machine, and may the port be reached?", c.Process.Pid, r.Address, last)
}

// relayPassFile is the pass for the relay, beside the ticket.
const relayPassFile = "relay"

// launchLife is how long a launch lease is good at most. Source: docs/protocol.md.
const launchLife = 72 * time.Hour

// relay watches over the one that the config wants.
func (p *Pass) relay() *Relay {
	s := &p.Config.System
	return &Relay{
		Directory: p.Config.Directory, Program: p.Program, Address: s.Relay, Listen: s.RelayListen, Storage: s.RelayStorage, Stage: s.RelayStage,
		Version: protocol.Version,
	}
}

// watchRelay has the site's relay run. A site whose relay does not is given no more
// pilots: its nodes need it, or it would have none.
func (p *Pass) watchRelay(ctx context.Context, stations []*station, result *Result) {
	said, err := p.relay().Watch(ctx)
	if err != nil {
		p.Logger.Error("the site's relay does not serve; nothing is launched", "err", err)
		said = fmt.Sprintf("nothing launched: %v", err)
		for _, s := range stations {
			for _, l := range s.lines {
				l.result.Room, l.result.Bound = 0, "the site's relay, which does not serve"
			}
		}
	}
	result.Relay = said
}

// relayPass writes the pass of a pilot job into its directory, and returns the file's
// name; none without a relay.
func (p *Pass) relayPass(dir string, launch protocol.LaunchID, walltime Duration) ([]string, error) {
	if p.Config.System.Relay == "" {
		return nil, nil
	}
	if launch == relay.PassName {
		return nil, fmt.Errorf("launch %q: the name is the site's own", launch)
	}
	key, err := RelayKey(p.Config.Directory)
	if err != nil {
		return nil, err
	}
	pass := key.Issue(p.Config.System.Relay, launch, time.Now().Add(launchLife+time.Duration(walltime)+time.Hour))
	return []string{relayPassFile}, os.WriteFile(filepath.Join(dir, relayPassFile), []byte(pass.Text()+"\n"), 0o600)
}

// relayArgs tell a pilot of the relay.
func (s *System) relayArgs() []string {
	if s.Relay == "" {
		return nil
	}
	args := []string{"--relay-file", relayPassFile}
	for _, a := range s.RelayStorage {
		args = append(args, "--relay-storage", a)
	}
	if s.RelayStage != "" {
		args = append(args, "--relay-stage", s.RelayStage)
	}
	return args
}

// checkRelay says what is wrong with the relay's keys.
func (s *System) checkRelay(say func(format string, args ...any)) {
	if s.Relay == "" && (s.RelayListen != "" || len(s.RelayStorage) > 0 || s.RelayStage != "") {
		say("system.relay: not set, but relay_listen, relay_storage or relay_stage is: want host:port by which the nodes reach this machine")
	}
	if err := transport.CheckAddress(s.Relay); s.Relay != "" && err != nil {
		say("system.relay: %v by which the nodes reach this machine, such as head.example.org:4490", err)
	}
	if _, _, err := net.SplitHostPort(s.RelayListen); s.RelayListen != "" && err != nil {
		say("system.relay_listen %q: want host:port, or :port for all of this machine's addresses", s.RelayListen)
	}
	if s.RelayStage != "" && (!filepath.IsAbs(s.RelayStage) || len(s.RelayStorage) == 0) {
		say("system.relay_stage %q: want an absolute path, and relay_storage that says what may be reached", s.RelayStage)
	}
	for _, a := range s.RelayStorage {
		if err := transport.CheckAddress(a); err != nil {
			say("system.relay_storage: %v, such as storage.example.org:443", err)
		}
	}
}
