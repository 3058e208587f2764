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

	"github.com/gofrs/flock"
	"github.com/minio/sha256-simd"
)

// Errors of the cache.
var (
	// ErrMismatch: the bytes had another digest or size than asked for.
	ErrMismatch = errors.New("bytes do not match their digest")
	// ErrNoSpace: the quota is spent by entries in use, or the disk is full.
	ErrNoSpace = errors.New("no space in the cache")
	// ErrNoSource: no source could give the bytes.
	ErrNoSource = errors.New("no source has it")
)

// Source gives the bytes of a digest. Name says where they come from, for messages.
type Source struct {
	Name string
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Config of a store.
type Config struct {
	// Dir is the cache's directory; made if needed.
	Dir string
	// Quota is how many bytes of blobs and trees to keep; 0 is no limit but the disk.
	Quota  protocol.ByteSize
	Logger *slog.Logger
}

// Store is one process's view of a cache directory. Its methods may be called
// concurrently.
type Store struct {
	dir    string
	quota  protocol.ByteSize
	logger *slog.Logger
	stats  counters

	mu   sync.Mutex
	warm map[protocol.Digest]bool // trees this process has verified; guarded by mu
}

// staleAfter is how old a temporary file must be to belong to a dead process.
const staleAfter = 24 * time.Hour

// Open opens the cache in c.Dir and removes what dead processes left in tmp.
func Open(c Config) (*Store, error) {
	for _, d := range []string{"blobs", "trees", "locks", "tmp", "quarantine"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("open cache: %w", err)
		}
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	s := &Store{dir: dir, quota: c.Quota, logger: c.Logger, warm: map[protocol.Digest]bool{}}
	left, err := os.ReadDir(s.path("tmp"))
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	for _, e := range left {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleAfter {
			s.remove(s.path("tmp", e.Name()))
		}
	}
	return s, nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *Store) blobPath(d protocol.Digest) string {
	return s.path("blobs", d.Hex()[:2], d.Hex())
}

func (s *Store) treePath(d protocol.Digest) string { return s.path("trees", d.Hex()) }

// lock is the lock of a digest: shared while in use, alone while it changes.
func (s *Store) lock(d protocol.Digest) *flock.Flock {
	return flock.New(s.path("locks", d.Hex()), flock.SetPermissions(0o600))
}

// lockPoll is how often a process that waits for another's fetch looks again.
const lockPoll = 20 * time.Millisecond

// Entry is a blob or tree in use. It stays until Release.
type Entry struct {
	// Path is the file, or the root directory of the tree. Read only.
	Path   string
	Digest protocol.Digest
	Size   protocol.ByteSize
	// Hit says that no source had to be asked.
	Hit  bool
	lock *flock.Flock
}

// Release ends the use. It may be called more than once.
func (e *Entry) Release() {
	if e.lock != nil {
		_ = e.lock.Close() // closing a lock file cannot lose data
		e.lock = nil
	}
}

// Blob returns the file of digest d, fetched from the first source that has it.
// The bytes of a hit are hashed again before they are handed out.
func (s *Store) Blob(ctx context.Context, d protocol.Digest, sources []Source) (*Entry, error) {
	e, err := s.entry(ctx, d, s.blobPath(d),
		func() (protocol.ByteSize, error) { return s.verifyBlob(d) },
		func() (protocol.ByteSize, error) { return s.fetchBlob(ctx, d, sources) })
	if err != nil {
		return nil, fmt.Errorf("cache: blob %v: %w", d, err)
	}
	e.Path = s.blobPath(d)
	return e, nil
}

// entry finds a good entry at path or makes it, under the digest's lock, and
// returns it in use.
func (s *Store) entry(ctx context.Context, d protocol.Digest, path string, verify, fetch func() (protocol.ByteSize, error)) (*Entry, error) {
	l := s.lock(d)
	if _, err := l.TryRLockContext(ctx, lockPoll); err != nil {
		return nil, err
	}
	size, err := verify()
	if err == nil {
		s.stats.hit(size)
		return &Entry{Digest: d, Size: size, Hit: true, lock: l}, nil
	}
	if err := l.Unlock(); err != nil {
		return nil, err
	}
	if _, err := l.TryLockContext(ctx, lockPoll); err != nil {
		return nil, err
	}
	// Another process may have fetched it while this one waited.
	size, err = verify()
	hit := err == nil
	if hit {
		s.stats.hit(size)
	} else {
		if !errors.Is(err, fs.ErrNotExist) {
			s.logger.Warn("cache entry is damaged; fetching it anew", "digest", d, "err", err)
		}
		if size, err = fetch(); err != nil {
			_ = l.Close()
			return nil, err
		}
		s.stats.misses.Add(1)
	}
	// From alone to shared: between the two an eviction can slip in, and then the
	// entry is gone.
	if err := l.Unlock(); err != nil {
		return nil, err
	}
	if _, err := l.TryRLockContext(ctx, lockPoll); err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("evicted while it was being handed out: %w", ErrNoSpace)
	}
	return &Entry{Digest: d, Size: size, Hit: hit, lock: l}, nil
}

// verifyBlob hashes the blob; a bad one goes to quarantine.
func (s *Store) verifyBlob(d protocol.Digest) (protocol.ByteSize, error) {
	path := s.blobPath(d)
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return 0, err
	}
	if protocol.Digest(h.Sum(nil)) != d {
		s.quarantine(path)
		return 0, ErrMismatch
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // the time of last use; losing one is harmless
	return protocol.ByteSize(n), nil
}

// fetchBlob copies the bytes from the first source that gives the right ones.
func (s *Store) fetchBlob(ctx context.Context, d protocol.Digest, sources []Source) (protocol.ByteSize, error) {
	if len(sources) == 0 {
		return 0, ErrNoSource
	}
	var all []error
	for _, source := range sources {
		size, err := s.fetchFrom(ctx, d, source)
		if err == nil {
			return size, nil
		}
		if errors.Is(err, ErrNoSpace) || ctx.Err() != nil {
			return 0, err
		}
		all = append(all, fmt.Errorf("%s: %w", source.Name, err))
	}
	return 0, errors.Join(all...)
}

func (s *Store) fetchFrom(ctx context.Context, d protocol.Digest, source Source) (protocol.ByteSize, error) {
	in, err := source.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	tmp, err := os.CreateTemp(s.path("tmp"), "blob-")
	if err != nil {
		return 0, diskError(err)
	}
	defer s.remove(tmp.Name())
	defer tmp.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, h), &reserving{ctx: ctx, in: in, store: s})
	if err != nil {
		return 0, diskError(err)
	}
	if got := protocol.Digest(h.Sum(nil)); got != d {
		return 0, fmt.Errorf("%w: %d bytes with digest %v", ErrMismatch, n, got)
	}
	if err := tmp.Chmod(0o400); err != nil {
		return 0, diskError(err)
	}
	if err := tmp.Sync(); err != nil {
		return 0, diskError(err)
	}
	return protocol.ByteSize(n), publish(tmp.Name(), s.blobPath(d))
}

// publish renames what is complete to its final name and syncs the directory.
func publish(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return diskError(err)
	}
	if err := os.Rename(from, to); err != nil {
		return diskError(err)
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// diskError turns a full disk into ErrNoSpace.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// quarantine moves a bad entry aside; what cannot be moved is removed.
func (s *Store) quarantine(path string) {
	s.stats.quarantined.Add(1)
	to := s.path("quarantine", fmt.Sprintf("%s-%d", filepath.Base(path), time.Now().UnixNano()))
	if err := os.Rename(path, to); err != nil {
		s.logger.Error("bad cache entry not moved to quarantine", "path", path, "err", err)
		s.remove(path)
	}
}

// remove deletes a file or tree, whatever its modes.
func (s *Store) remove(path string) {
	if err := os.RemoveAll(path); err == nil {
		return
	}
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	if err := os.RemoveAll(path); err != nil {
		s.logger.Error("not removed from the cache", "path", path, "err", err)
	}
}

// reserving reads from a source while the quota lasts, making room as it goes.
type reserving struct {
	ctx     context.Context
	in      io.Reader
	store   *Store
	granted protocol.ByteSize
	read    protocol.ByteSize
}

// reserveStep is how much room is made at a time.
const reserveStep = 64 * protocol.MB

func (r *reserving) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.read+protocol.ByteSize(len(b)) > r.granted {
		if err := r.store.makeRoom(r.granted + reserveStep); err != nil {
			return 0, err
		}
		r.granted += reserveStep
	}
	n, err := r.in.Read(b)
	r.read += protocol.ByteSize(n)
	return n, err
}
