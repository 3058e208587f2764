package fetch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"floe/protocol"
	"floe/protocol/steering"

	"golang.org/x/time/rate"
)

// Config holds the rules of a cluster.
type Config struct {
	// Hosts may be fetched from; nil is DefaultHosts.
	Hosts Hosts
	// Opened are private networks that may be connected to nonetheless: see ParseNetworks.
	Opened []netip.Prefix
	// Roots are the authorities that hosts are verified against; nil is the machine's.
	Roots *x509.CertPool
	// Dir is where sessions keep what they bring; empty is the system's for temporary files.
	Dir    string
	Limits Limits
}

// Limits of what is fetched. Zero takes the default.
type Limits struct {
	Transfer protocol.ByteSize // one answer of a host: 64 MiB
	Unpacked protocol.ByteSize // what an archive, or all objects of a pack, hold: 256 MiB
	Module   protocol.ByteSize // one module as it is delivered: 64 MiB
	Session  protocol.ByteSize // all that one submission has fetched, unpacked and packed: 4 GB
	Files    int               // files of an archive, or objects of a pack: 50,000
	Time     time.Duration     // one origin: 5 min

	AtOnce   int // origins fetched at once: 8
	Sessions int // submissions of one person that fetch at once: 3
	Burst    int // origins one person may have fetched in a row: 1,500
	PerHour  int // and per hour from then on: 500
}

func (l Limits) withDefaults() Limits {
	for _, x := range []struct{ field, value *protocol.ByteSize }{
		{&l.Transfer, new(protocol.ByteSize(64 << 20))},
		{&l.Unpacked, new(protocol.ByteSize(256 << 20))},
		{&l.Module, new(protocol.ByteSize(64 << 20))},
		{&l.Session, new(4 * protocol.GB)},
	} {
		if *x.field == 0 {
			*x.field = *x.value
		}
	}
	for _, x := range []struct {
		field *int
		value int
	}{{&l.Files, 50_000}, {&l.AtOnce, 8}, {&l.Sessions, 3}, {&l.Burst, 3 * steering.MaxExternals / 2}, {&l.PerHour, 500}} {
		if *x.field == 0 {
			*x.field = x.value
		}
	}
	if l.Time == 0 {
		l.Time = 5 * time.Minute
	}
	return l
}

// Fetcher brings modules by the rules of a cluster. It may be used concurrently.
type Fetcher struct {
	config Config
	limits Limits
	client *http.Client
	slots  chan struct{}

	mu    sync.Mutex
	users map[protocol.UserID]*person // guarded by mu
}

// person is what one user has fetched of late.
type person struct {
	rate     *rate.Limiter
	sessions int
}

// New returns a fetcher. What an earlier one left in its directory when it was
// killed is removed.
func New(c Config) (*Fetcher, error) {
	if c.Dir != "" {
		if err := clearDir(c.Dir); err != nil {
			return nil, fmt.Errorf("fetch: %w", err)
		}
	}
	return newFetcher(c, &guard{resolver: net.DefaultResolver, opened: c.Opened}), nil
}

// leftAfter is the age from which a session's directory is nobody's: none lasts as long.
const leftAfter = 24 * time.Hour

func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // made by the first session
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), "fetch-") && time.Since(info.ModTime()) > leftAfter {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func newFetcher(c Config, g *guard) *Fetcher {
	if c.Hosts == nil {
		c.Hosts = DefaultHosts
	}
	limits := c.Limits.withDefaults()
	return &Fetcher{
		config: c, limits: limits, client: newClient(c.Hosts, c.Roots, g, limits.Transfer),
		slots: make(chan struct{}, limits.AtOnce), users: map[protocol.UserID]*person{},
	}
}

// maxIdlePersons is how many people are remembered who fetch nothing now.
const maxIdlePersons = 1000

// Begin starts the work for one submission; its Close must be called. ErrBusy: this
// person has too many under way.
func (f *Fetcher) Begin(user protocol.UserID) (*Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.users[user]
	if p == nil {
		if len(f.users) >= maxIdlePersons {
			for name, other := range f.users {
				if other.sessions == 0 && other.rate.Tokens() >= float64(f.limits.Burst) {
					delete(f.users, name)
				}
			}
		}
		p = &person{rate: rate.NewLimiter(rate.Limit(float64(f.limits.PerHour)/3600), f.limits.Burst)}
		f.users[user] = p
	}
	if p.sessions >= f.limits.Sessions {
		return nil, fmt.Errorf("%w: external modules of %d other submissions of yours are being fetched", ErrBusy, p.sessions)
	}
	if f.config.Dir != "" {
		if err := os.MkdirAll(f.config.Dir, 0o700); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(f.config.Dir, "fetch-")
	if err != nil {
		return nil, err
	}
	p.sessions++
	s := &Session{fetcher: f, person: p, dir: dir, origins: map[string]*visit{}}
	s.left.Store(int64(f.limits.Session))
	return s, nil
}

// Session is the work for one submission. It may be used concurrently.
type Session struct {
	fetcher *Fetcher
	person  *person
	dir     string
	left    atomic.Int64 // bytes that may still come to lie on the disk

	mu      sync.Mutex
	origins map[string]*visit // guarded by mu
	closed  bool              // guarded by mu
}

// visit is an origin that is asked at most once.
type visit struct {
	mu     sync.Mutex
	origin origin
	loaded bool
	err    error // of the origin, kept: what it answered once holds for the session
}

// origin is a file or repository.
type origin interface {
	// resolve finds out what a name means at this moment, and returns the reference by
	// the name that always means the same, if it is known before the bytes are here.
	resolve(ctx context.Context) (steering.External, error)
	// load brings the bytes.
	load(ctx context.Context) (steering.External, error)
	// pick lays a file or folder of the bytes below an empty directory, and returns the
	// file's name, empty for a folder.
	pick(ctx context.Context, inside string, into *os.Root) (name string, err error)
}

// Module is what was brought.
type Module struct {
	// Pinned is the reference by a name that always means the same.
	Pinned steering.External
	// Digest and Size are the tarball's, File is where it is until the session's Close.
	Digest protocol.Digest
	Size   protocol.ByteSize
	File   string
	// Path is the module's file in the tarball, empty for all of it.
	Path string
}

// Close removes what was brought.
func (s *Session) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.fetcher.mu.Lock()
	s.person.sessions--
	s.fetcher.mu.Unlock()
	return os.RemoveAll(s.dir)
}

// spend counts bytes that come to lie on the disk.
func (s *Session) spend(n int64) error {
	if s.left.Add(-n) < 0 {
		return fmt.Errorf("%w: the external modules of one submission may take %v together", ErrTooLarge, s.fetcher.limits.Session)
	}
	return nil
}

type sessionKey struct{}

// Pin finds out what a reference means, without bringing it. ok is false where that
// is only known from the bytes.
func (s *Session) Pin(ctx context.Context, e steering.External) (pinned steering.External, ok bool, err error) {
	if e.Kind == steering.ExternalFile {
		return e, !e.SHA256.IsZero(), s.fetcher.admits(e)
	}
	err = s.visit(ctx, e, func(ctx context.Context, v *visit) error {
		pinned, err = v.origin.resolve(ctx)
		return err
	})
	pinned.Inside = e.Inside
	return pinned, err == nil, err
}

// Module brings what a reference means. A session's further references to the same
// origin take it from there.
func (s *Session) Module(ctx context.Context, e steering.External) (Module, error) {
	var m Module
	err := s.visit(ctx, e, func(ctx context.Context, v *visit) (err error) {
		if m.Pinned, err = v.origin.load(ctx); err != nil {
			return err
		}
		v.loaded = true
		m.Pinned.Inside = e.Inside
		return s.pack(ctx, v.origin, e.Inside, &m)
	})
	return m, err
}

// admits holds a reference to the list of hosts before anything is asked.
func (f *Fetcher) admits(e steering.External) error {
	u, err := parseURL(e.URL)
	if err != nil {
		return err
	}
	return f.config.Hosts.admit(u, !e.SHA256.IsZero())
}

// visit does something with the origin of a reference, one after another, within the
// limits of time and number.
func (s *Session) visit(ctx context.Context, e steering.External, do func(context.Context, *visit) error) error {
	if err := s.fetcher.admits(e); err != nil {
		return err
	}
	bare := e
	bare.Inside = ""
	s.mu.Lock()
	v, known := s.origins[bare.String()]
	if !known {
		v = &visit{origin: s.open(bare)}
		s.origins[bare.String()] = v
	}
	s.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err != nil {
		return v.err
	}
	if !known && !s.person.rate.Allow() {
		v.err = fmt.Errorf("%w: you had %d external modules fetched; some %d more are possible per hour", ErrBusy, s.fetcher.limits.Burst, s.fetcher.limits.PerHour)
		return v.err
	}
	select {
	case s.fetcher.slots <- struct{}{}:
		defer func() { <-s.fetcher.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	within, stop := context.WithTimeout(context.WithValue(ctx, sessionKey{}, s), s.fetcher.limits.Time)
	defer stop()
	if !e.SHA256.IsZero() {
		within = plainHTTP(within)
	}
	err := do(within, v)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("it took longer than %v: %w", s.fetcher.limits.Time, err)
	}
	if err != nil && !v.loaded && ctx.Err() == nil {
		v.err = err
	}
	return err
}

// open returns the origin of a reference; nothing is asked yet.
func (s *Session) open(e steering.External) origin {
	switch e.Kind {
	case steering.ExternalGit:
		return &repository{session: s, reference: e}
	case steering.ExternalSVN:
		return &subversion{session: s, reference: e}
	default:
		return &file{session: s, reference: e}
	}
}

// tempDir makes a directory that is gone with the session.
func (s *Session) tempDir() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", errors.New("the session is closed")
	}
	return os.MkdirTemp(s.dir, "")
}
