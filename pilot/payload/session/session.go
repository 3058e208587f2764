package session

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"floe/protocol"
)

// Bounds of what one session takes of the pilot.
const (
	// maxConnections may be open; beyond, the one that was silent longest ends.
	maxConnections = 64
	// perSecond requests are answered; a payload that says more waits. What they cost
	// is a few hundredths of a core of the pilot's.
	perSecond = 20_000
	// answerWithin is how long a payload may take to read an answer.
	answerWithin = 10 * time.Second
	// acceptPause is between tries while the pilot has no descriptor left.
	acceptPause = 100 * time.Millisecond
)

// Config of a session.
type Config struct {
	// Dir is where the socket is made; if its path is too long for one, it is made in
	// Short, which payloads see as ShortSeen.
	Dir, Short, ShortSeen string
	// Socket is used again, where it is there from an earlier session of this directory,
	// and left for a later one; nil makes one, and removes it in the end.
	Socket *Socket
	// End is when the payload's time is over; false where nothing limits it. Nil is
	// no limit.
	End func() (time.Time, bool)
	// Save keeps a checkpoint that consists of the paths, or of those that the steering
	// file declares where there are none. It returns the size of what is kept, and an
	// *Error to tell the payload. Nil refuses.
	Save   func(paths []string) (protocol.ByteSize, error)
	Logger *slog.Logger
}

// Session is the socket of one attempt. It may be used concurrently.
type Session struct {
	config   Config
	path     string // as payloads see it
	file     string
	listener *net.UnixListener
	serving  sync.WaitGroup
	saving   sync.Mutex // one checkpoint at a time

	mu          sync.Mutex
	closed      bool                 // guarded by mu
	connections map[*connection]bool // guarded by mu
	facts       map[string]any       // guarded by mu; of the module that runs, nil between
	statistics  map[string]float64   // guarded by mu; of that module
	recent      []string             // guarded by mu; their names, the one told last is last
	progress    protocol.Progress    // guarded by mu; without statistics
	spoken      bool                 // guarded by mu
	second      time.Time            // guarded by mu; in which answered are counted
	answered    int                  // guarded by mu
}

// connection is one client. Its fields are guarded by Session.mu.
type connection struct {
	net.Conn
	heard time.Time
	busy  bool
}

// socketName is the socket below Config.Dir.
const socketName = "socket"

// maxPath is what sun_path holds, without its zero byte. Source: unix(7).
const maxPath = 107

// Open makes the socket and serves it until Close.
func Open(c Config) (*Session, error) {
	dir, seen := c.Dir, filepath.Join(c.Dir, socketName)
	if len(seen) > maxPath && c.Short != "" {
		dir, seen = c.Short, filepath.Join(c.ShortSeen, "floe-"+socketName)
	}
	if len(seen) > maxPath {
		return nil, fmt.Errorf("socket %s: a path of %d bytes, limit %d", seen, len(seen), maxPath)
	}
	s := &Session{config: c, path: seen, file: filepath.Join(dir, filepath.Base(seen)), connections: map[*connection]bool{}}
	if dir != c.Dir {
		s.config.Socket = nil // it is among the payload's own files
	}
	if s.config.Socket != nil {
		s.listener = s.config.Socket.listener
	}
	if s.listener == nil {
		if err := s.listen(dir); err != nil {
			return nil, fmt.Errorf("socket %s: %w", s.file, err)
		}
	}
	s.serving.Go(s.accept)
	return s, nil
}

// listen binds the socket. Its directory is named by a descriptor: the path that the
// pilot knows may be longer than the one that payloads see.
func (s *Session) listen(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	name := "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + filepath.Base(s.file)
	s.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return err
	}
	s.listener.SetUnlinkOnClose(false) // the name is of a descriptor that is closed then
	if err := os.Chmod(s.file, 0o600); err != nil {
		return err
	}
	if s.config.Socket != nil {
		s.config.Socket.bound(s.listener, s.file)
	}
	return nil
}

// Path is the socket as payloads see it: FLOE_SOCKET.
func (s *Session) Path() string { return s.path }

// Close ends all connections and removes the socket, or leaves it for another session,
// with nobody waiting at it.
func (s *Session) Close() {
	s.mu.Lock()
	s.closed = true
	if s.config.Socket != nil {
		_ = s.listener.SetDeadline(time.Unix(1, 0))
	} else {
		_ = s.listener.Close()
	}
	for c := range s.connections {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
	if s.config.Socket != nil {
		s.config.Socket.sendAway()
		return
	}
	_ = os.Remove(s.file) // else it goes with its directory
}

// Begin says that a module runs, and what attempt tells of it.
func (s *Session) Begin(facts map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts, s.statistics, s.recent = facts, map[string]float64{}, nil
}

// End says that the module has ended, and returns the statistics it has told, in the
// order of names. A checkpoint that is being kept is kept when End returns.
func (s *Session) End() []protocol.Statistic {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.statistics))
	list := make([]protocol.Statistic, len(names))
	for i, name := range names {
		list[i] = protocol.Statistic{Name: name, Value: s.statistics[name]}
	}
	s.facts = nil
	return list
}

// Progress is what the payload has said of itself, with the statistics it told
// last; false before it has said anything.
func (s *Session) Progress() (protocol.Progress, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.progress
	for _, name := range s.recent[max(0, len(s.recent)-protocol.MaxProgressStatistics):] {
		p.Statistics = append(p.Statistics, protocol.Statistic{Name: name, Value: s.statistics[name]})
	}
	return p, s.spoken
}

// accept takes connections until the session is closed.
func (s *Session) accept() {
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			s.config.Logger.Warn("a payload's connection is not taken yet", "err", err)
			<-time.After(acceptPause)
			continue
		}
		s.admit(&connection{Conn: c})
	}
}

// admit serves a connection, in the place of the one that was silent longest where
// there are too many: a payload that opens them and says nothing harms itself.
func (s *Session) admit(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return
	}
	if len(s.connections) >= maxConnections {
		var oldest *connection
		for other := range s.connections {
			if !other.busy && (oldest == nil || other.heard.Before(oldest.heard)) {
				oldest = other
			}
		}
		if oldest == nil {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = fmt.Fprintf(c, "error %s %d connections are open\n", CodeTooMany, maxConnections)
			_ = c.Close()
			return
		}
		_ = oldest.Close()
		delete(s.connections, oldest)
	}
	c.heard = time.Now()
	s.connections[c] = true
	s.serving.Go(func() { s.serve(c) })
}

// serve answers one connection to its end.
func (s *Session) serve(c *connection) {
	defer func() {
		s.mu.Lock()
		delete(s.connections, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	in := bufio.NewReaderSize(c, MaxLine+2)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			s.say(c, answer("", Errorf(CodeTooLong, "a line has at most %d bytes", MaxLine)))
			return
		}
		if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
			return
		}
		s.hold(c, true)
		value, refused := s.do(strings.TrimSuffix(string(line), "\n"))
		ok := s.say(c, answer(value, refused))
		s.hold(c, false)
		if !ok || err != nil {
			return
		}
	}
}

// hold notes whether a connection waits for its answer, and makes one wait that has
// had more than its share.
func (s *Session) hold(c *connection, busy bool) {
	s.mu.Lock()
	now := time.Now()
	c.heard, c.busy = now, busy
	pause := time.Duration(0)
	if busy {
		if now.Sub(s.second) >= time.Second {
			s.second, s.answered = now, 0
		}
		if s.answered++; s.answered > perSecond {
			pause = s.second.Add(time.Second).Sub(now)
		}
	}
	s.mu.Unlock()
	if pause > 0 {
		<-time.After(pause)
	}
}

func (s *Session) say(c *connection, text string) bool {
	_ = c.SetWriteDeadline(time.Now().Add(answerWithin))
	_, err := io.WriteString(c, text)
	return err == nil
}

// answer is the line that answers a request.
func answer(value string, err error) string {
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{CodeRefused, err.Error()}
		}
		return "error " + string(e.Code) + " " + oneLine(e.Text) + "\n"
	}
	if value == "" {
		return "ok\n"
	}
	return "ok " + value + "\n"
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, s)
}

// do does what a line asks for and returns the value of its answer.
func (s *Session) do(line string) (string, error) {
	r, err := parse(line)
	if err != nil {
		return "", err
	}
	switch r.verb {
	case verbSet, verbAdd:
		return s.statistic(&r)
	case verbProgress:
		return "", s.setProgress(&r)
	case verbSaved:
		return s.save(r.paths)
	case verbRemaining:
		return s.remaining(r.value)
	default:
		return s.tell(r.name)
	}
}

var errNoModule = Errorf(CodeNoModule, "no module runs")

func (s *Session) statistic(r *request) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.facts == nil {
		return "", errNoModule
	}
	old, known := s.statistics[r.name]
	if !known && len(s.statistics) >= protocol.MaxStatistics {
		return "", Errorf(CodeTooMany, "statistic %s: a module returns at most %d", r.name, protocol.MaxStatistics)
	}
	value, said := r.value, ""
	if r.verb == verbAdd {
		if value += old; math.IsInf(value, 0) {
			return "", Errorf(CodeNotFinite, "statistic %s: the sum is not a finite number", r.name)
		}
		said = strconv.FormatFloat(value, 'g', -1, 64)
	}
	if known {
		s.recent = slices.DeleteFunc(s.recent, func(n string) bool { return n == r.name })
	}
	s.statistics[r.name], s.recent, s.spoken = value, append(s.recent, r.name), true
	return said, nil
}

func (s *Session) setProgress(r *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.facts == nil {
		return errNoModule
	}
	s.progress.Fraction, s.progress.Text, s.spoken = r.value, r.text, true
	return nil
}

func (s *Session) save(paths []string) (string, error) {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	running := s.facts != nil
	s.mu.Unlock()
	if !running {
		return "", errNoModule
	}
	if s.config.Save == nil {
		return "", Errorf(CodeRefused, "checkpoints are not kept here")
	}
	size, err := s.config.Save(paths)
	return strconv.FormatInt(int64(size), 10), err
}

// remaining is the time that is left in whole seconds, less a margin, and never
// less than 0.
func (s *Session) remaining(margin float64) (string, error) {
	if s.config.End != nil {
		if end, limited := s.config.End(); limited {
			return strconv.FormatInt(max(0, int64(time.Until(end).Seconds()-margin)), 10), nil
		}
	}
	return "", Errorf(CodeNoLimit, "nothing limits the time of this task")
}

// tell is one fact of the attempt, or all as JSON.
func (s *Session) tell(key string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.facts == nil {
		return "", errNoModule
	}
	if key == "" {
		b, err := json.Marshal(s.facts)
		return string(b), err
	}
	value, known := s.facts[key]
	if !known {
		return "", Errorf(CodeSyntax, "attempt %.40q: want one of %s", key, strings.Join(slices.Sorted(maps.Keys(s.facts)), " "))
	}
	return fmt.Sprint(value), nil
}
