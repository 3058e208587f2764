package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"floe/protocol"

	"github.com/minio/sha256-simd"
)

// Errors of the cache.
var (
	// ErrMismatch: the bytes had another digest or size than asked for.
	ErrMismatch = errors.New("bytes do not match their digest")
	// ErrNoSpace: the quota is spent by entries in use, or the disk is full.
	ErrNoSpace = errors.New("no space in the cache")
	// ErrNoSource: no source could give the bytes. A source that returns it says that
	// it has never had them, which is no failure while others are left.
	ErrNoSource = errors.New("no source has it")
	// ErrOwner: the directory belongs to another user, or others may write to it.
	ErrOwner = errors.New("not a directory of this user alone")
)

// Source gives the bytes of a digest. Name says where they come from, for messages.
// What Open returns may have a method Size() protocol.ByteSize, as a promise.
type Source struct {
	Name string
	// URL is where a site's cache can fetch the bytes by itself; empty if it cannot.
	URL  string
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Site is a cache that a whole site shares. An error in whose chain ErrNoSource is
// says that it does not give the digest.
type Site interface {
	Fetch(ctx context.Context, d protocol.Digest, origins []string) (io.ReadCloser, error)
}

// Config of a store.
type Config struct {
	// Dir is the cache's directory; made if needed.
	Dir string
	// Quota is how many bytes the directory may hold; 0 is no limit but the disk, of
	// which a part is left free.
	Quota protocol.ByteSize
	// Share lets other users of the node read the tarballs of software, and keeps
	// those for it. Inputs stay private.
	Share bool
	// From are cache directories of other users that share. Their bytes are copied and
	// hashed.
	From []string
	// Site is nil without one.
	Site   Site
	Logger *slog.Logger
}

// Store is one process's view of a cache directory. Its methods may be called
// concurrently.
type Store struct {
	dir    string
	quota  protocol.ByteSize
	share  bool
	from   []string
	site   Site
	logger *slog.Logger
	stats  counters
	room   room

	mu   sync.Mutex
	warm map[protocol.Digest]warmTree // trees this process has verified; guarded by mu
}

// Open opens the cache in c.Dir and removes what dead processes left. Where locks
// do not reach other nodes, it opens this node's own part of the directory.
func Open(c Config) (*Store, error) {
	s, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return s, nil
}

func open(c Config) (*Store, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	mode := fs.FileMode(0o700)
	if c.Share {
		mode = 0o711 // others read what they can name
	}
	if err := makeDirs(mode, dir); err != nil {
		return nil, err
	}
	if err := checkOwner(dir); err != nil {
		return nil, err
	}
	reached, err := reachOf(dir)
	if err != nil {
		return nil, err
	}
	if reached == thisNode {
		if dir, err = ofNode(dir); err != nil {
			return nil, err
		}
		c.Logger.Warn("locks in the cache's directory do not reach other nodes, which mount it without (nolock, local_lock, localflock); this node keeps a part of its own", "path", dir)
		if err := makeDirs(mode, filepath.Dir(dir), dir); err != nil {
			return nil, err
		}
	}
	s := &Store{
		dir: dir, quota: c.Quota, share: c.Share, site: c.Site, logger: c.Logger,
		warm: map[protocol.Digest]warmTree{}, room: room{turn: make(chan struct{}, 1), sizes: map[string]protocol.ByteSize{}},
	}
	for _, from := range c.From {
		if from, err = filepath.Abs(from); err == nil && from != dir {
			s.from = append(s.from, from)
		}
	}
	if err := makeDirs(mode, s.path("blobs")); err != nil {
		return nil, err
	}
	if err := makeDirs(0o700, s.path("trees"), s.path("names"), s.path("making"), s.path("sessions"), s.path("tmp"), s.path("quarantine")); err != nil {
		return nil, err
	}
	return s, s.tidy()
}

// makeDirs makes directories, with the mode whatever the umask, where they are
// missing.
func makeDirs(mode fs.FileMode, dirs ...string) error {
	for _, d := range dirs {
		if err := os.MkdirAll(d, mode); err != nil {
			return err
		}
		info, err := os.Stat(d)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&mode != mode {
			if err := os.Chmod(d, info.Mode().Perm()|mode); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkOwner refuses a directory that others could write to.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: %s belongs to uid %d; give this user a directory of its own, and name that one as a source", ErrOwner, dir, st.Uid)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%w: %s has mode %v; chmod go-w", ErrOwner, dir, info.Mode().Perm())
	}
	return nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *Store) blobPath(d protocol.Digest) string {
	return s.path("blobs", d.Hex()[:2], d.Hex())
}

func (s *Store) treePath(d protocol.Digest) string { return s.path("trees", d.Hex()) }

// Entry is a blob or tree in use. It stays until Release.
type Entry struct {
	// Path is the file, or the root directory of the tree. Read only.
	Path   string
	Digest protocol.Digest
	Size   protocol.ByteSize
	// Hit says that no source had to be asked.
	Hit bool

	use *locked // the blob, or the tree's about
}

// Release ends the use. It may be called more than once.
func (e *Entry) Release() {
	if e.use != nil {
		_ = e.use.Close() // nothing was written
		e.use = nil
	}
}

// Intact tells whether the entry still stands under its name. One that was found to
// be damaged while it was in use was moved away; who ran from it cannot be trusted.
func (e *Entry) Intact() bool {
	return e.use != nil && e.use.stands()
}

// kind is what blobs and trees do differently.
type kind struct {
	path string // what is locked by who uses the entry
	// verify checks the entry behind a lock; an error says that it is damaged.
	verify func(*locked) (protocol.ByteSize, error)
	// fetch makes the entry, and returns it in use.
	fetch func() (*locked, protocol.ByteSize, error)
}

// Blob returns the file of digest d, fetched from the first source that has it.
// The bytes of a hit are hashed again before they are handed out.
func (s *Store) Blob(ctx context.Context, d protocol.Digest, sources []Source) (*Entry, error) {
	e, err := s.entry(ctx, d, kind{
		path:   s.blobPath(d),
		verify: func(f *locked) (protocol.ByteSize, error) { return s.verifyBlob(ctx, d, f) },
		fetch:  func() (*locked, protocol.ByteSize, error) { return s.fetchBlob(ctx, d, sources, 0o600) },
	})
	if err != nil {
		return nil, fmt.Errorf("cache: blob %v: %w", d, err)
	}
	e.Path = s.blobPath(d)
	return e, nil
}

// entry finds a good entry or makes it, and returns it in use.
func (s *Store) entry(ctx context.Context, d protocol.Digest, k kind) (*Entry, error) {
	for {
		e, err := s.use(d, k)
		if e != nil {
			s.stats.hit(e.Size)
		}
		if e != nil || err != nil {
			return e, err
		}
		making, err := tryLock(s.path("making", d.Hex()), alone, os.O_RDWR|os.O_CREATE)
		if err != nil {
			return nil, diskError(err)
		}
		if making == nil { // another process or another task fetches it
			if err := pause(ctx, lockPoll); err != nil {
				return nil, err
			}
			continue
		}
		if e, err = s.use(d, k); e != nil { // made meanwhile
			s.stats.hit(e.Size)
		} else if err == nil {
			if e, err = s.make(d, k); err == nil {
				s.stats.misses.Add(1)
			}
		}
		making.drop()
		return e, err
	}
}

// make fetches an entry.
func (s *Store) make(d protocol.Digest, k kind) (*Entry, error) {
	use, size, err := k.fetch()
	if err != nil {
		return nil, err
	}
	return &Entry{Digest: d, Size: size, use: use}, nil
}

// use takes an entry that is there; without one, and where it was damaged, it
// returns nil.
func (s *Store) use(d protocol.Digest, k kind) (*Entry, error) {
	for {
		f, err := tryLock(k.path, shared, os.O_RDONLY)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESTALE):
			return nil, nil
		case err != nil:
			return nil, err
		case f == nil:
			continue // who evicts it holds it for a moment
		}
		size, err := k.verify(f)
		if err == nil {
			now := time.Now()
			_ = os.Chtimes(k.path, now, now) // the time of last use; losing one is harmless
			return &Entry{Digest: d, Size: size, Hit: true, use: f}, nil
		}
		if canceled(err) {
			f.Close()
			return nil, err
		}
		s.logger.Warn("cache entry is damaged; fetching it anew", "digest", d, "err", err)
		if f.stands() {
			s.quarantine(d, k.path)
		}
		f.Close()
		return nil, nil
	}
}

// verifyBlob hashes the blob.
func (s *Store) verifyBlob(ctx context.Context, d protocol.Digest, f *locked) (protocol.ByteSize, error) {
	h := sha256.New()
	n, err := io.Copy(h, whileWanted{ctx, f})
	if err != nil {
		return 0, err
	}
	if got := protocol.Digest(h.Sum(nil)); got != d {
		return 0, fmt.Errorf("%w: %d bytes with digest %v", ErrMismatch, n, got)
	}
	return protocol.ByteSize(n), nil
}

// whileWanted reads until ctx ends.
type whileWanted struct {
	ctx context.Context //nolint:containedctx // of one call of io.Copy
	in  io.Reader
}

func (w whileWanted) Read(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.in.Read(b)
}

// fetchBlob copies the bytes from the first source that gives the right ones.
func (s *Store) fetchBlob(ctx context.Context, d protocol.Digest, sources []Source, mode fs.FileMode) (use *locked, size protocol.ByteSize, err error) {
	err = s.fromAny(ctx, d, sources, func(source Source) error {
		in, err := source.Open(ctx)
		if err != nil {
			return err
		}
		defer in.Close()
		w, err := s.write(ctx, in, mode)
		if err != nil {
			return err
		}
		defer w.close()
		if w.digest != d {
			return fmt.Errorf("%w: %d bytes with digest %v", ErrMismatch, w.size, w.digest)
		}
		size = w.size
		use, err = w.publish()
		return err
	})
	return use, size, err
}

// diskError turns a full disk into ErrNoSpace.
func diskError(err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) && !errors.Is(err, ErrNoSpace) {
			return fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
	}
	return err
}

// remove deletes a file or tree, whatever its modes.
func (s *Store) remove(path string) {
	if err := os.RemoveAll(path); err == nil {
		return
	}
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700) // what stays is said below
		}
		return nil
	})
	if err := os.RemoveAll(path); err != nil {
		s.logger.Error("not removed from the cache", "path", path, "err", err)
	}
}
