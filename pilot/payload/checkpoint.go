package payload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"floe/pilot/library"
	"floe/pilot/payload/session"
	"floe/protocol"
)

// Checkpoint is work of a module that another attempt can go on from: files of its
// work directory, packed into one.
type Checkpoint struct {
	// File is the tarball. It is its receiver's to remove.
	File string
	Size protocol.ByteSize
	// Kept is how much wall time it spares who goes on from it, earlier attempts' included.
	Kept time.Duration
	// Asked says that the pilot had asked for it: the module's end is near.
	Asked bool
}

// savedNote is the first member of a checkpoint's tarball.
const savedNote = ".floe-checkpoint"

// note is what savedNote holds, as JSON.
type note struct {
	// Step is the place of the module among all that the task runs, from 1, and
	// Module its name, for people.
	Step   int    `json:"step"`
	Module string `json:"module"`
	// Paths are what the payload named, the first one first.
	Paths      []string `json:"paths"`
	KeptMillis int64    `json:"kept_ms"`
}

// maxNote bounds what is read of one.
const maxNote = 64 << 10

// savings is what a task's modules have saved, and what an earlier attempt's did.
type savings struct {
	// earlier is what was unpacked of an earlier attempt, nil for none.
	earlier *note
	resumed time.Duration // what going on from it spared

	told chan struct{} // holds one: a checkpoint was saved

	mu    sync.Mutex
	began time.Time     // guarded by mu; when the module that runs did
	base  time.Duration // guarded by mu; what it had been spared by then
	step  *step         // guarded by mu; nil between modules
	count int           // guarded by mu
	asked bool          // guarded by mu; the module that runs was asked to save
	last  *Checkpoint   // guarded by mu
}

// begin says that a module runs.
func (v *savings) begin(s *step, base time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.step, v.base, v.began, v.asked = s, base, time.Now(), false
	select {
	case <-v.told:
	default:
	}
}

// ask notes that the module that runs was asked to save its work.
func (v *savings) ask() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = true
}

// kept is what the last checkpoint of this attempt spares, or 0.
func (v *savings) kept() (d time.Duration, any bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last == nil {
		return 0, false
	}
	return v.last.Kept, true
}

// sinceAsked tells whether the module has saved something since it was asked to.
func (v *savings) sinceAsked() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last != nil && v.last.Asked
}

// save packs paths of the work directory, or what the steering file declares, and
// hands the checkpoint on. The payload waits for it: nothing changes meanwhile.
func (r *runner) save(paths []string) (protocol.ByteSize, error) {
	v := &r.savings
	v.mu.Lock()
	s, began, base := v.step, v.began, v.base
	kept := base + time.Since(began)
	v.count++
	n := v.count
	v.mu.Unlock()
	if r.options.Saved == nil {
		return 0, session.Errorf(session.CodeRefused, "checkpoints are not kept here")
	}
	if s == nil {
		return 0, session.Errorf(session.CodeNoModule, "no module runs")
	}
	c := Checkpoint{File: filepath.Join(string(r.dir), fmt.Sprintf("checkpoint-%d", n)), Kept: kept}
	names, err := r.pack(&c, s, paths)
	if err != nil {
		r.log.Printf("checkpoint refused: %v", err)
		return 0, err
	}
	v.mu.Lock()
	c.Asked = v.asked
	v.last = &c
	v.mu.Unlock()
	r.log.Printf("checkpoint of module %s: %s, %v, keeps %v", s.label, strings.Join(names, " "), c.Size, c.Kept.Round(time.Second))
	r.options.Saved(c)
	select {
	case v.told <- struct{}{}:
	default:
	}
	return c.Size, nil
}

// saveDeclared saves what the steering file declares of a module that was asked for it
// and ended by itself, or says by its exit code that it did: a foreign program need not
// know of floe. What was killed may have left half a file.
func (r *runner) saveDeclared(s *step, run *ran) {
	c := s.checkpoint
	asked := run.stopped == stopContext || run.stopped == stopWalltime || run.stopped == stopSlot
	again := run.stopped == stopNone && run.exit != 0 && c != nil && run.exit == c.Exit
	if c == nil || len(c.Files) == 0 || run.start != nil || run.signal != 0 || run.exit == 0 || run.exit > 128 || !asked && !again {
		return
	}
	if r.savings.sinceAsked() {
		return
	}
	_, _ = r.save(nil) // what keeps it from being saved is in the log
}

// pack makes the tarball and returns what is in it.
func (r *runner) pack(c *Checkpoint, s *step, paths []string) ([]string, error) {
	if len(paths) == 0 {
		if s.checkpoint == nil || len(s.checkpoint.Files) == 0 {
			return nil, session.Errorf(session.CodePath, "no paths are named, and the steering file declares none")
		}
		paths = s.checkpoint.Files
	}
	root, err := os.OpenRoot(r.dir.Work())
	if err != nil {
		return nil, err
	}
	defer root.Close()
	names, err := library.Match(root, r.dir.Work(), paths)
	if err != nil {
		return nil, session.Errorf(session.CodePath, "%v", err)
	}
	text, err := json.Marshal(note{Step: s.number, Module: s.label, Paths: names, KeptMillis: c.Kept.Milliseconds()})
	if err != nil {
		return nil, err
	}
	if len(text) > maxNote {
		return nil, session.Errorf(session.CodeTooMany, "%d files; name their directory", len(names))
	}
	part := c.File + ".part"
	out, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	limited := &limitedWriter{left: int64(r.savedLimit())}
	err = library.Pack(context.Background(), root, names, savedNote, text, out, limited)
	err = errors.Join(err, out.Close())
	if err == nil {
		err = os.Rename(part, c.File)
	}
	switch {
	case err == nil:
	case limited.left < 0:
		err = session.Errorf(session.CodeTooLarge, "a checkpoint may be as large as the scratch disk granted, %v", r.limits.Disk)
	default:
		err = session.Errorf(session.CodePath, "%v", err)
	}
	if err != nil {
		return nil, errors.Join(err, remove(part))
	}
	info, err := os.Stat(c.File)
	if err != nil {
		return nil, err
	}
	c.Size = protocol.ByteSize(info.Size())
	return names, nil
}

// savedLimit is how large a checkpoint may be, unpacked.
func (r *runner) savedLimit() protocol.ByteSize {
	if r.limits.Disk > 0 {
		return r.limits.Disk
	}
	return protocol.MaxByteSize
}

// limitedWriter fails when more is written than was left.
type limitedWriter struct{ left int64 }

func (l *limitedWriter) Write(b []byte) (int, error) {
	if l.left -= int64(len(b)); l.left < 0 {
		return 0, errors.New("too large")
	}
	return len(b), nil
}

func remove(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// unpackEarlier unpacks what an earlier attempt has saved, beside the work
// directory. What cannot be used is no failure: the task starts anew.
func (r *runner) unpackEarlier(ctx context.Context) {
	if r.options.Resume == "" {
		return
	}
	n, err := r.readEarlier(ctx)
	if err != nil {
		r.log.Printf("the checkpoint of an earlier attempt is of no use, the task starts anew: %v", err)
		r.logger.Warn("a checkpoint is of no use; the task starts anew", "err", err)
		_ = os.RemoveAll(r.dir.earlier())
		return
	}
	r.savings.earlier = n
}

func (r *runner) readEarlier(ctx context.Context) (*note, error) {
	in, err := os.Open(r.options.Resume)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if err := os.Mkdir(r.dir.earlier(), 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(r.dir.earlier())
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := library.Unpack(ctx, in, root, r.savedLimit()); err != nil {
		return nil, err
	}
	f, err := root.Open(savedNote)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err != nil {
		return nil, err
	}
	n, err := parseNote(text)
	if err != nil {
		return nil, err
	}
	return n, root.Remove(savedNote)
}

// parseNote reads a note. Its digest says that a pilot wrote it.
func parseNote(text []byte) (*note, error) {
	n := new(note)
	if err := json.Unmarshal(text, n); err != nil {
		return nil, fmt.Errorf("note: %w", err)
	}
	if n.Step < 1 || n.KeptMillis < 0 || n.KeptMillis > int64(time.Duration(1<<62)/time.Millisecond) || len(n.Paths) == 0 {
		return nil, fmt.Errorf("note of step %d, %d ms, %d paths makes no sense", n.Step, n.KeptMillis, len(n.Paths))
	}
	for _, p := range n.Paths {
		if !fs.ValidPath(p) {
			return nil, fmt.Errorf("note: path %q leads outside", p)
		}
	}
	return n, nil
}

// restore puts what an earlier attempt has saved into its place, just before the
// module runs that saved it, and returns what it is spared and its first path.
func (r *runner) restore(s *step) (spared time.Duration, first string) {
	v := &r.savings
	if v.earlier == nil || v.earlier.Step != s.number {
		return 0, ""
	}
	n := v.earlier
	v.earlier = nil // a task's steps come once each
	if err := r.place(n.Paths); err != nil {
		r.log.Printf("the checkpoint of an earlier attempt is of no use, module %s starts anew: %v", s.label, err)
		return 0, ""
	}
	v.resumed = time.Duration(n.KeptMillis) * time.Millisecond
	r.log.Printf("module %s goes on from a checkpoint that keeps %v: %s", s.label, v.resumed.Round(time.Second), strings.Join(n.Paths, " "))
	return v.resumed, filepath.Join(r.dir.Work(), n.Paths[0])
}

// place moves what was unpacked into the work directory, in the place of what is
// there, such as an input that was changed since. Links that earlier modules have
// made lead nowhere out of the attempt's directory.
func (r *runner) place(paths []string) error {
	root, err := os.OpenRoot(string(r.dir))
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range paths {
		to := path.Join(filepath.Base(r.dir.Work()), p)
		err := root.MkdirAll(path.Dir(to), 0o700)
		if err == nil {
			err = root.RemoveAll(to)
		}
		if err == nil {
			err = root.Rename(path.Join(filepath.Base(r.dir.earlier()), p), to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
