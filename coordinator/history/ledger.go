package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"
	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"floe/coordinator/state"
)

// Config describes one ledger.
type Config struct {
	Dir    string // on a local file system; created when missing
	Logger *slog.Logger

	// JournalLimit is how many rows a generation of the journal takes before it is
	// sealed, at most 10^6. Coordinators with the same limit seal the same files.
	// Default 262,144: about 16 MiB of keys in memory.
	JournalLimit int

	// CommitInterval is how long rows are gathered into one synced transaction when
	// nobody waits for them. Default 50 ms.
	CommitInterval time.Duration
}

const (
	maxJournal     = 1_000_000 // Source: design §3
	maxQueue       = 256       // log entries of at most 64 KiB of commands each
	maxCommit      = 8192      // events in one transaction
	maxGenerations = 4         // unsealed ones before the writer waits
)

// Validate returns all that is wrong with the configuration, joined.
func (c *Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: empty"))
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("logger: nil"))
	}
	if c.JournalLimit < 0 || c.JournalLimit > maxJournal {
		errs = append(errs, fmt.Errorf("journal limit %d: want 0 to %d", c.JournalLimit, maxJournal))
	}
	if c.CommitInterval < 0 {
		errs = append(errs, fmt.Errorf("commit interval %v: negative", c.CommitInterval))
	}
	return errors.Join(errs...)
}

// Ledger is the history of one coordinator. Append and Restored are called by the
// one goroutine that applies the log; all other methods may be called by anyone at
// any time between Open and Close.
type Ledger struct {
	config Config
	codec  *codec

	queue    chan batch
	urgent   chan struct{} // somebody waits in SyncTo
	rotated  chan struct{} // a generation is ready to be sealed
	adopting chan *adoption
	sealing  sync.Mutex    // held while a generation is sealed, and while the journal is replaced
	appended atomic.Uint64 // newest index given to Append

	view atomic.Pointer[view]

	mu      sync.Mutex    // held to replace view
	changed chan struct{} // guarded by mu: closed when view is replaced

	stopped chan struct{} // closed when Run has returned
	cause   error         // set before stopped is closed

	writer writer // owned by Run
}

// batch is what one log entry did.
type batch struct {
	index    uint64
	events   []state.Event
	restored bool // the record was replaced by a snapshot at index
}

// view is what readers see: rows committed, consistently. It is never changed,
// only replaced.
type view struct {
	db          *bbolt.DB // the journal; another one only after Adopt
	standing    standing
	generations []*generation // oldest first, the last one growing
	segments    []*segment    // oldest first
}

// generation is a part of the journal: the rows of the log indexes from its number
// to that of the next generation.
type generation struct {
	number uint64
	keys   *btree.BTreeG[key]
}

func newGeneration(number uint64) *generation {
	return &generation{number, btree.NewBTreeGOptions(func(a, b key) bool { return a.compare(b) < 0 }, btree.Options{NoLocks: true})}
}

// ErrWrite means that Run could not write: the coordinator must stop. The cause is
// wrapped with it.
var ErrWrite = errors.New("history cannot be written")

// ErrStopped means that Run has returned: nothing more will be written. The cause
// is wrapped with it.
var ErrStopped = errors.New("history is no longer written")

// Open opens or creates the ledger. Sealed files that are lost or damaged are
// listed by Damaged; until they are mended, queries that need them fail. Only one
// process may have a ledger open.
func Open(c Config) (*Ledger, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	if c.JournalLimit == 0 {
		c.JournalLimit = 1 << 18
	}
	if c.CommitInterval == 0 {
		c.CommitInterval = 50 * time.Millisecond
	}
	l := &Ledger{
		config: c, queue: make(chan batch, maxQueue), urgent: make(chan struct{}, 1),
		rotated: make(chan struct{}, 1), adopting: make(chan *adoption), changed: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("history %s: %w", c.Dir, err), l.Close())
	}
	return l, nil
}

func (l *Ledger) open() error {
	if err := os.MkdirAll(sealedDir(l.config.Dir), 0o700); err != nil {
		return err
	}
	var err error
	if l.codec, err = newCodec(); err != nil {
		return err
	}
	db, err := openJournal(filepath.Join(l.config.Dir, journalFile))
	if err != nil {
		return err
	}
	// A synced file whose name a loss of power takes back is a lost file.
	if err := errors.Join(syncDir(l.config.Dir), syncDir(filepath.Dir(l.config.Dir))); err != nil {
		return errors.Join(err, db.Close())
	}
	v, seals, err := loadJournal(db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	l.openSegments(v, seals)
	l.view.Store(v)
	l.writer = newWriter(l, v)
	l.appended.Store(v.standing.Applied)
	return l.removeUnnamed(seals)
}

// openSegments opens the sealed files of a view, as far as they can be.
func (l *Ledger) openSegments(v *view, seals []Seal) {
	for _, s := range seals {
		g, err := openSegment(sealedDir(l.config.Dir), l.codec, s)
		if err != nil {
			l.config.Logger.Warn("history file is lost or damaged", "digest", s.Digest, "err", err)
			g = &segment{Seal: s, broken: &DamageError{Seals: []Seal{s}, causes: []error{err}}}
		}
		v.segments = append(v.segments, g)
	}
}

// Close releases the ledger. Run must have returned.
func (l *Ledger) Close() error {
	var errs []error
	if v := l.view.Load(); v != nil {
		for _, s := range v.segments {
			if s.broken == nil {
				errs = append(errs, s.file.Close())
			}
		}
		errs = append(errs, v.db.Close())
	}
	if l.codec != nil {
		l.codec.close()
	}
	return errors.Join(errs...)
}

// Append hands over what the log entry of the index did. It is called once for
// every entry applied, in order, also for those without events; what is known
// already is passed over. It keeps events, which must not change any more, and
// waits while the queue is full. After Run has returned it does nothing.
func (l *Ledger) Append(index uint64, events []state.Event) {
	l.enqueue(batch{index: index, events: events})
}

// Restored says that the record was replaced by a snapshot at the index. If the
// ledger has not come that far, it has a gap from now on.
func (l *Ledger) Restored(index uint64) {
	l.enqueue(batch{index: index, restored: true})
}

func (l *Ledger) enqueue(b batch) {
	if b.index > l.appended.Load() {
		l.appended.Store(b.index)
	}
	select {
	case l.queue <- b:
	case <-l.stopped:
	}
}

// Run writes the ledger until ctx ends, then writes what is queued and returns nil.
// Any error in writing ends it; the coordinator must then stop.
func (l *Ledger) Run(ctx context.Context) error {
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return l.writer.run(inner) })
	g.Go(func() error { return l.sealGenerations(inner) })
	err := g.Wait()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrWrite, err)
	}
	l.cause = err
	close(l.stopped)
	return err
}

// Applied returns the log index up to which everything is durable.
func (l *Ledger) Applied() uint64 { return l.view.Load().standing.Applied }

// Gap is a range of log indexes whose events this ledger never saw.
type Gap struct {
	From uint64 `cbor:"1,keyasint,omitempty"`
	To   uint64 `cbor:"2,keyasint,omitempty"`
}

// Gap returns what is missing, or false for a complete ledger. One with a gap does
// not count as a copy; Adopt closes it with a peer's.
func (l *Ledger) Gap() (Gap, bool) {
	g := l.view.Load().standing.Gap
	return g, g != Gap{}
}

// SyncTo returns once everything given to Append up to the index is durable,
// without waiting for the commit interval. It is what a snapshot calls before its
// log may be truncated. It answers ErrStopped or ctx's error.
func (l *Ledger) SyncTo(ctx context.Context, index uint64) error {
	select {
	case l.urgent <- struct{}{}:
	default:
	}
	return l.WaitApplied(ctx, min(index, l.appended.Load()))
}

// WaitApplied returns once everything up to the index is durable and so visible to
// queries. It answers ErrStopped or ctx's error.
func (l *Ledger) WaitApplied(ctx context.Context, index uint64) error {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if l.Applied() >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.stopped:
			if l.Applied() >= index {
				return nil
			}
			if l.cause == nil {
				return ErrStopped
			}
			return fmt.Errorf("%w: %w", ErrStopped, l.cause)
		}
	}
}

// publish replaces the view by what change makes of a copy of it.
func (l *Ledger) publish(change func(v *view)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := *l.view.Load()
	change(&v)
	l.view.Store(&v)
	close(l.changed)
	l.changed = make(chan struct{})
}
