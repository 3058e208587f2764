package errand

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Verb is what is to be done.
type Verb string

// The verbs.
const (
	Get    Verb = "get"    // bring what is at URL
	Put    Verb = "put"    // take the data to URL
	Move   Verb = "move"   // have what is at URL be at To
	Remove Verb = "remove" // have nothing be at URL
)

// Request is what an asker wants.
type Request struct {
	Verb Verb   `json:"verb"`
	URL  string `json:"url"`
	To   string `json:"to,omitempty"`
	Size int64  `json:"size,omitempty"` // of the data that goes out
}

// Answer is what came of it.
type Answer struct {
	// Error is empty where it was done. Class says whose fault it is, in the words of
	// those who use this package.
	Error string `json:"error,omitempty"`
	Class string `json:"class,omitempty"`
}

// How often everybody looks and touches, and when an errand counts as given up: five
// touches were missed, or a file system is slow to show them.
const (
	lookEvery  = 250 * time.Millisecond
	touchEvery = 10 * time.Second
	givenUp    = time.Minute
)

const (
	askSuffix  = ".ask"
	dataSuffix = ".data"
	doneSuffix = ".done"

	// mostText bounds what is read of a request or an answer.
	mostText = 64 << 10
)

// Desk is a directory for errands. Its methods may be called concurrently.
type Desk struct{ Dir string }

// Ask has an errand run, and returns what was brought: the caller closes it. It is nil
// for other verbs than Get. body is what goes out with Put.
func (d Desk) Ask(ctx context.Context, r Request, body io.Reader) (*os.File, Answer, error) {
	var a Answer
	at := filepath.Join(d.Dir, rand.Text())
	defer func() {
		for _, suffix := range []string{askSuffix, dataSuffix, doneSuffix} {
			_ = os.Remove(at + suffix) // one that stays is removed by the doer
		}
	}()
	if err := d.leave(ctx, at, &r, body); err != nil {
		return nil, a, fmt.Errorf("errand: %w", err)
	}
	if err := await(ctx, at, &a); err != nil {
		return nil, a, fmt.Errorf("errand: %s %w", r.Verb, err)
	}
	if a.Error != "" || r.Verb != Get {
		return nil, a, nil
	}
	f, err := os.Open(at + dataSuffix)
	if err != nil {
		return nil, a, fmt.Errorf("errand: %w", err)
	}
	return f, a, nil
}

// leave writes an errand's files, the request last.
func (Desk) leave(ctx context.Context, at string, r *Request, body io.Reader) error {
	if r.Verb == Put {
		if err := write(ctx, at+dataSuffix, body); err != nil {
			return err
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := write(ctx, at+doneSuffix, bytes.NewReader(nil)); err != nil {
		return err
	}
	const part = ".part"
	if err := write(ctx, at+part, bytes.NewReader(text)); err != nil {
		return err
	}
	return os.Rename(at+part, at+askSuffix)
}

// write makes a file, and has it on stable storage when it returns.
func write(ctx context.Context, path string, body io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, readerOf(ctx, body))
	return errors.Join(err, f.Sync(), f.Close())
}

// readerOf reads until the context ends.
func readerOf(ctx context.Context, r io.Reader) io.Reader {
	return readFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	})
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// await waits for the answer to an errand, and touches it meanwhile.
func await(ctx context.Context, at string, a *Answer) error {
	look, touch := time.NewTicker(lookEvery), time.NewTicker(touchEvery)
	defer look.Stop()
	defer touch.Stop()
	for {
		select {
		case <-look.C:
		case <-touch.C:
			// By the file system's clock, which is the doer's, too.
			now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, at+askSuffix, now, 0); err != nil {
				return fmt.Errorf("was taken away: %w", err)
			}
			continue
		case <-ctx.Done():
			return fmt.Errorf("was not run in time: %w", context.Cause(ctx))
		}
		text, err := readText(at + doneSuffix)
		if err != nil {
			return err
		}
		if !bytes.HasSuffix(text, []byte("\n")) {
			continue // not yet, or not all of it
		}
		if err := json.Unmarshal(text, a); err != nil {
			return fmt.Errorf("was answered by %.100q: %w", text, err)
		}
		return nil
	}
}

// readText reads a small file.
func readText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostText+1))
	if err == nil && len(text) > mostText {
		err = fmt.Errorf("%s: longer than %d bytes", filepath.Base(path), mostText)
	}
	return text, err
}
