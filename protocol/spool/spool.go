// Package spool keeps reports on disk until their fate is known: those that a
// pilot could not deliver, for a later pilot or glidein pass of the same site.
//
// Nouns: a spool is a directory with one file per report, <lease>.report, holding
// the CBOR of a [protocol.SignedReport].
//
// What is authoritative: the file. A report is in the spool, synced, before it is
// sent for the first time, and leaves only when its answer is final.
//
// Invariants: a name appears only when its content is complete. Several processes
// may use one spool: delivering a report twice is harmless, because reports are
// idempotent.
//
// On failure: a file that cannot be decoded is renamed to .bad and stays for a
// person; it never blocks the others.
//
// What it is not: it does not send, and does not check signatures.
package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"floe/protocol"
)

const suffix = ".report"

// Spool is one directory of reports. Its methods may be called concurrently, also
// by several processes.
type Spool struct{ dir string }

// Open returns the spool in dir, made if needed.
func Open(dir string) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	// That it is others' must not be found out by the first report.
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return &Spool{dir}, nil
}

func (s *Spool) path(l protocol.LeaseID) string { return filepath.Join(s.dir, l.String()+suffix) }

// Put keeps a report until Remove. It replaces an earlier one of the same lease,
// and is on stable storage when it returns.
func (s *Spool) Put(l protocol.LeaseID, r protocol.SignedReport) error {
	b, err := protocol.Marshal(r)
	if err != nil {
		return fmt.Errorf("spool report %v: %w", l, err)
	}
	f, err := os.CreateTemp(s.dir, ".new-")
	if err != nil {
		return fmt.Errorf("spool report %v: %w", l, err)
	}
	defer os.Remove(f.Name()) // fails once it has its name
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path(l))
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("spool report %v: %w", l, err)
	}
	return nil
}

// Remove forgets a report; one that is not there is no error.
func (s *Spool) Remove(l protocol.LeaseID) error {
	if err := os.Remove(s.path(l)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// maxPending is how many bytes of reports Pending returns at once: what fits into
// one message with other things.
const maxPending = protocol.MaxExchangeBytes / 2

// Pending returns at most limit reports, oldest name first, and no more of them
// than fit into one message.
func (s *Spool) Pending(limit int) ([]protocol.SignedReport, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var reports []protocol.SignedReport
	size := 0
	for _, e := range entries {
		if len(reports) == limit {
			break
		}
		if !strings.HasSuffix(e.Name(), suffix) || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(s.dir, e.Name())
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // delivered by another process meanwhile
		}
		var r protocol.SignedReport
		if err == nil {
			err = protocol.Unmarshal(b, &r)
		}
		if err != nil {
			// Nobody could deliver it; aside, so that it does not stand in the way.
			_ = os.Rename(path, strings.TrimSuffix(path, suffix)+".bad")
			continue
		}
		if size += len(b); size > maxPending && len(reports) > 0 {
			break
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// Delivered removes the reports whose answers are final: accepted, stale or wrong.
func (s *Spool) Delivered(answers []protocol.ReportAnswer) error {
	var all []error
	for _, a := range answers {
		if !a.Code.Retryable() && a.Code != protocol.CodeInternal && !a.Lease.IsZero() {
			all = append(all, s.Remove(a.Lease))
		}
	}
	return errors.Join(all...)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
