package errand

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Doer runs errands.
type Doer struct {
	Desk Desk
	// Do runs one: in is what goes out, out takes what comes in.
	Do func(ctx context.Context, r Request, in io.Reader, out io.Writer) Answer
	// AtOnce is how many are run at once; others wait.
	AtOnce int
	Logger *slog.Logger
}

// leftFor is how long files that belong to no errand are left alone.
const leftFor = time.Hour

// Run runs errands until ctx ends, and gives up those under way. The directory is made,
// for its owner alone.
func (d *Doer) Run(ctx context.Context) error {
	if err := os.MkdirAll(d.Desk.Dir, 0o700); err != nil {
		return fmt.Errorf("errands: %w", err)
	}
	var working sync.WaitGroup
	defer working.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := make(chan string, d.AtOnce)
	under := map[string]context.CancelFunc{} // what is being run, by name
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case name := <-over:
			under[name]()
			delete(under, name)
			continue
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
		wanted, err := d.wanted()
		if err != nil {
			d.Logger.Warn("errands are not seen", "err", err)
			continue
		}
		for name, stop := range under {
			if !wanted[name] {
				stop() // its asker has gone
			}
		}
		for name := range wanted {
			if under[name] != nil || len(under) >= d.AtOnce {
				continue
			}
			doing, stop := context.WithCancel(ctx)
			under[name] = stop
			working.Go(func() {
				defer func() { over <- name }()
				d.run(doing, name)
			})
		}
	}
}

// wanted lists the errands whose askers wait, and removes what nobody has asked for.
func (d *Doer) wanted() (map[string]bool, error) {
	now, err := d.now()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.Desk.Dir)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // gone meanwhile
		}
		age := now.Sub(info.ModTime())
		name, ask := strings.CutSuffix(e.Name(), askSuffix)
		switch {
		case ask && age < givenUp:
			if done, err := os.Stat(d.path(name, doneSuffix)); err == nil && done.Size() == 0 {
				all[name] = true
			}
		case ask, age > leftFor && !d.asked(e.Name()):
			_ = os.Remove(filepath.Join(d.Desk.Dir, e.Name())) // tried again when it stays
		}
	}
	return all, nil
}

// asked tells whether a file belongs to an errand that is there: large data take long.
func (d *Doer) asked(file string) bool {
	_, err := os.Stat(d.path(strings.TrimSuffix(file, filepath.Ext(file)), askSuffix))
	return err == nil
}

func (d *Doer) path(name, suffix string) string { return filepath.Join(d.Desk.Dir, name+suffix) }

// now is the file system's time; and a directory that has changed is read anew.
func (d *Doer) now() (time.Time, error) {
	clock := filepath.Join(d.Desk.Dir, ".clock")
	err := os.WriteFile(clock, []byte("."), 0o600)
	if err != nil {
		return time.Time{}, err
	}
	info, err := os.Stat(clock)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), os.Remove(clock)
}

// run runs one errand and answers it.
func (d *Doer) run(ctx context.Context, name string) {
	began := time.Now()
	r, a := d.do(ctx, name)
	if ctx.Err() != nil {
		d.Logger.Info("errand given up", "errand", name)
		return
	}
	text, err := json.Marshal(a)
	if err == nil {
		err = answer(d.path(name, doneSuffix), append(text, '\n'))
	}
	// URLs may hold secrets: what they are is the asker's to say.
	d.Logger.Info("errand", "errand", name, "verb", string(r.Verb), "took", time.Since(began), "err", errors.Join(err, problem(a.Error)))
}

func problem(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

// answer fills a file that is there: one whose asker has gone is not made.
func answer(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func (d *Doer) do(ctx context.Context, name string) (Request, Answer) {
	var r Request
	text, err := readText(d.path(name, askSuffix))
	if err == nil {
		r, err = parse(text)
	}
	if err != nil {
		return r, Answer{Error: err.Error()}
	}
	var f *os.File
	switch r.Verb {
	case Put:
		if f, err = os.Open(d.path(name, dataSuffix)); err == nil {
			var info os.FileInfo
			if info, err = f.Stat(); err == nil && info.Size() != r.Size {
				err = fmt.Errorf("%d bytes are there to go out, want %d", info.Size(), r.Size)
			}
		}
	case Get:
		f, err = os.OpenFile(d.path(name, dataSuffix), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	}
	if f != nil {
		defer f.Close()
	}
	if err != nil {
		return r, Answer{Error: err.Error()}
	}
	a := d.Do(ctx, r, f, f)
	if r.Verb == Get && a.Error == "" {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			a.Error = err.Error()
		}
	}
	return r, a
}

// parse reads a request.
func parse(text []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("request: %w", err)
	}
	switch {
	case r.Verb != Get && r.Verb != Put && r.Verb != Move && r.Verb != Remove:
		return r, fmt.Errorf("request: verb %.20q: want get, put, move or remove", r.Verb)
	case r.URL == "" || (r.To != "") != (r.Verb == Move) || r.Size < 0 || r.Size > 0 && r.Verb != Put:
		return r, fmt.Errorf("request: %s with url, to or size that do not go with it", r.Verb)
	}
	return r, nil
}
