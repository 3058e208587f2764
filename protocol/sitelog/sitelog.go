package sitelog

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"floe/protocol"

	"github.com/google/renameio/v2"
)

// Entry is one line: an attempt that has begun, or, with End, that has ended.
type Entry struct {
	Host    string             `json:"host"`
	Pilot   protocol.PilotID   `json:"pilot"`
	BatchID string             `json:"batch_id,omitempty"`
	Lease   protocol.LeaseID   `json:"lease"`
	Dataset protocol.DatasetID `json:"dataset"`
	Job     protocol.JobIndex  `json:"job"`
	Task    string             `json:"task"`
	Attempt uint32             `json:"attempt"`
	User    protocol.UserID    `json:"user"`
	Group   protocol.GroupID   `json:"group,omitempty"`
	// Begin and End are Unix milliseconds by the node's clock; End is zero in a line that
	// says that an attempt has begun.
	Begin   int64  `json:"begin"`
	End     int64  `json:"end,omitempty"`
	Verdict string `json:"verdict,omitempty"`
}

// openDir holds the files of pilots, months those that were gathered.
const (
	openDir   = "open"
	monthForm = "2006-01"
	monthEnd  = ".log"
	// settled is after how long without a line a pilot's file is gathered: no attempt
	// takes a year, but a pilot that is silent for a day has left or was killed.
	settled = 24 * time.Hour
	// maxLine bounds a line that is read.
	maxLine = 64 << 10
)

// Bounds of what is kept.
const (
	// KeepMonths is how many months are kept.
	KeepMonths = 25
	// KeepBytes is how large they may be together; the oldest go first.
	KeepBytes = 4 << 30
)

// Writer is the file of one pilot. It may be used concurrently.
type Writer struct {
	path string
	base Entry

	mu    sync.Mutex
	f     *os.File    // guarded by mu
	wrote time.Time   // guarded by mu
	sync  *time.Timer // guarded by mu; nil while all lines are on disk
	err   error       // guarded by mu; of a sync, for the next line
}

const (
	// syncAfter is how long a line may wait for the disk: many short attempts share a sync.
	syncAfter = time.Second
	// quiet is after how long without a line the file may have been gathered meanwhile.
	quiet = settled / 4
)

// Open makes the file of a pilot in a site's log. base is what all its lines say.
func Open(dir string, base Entry) (*Writer, error) {
	if err := os.MkdirAll(filepath.Join(dir, openDir), 0o700); err != nil {
		return nil, fmt.Errorf("site's log: %w", err)
	}
	w := &Writer{path: filepath.Join(dir, openDir, string(base.Pilot)), base: base}
	if err := w.openLocked(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Writer) openLocked() error {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("site's log: %w", err)
	}
	if w.f != nil {
		_ = w.f.Close()
	}
	w.f, w.wrote = f, time.Now()
	return nil
}

// Write adds a line, which is on disk a second later. An error may be that of a line
// before.
func (w *Writer) Write(e Entry) error {
	e.Host, e.Pilot, e.BatchID = w.base.Host, w.base.Pilot, w.base.BatchID
	b, err := json.Marshal(&e)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.wrote) > quiet {
		if err := w.openLocked(); err != nil {
			return err
		}
	}
	_, err = w.f.Write(append(b, '\n'))
	w.wrote = time.Now()
	if w.sync == nil {
		w.sync = time.AfterFunc(syncAfter, w.flush)
	}
	if err = errors.Join(err, w.err); err != nil {
		w.err = nil
		return fmt.Errorf("site's log: %w", err)
	}
	return nil
}

func (w *Writer) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sync != nil {
		w.sync, w.err = nil, w.f.Sync()
	}
}

// Close syncs and closes the file. Nothing may be written any more.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sync != nil {
		w.sync.Stop()
		w.sync = nil
	}
	if err := errors.Join(w.err, w.f.Sync(), w.f.Close()); err != nil {
		return fmt.Errorf("site's log: %w", err)
	}
	return nil
}

// Query asks for attempts that ran at a moment.
type Query struct {
	// Host is a node, by its whole name or the part before the first dot; empty is any.
	Host string
	At   time.Time
}

// matches tells whether an attempt ran there and then.
func (q *Query) matches(e *Entry) bool {
	at := q.At.UnixMilli()
	return e.Begin <= at && (e.End == 0 || at <= e.End) && protocol.SameHost(q.Host, e.Host)
}

// Read lists the attempts that a query asks for, by their beginning. Damaged are
// lines that could not be read.
func Read(dir string, q Query) (found []Entry, damaged int, err error) {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("site's log: %w", err)
	}
	pilots, err := os.ReadDir(filepath.Join(dir, openDir))
	if errors.Is(err, fs.ErrNotExist) {
		if len(files) == 0 {
			return nil, 0, fmt.Errorf("site's log: there is none in %s: no pilot has written to it yet", dir)
		}
		err = nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("site's log: %w", err)
	}
	var paths []string
	for _, f := range pilots {
		paths = append(paths, filepath.Join(dir, openDir, f.Name()))
	}
	for _, f := range files {
		month, isMonth := strings.CutSuffix(f.Name(), monthEnd)
		begin, err := time.Parse(monthForm, month)
		if isMonth && err == nil && !begin.After(q.At) {
			paths = append(paths, filepath.Join(dir, f.Name()))
		}
	}
	attempts := map[protocol.LeaseID]*Entry{}
	for _, path := range paths {
		n, err := readFile(path, func(e *Entry) {
			// The line of the end says all; one may have been gathered, and not the other.
			if old := attempts[e.Lease]; old == nil || old.End == 0 {
				c := *e
				attempts[e.Lease] = &c
			}
		})
		damaged += n
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // gathered meanwhile
			return nil, damaged, fmt.Errorf("site's log: %w", err)
		}
	}
	for _, e := range attempts {
		if q.matches(e) {
			found = append(found, *e)
		}
	}
	slices.SortFunc(found, func(a, b Entry) int { return cmp.Or(cmp.Compare(a.Begin, b.Begin), a.Lease.Compare(b.Lease)) })
	return found, damaged, nil
}

// readFile yields the lines of a file, and counts those that are none. A last line
// that was torn is not counted: it is being written, or its pilot was killed.
func readFile(path string, yield func(*Entry)) (damaged int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return readLines(f, yield)
}

func readLines(from io.Reader, yield func(*Entry)) (damaged int, err error) {
	r := bufio.NewReaderSize(from, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			damaged++
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = r.ReadSlice('\n')
			}
			if err != nil {
				return damaged, noEOF(err)
			}
			continue
		case err != nil:
			return damaged, noEOF(err)
		}
		var e Entry
		if json.Unmarshal(line, &e) != nil || e.Lease.IsZero() || e.Begin <= 0 {
			damaged++
			continue
		}
		yield(&e)
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Tidy gathers what is settled and removes what is too old. One process may call it at
// a time.
func Tidy(dir string, now time.Time) error {
	pilots, err := os.ReadDir(filepath.Join(dir, openDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("site's log: %w", err)
	}
	months := map[string][]byte{}
	var gathered []string
	for _, f := range pilots {
		info, err := f.Info()
		if err != nil || now.Sub(info.ModTime()) < settled {
			continue
		}
		path := filepath.Join(dir, openDir, f.Name())
		_, err = readFile(path, func(e *Entry) {
			b, err := json.Marshal(e)
			if err == nil {
				month := time.UnixMilli(e.Begin).UTC().Format(monthForm)
				months[month] = append(append(months[month], b...), '\n')
			}
		})
		if err != nil {
			return fmt.Errorf("site's log: %w", err)
		}
		gathered = append(gathered, path)
	}
	for _, month := range slices.Sorted(maps.Keys(months)) {
		if err := appendTo(filepath.Join(dir, month+monthEnd), months[month]); err != nil {
			return fmt.Errorf("site's log: %w", err)
		}
	}
	var all []error
	for _, path := range gathered {
		all = append(all, os.Remove(path))
	}
	return errors.Join(append(all, prune(dir))...)
}

// appendTo replaces a file by one with more in it. What it has already is not added
// again: a pass may have been killed before it removed what it had gathered.
func appendTo(path string, more []byte) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known := map[string]bool{}
	for line := range bytes.Lines(old) {
		known[string(line)] = true
	}
	for line := range bytes.Lines(more) {
		if !known[string(line)] {
			known[string(line)] = true
			old = append(old, line...)
		}
	}
	return renameio.WriteFile(path, old, 0o600)
}

// prune removes the oldest months beyond what is kept.
func prune(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var all []error
	kept, size := 0, int64(0)
	for _, f := range slices.Backward(files) { // by name, so by month
		if _, err := time.Parse(monthForm+monthEnd, f.Name()); err != nil {
			continue
		}
		info, err := f.Info()
		if err != nil {
			continue
		}
		size += info.Size()
		if kept++; kept > KeepMonths || size > KeepBytes && kept > 1 {
			all = append(all, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	return errors.Join(all...)
}
