package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"floe/protocol"
)

// Config describes one store.
type Config struct {
	Dir    string // on a local file system; created when missing
	Logger *slog.Logger

	// Limits bound the classes; a class left out has DefaultLimit.
	Limits map[Class]Limit

	// MinFree is how much of the disk stays free: below it Put answers ErrWatermark.
	// Zero means a tenth of the disk, at least 1 GiB and at most 10 GiB.
	MinFree protocol.ByteSize

	// ScrubRate bounds how fast Scrub reads, in bytes per second; zero means 64 MiB.
	ScrubRate protocol.ByteSize
}

// Validate returns all that is wrong with the configuration, joined.
func (c *Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: empty"))
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("logger: nil"))
	}
	for class, l := range c.Limits {
		if class == 0 || int(class) >= len(classes) {
			errs = append(errs, fmt.Errorf("limits: %v", class))
		}
		if l.Quota <= 0 || l.MaxSize <= 0 {
			errs = append(errs, fmt.Errorf("limits of class %v: quota %d and largest size %d must be positive", class, l.Quota, l.MaxSize))
		}
	}
	if c.MinFree < 0 || c.ScrubRate < 0 {
		errs = append(errs, errors.New("min free, scrub rate: negative"))
	}
	return errors.Join(errs...)
}

// Store is the blob store of one coordinator. All methods may be called
// concurrently.
type Store struct {
	config    Config
	limits    [len(classes)]Limit
	index     *bbolt.DB
	scrubbing sync.Mutex // one pass at a time

	// files[stripe(d)] is held while the file of digest d and its references change
	// together. It is held over I/O on purpose: what it orders is the I/O.
	files [64]latch

	mu       sync.Mutex
	reserved [len(classes)]int64 // guarded by mu: bytes of blobs being written
}

// Open opens or creates the store and removes what an earlier process left half
// written. Only one process may have it open.
func Open(c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	if c.ScrubRate == 0 {
		c.ScrubRate = 64 << 20
	}
	s := &Store{config: c}
	for i := range s.files {
		s.files[i] = make(latch, 1)
	}
	for _, class := range Classes {
		s.limits[class] = DefaultLimit(class)
		if l, ok := c.Limits[class]; ok {
			s.limits[class] = l
		}
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	db, err := openIndex(filepath.Join(c.Dir, "index.db"))
	if err != nil {
		return nil, fmt.Errorf("blob store %s: %w", c.Dir, err)
	}
	s.index = db
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("blob store %s: %w", c.Dir, err), db.Close())
	}
	return s, nil
}

// prepare makes the folders and empties incoming.
func (s *Store) prepare() error {
	if err := os.RemoveAll(s.path("incoming")); err != nil {
		return err
	}
	for _, dir := range []string{"incoming", "blobs", "quarantine"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
	}
	for i := range 256 {
		if err := os.Mkdir(s.path("blobs", fmt.Sprintf("%02x", i)), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// A synced file whose name a loss of power takes back is a lost file.
	return errors.Join(syncDir(s.path("blobs")), syncDir(s.path()), syncDir(filepath.Dir(s.config.Dir)))
}

// Close releases the store. Calls in progress finish with errors.
func (s *Store) Close() error { return s.index.Close() }

// Info describes a blob and one reference to it.
type Info struct {
	Digest protocol.Digest
	Size   protocol.ByteSize
	Class  Class
	Owner  string // at most MaxOwner bytes
	// Failed says that the owner is an attempt that failed: its log is kept longer.
	Failed bool
	Added  time.Time // when the reference was made
	// Missing says that this coordinator has no good copy.
	Missing bool
	// Small says that its bytes are in the index; there is no file.
	Small bool
}

// MaxOwner is the longest owner of a reference, in bytes.
const MaxOwner = 256

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.config.Dir}, parts...)...)
}

func (s *Store) file(d protocol.Digest) string {
	name := d.Hex()
	return s.path("blobs", name[:2], name)
}

func stripe(d protocol.Digest) int { return int(d[0]) % 64 }

func (s *Store) lock(d protocol.Digest) latch { return s.files[stripe(d)] }

// latch is a mutex whose holder may wait long: for a disk, and for others to share a
// transaction with (bbolt.DB.Batch has a timer). It is a channel because in a bubble
// of testing/synctest time stands still while somebody waits for a sync.Mutex.
type latch chan struct{}

func (l latch) Lock()   { l <- struct{}{} }
func (l latch) Unlock() { <-l }

// syncDir makes renames and removals in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
