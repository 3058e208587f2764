// Package spool keeps reports on disk until their fate is known: those that a
// pilot could not deliver, for a later pilot or glidein pass of the same site.
//
// Nouns: a spool is a directory with one file per report, <lease>.report, holding
// the CBOR of a [protocol.SignedReport]. Reports that are put at the same time share a
// file, <lease of the first>.reports, holding a list of them.
//
// What is authoritative: the file. A report is in the spool, synced, before it is
// sent for the first time, and leaves only when its answer is final; one that shares a
// file, when the answers of all in it are.
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
	"sync"

	"floe/protocol"
)

// Suffixes of files with one report, and with several.
const (
	suffix       = ".report"
	sharedSuffix = ".reports"
)

// Spool is one directory of reports. Its methods may be called concurrently, also
// by several processes.
type Spool struct {
	dir string

	mu      sync.Mutex
	waiting []*entry // guarded by mu; in their order
	writing bool     // guarded by mu: somebody writes, and then lets the next of waiting write
	// shared are the files with several reports, and which of them are not delivered.
	shared map[string]map[protocol.LeaseID]bool // guarded by mu
}

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
	return &Spool{dir: dir, shared: map[string]map[protocol.LeaseID]bool{}}, nil
}

// maxPending is how many bytes of reports Pending returns at once: what fits into
// one message with other things.
const maxPending = protocol.MaxExchangeBytes / 2

// Pending returns at most limit reports, oldest name first, and no more of them
// than fit into one message. Those that share a file come together where limit allows.
func (s *Spool) Pending(limit int) ([]protocol.SignedReport, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var reports []protocol.SignedReport
	size := 0
	for _, e := range entries {
		if len(reports) >= limit {
			break
		}
		if ext := filepath.Ext(e.Name()); ext != suffix && ext != sharedSuffix || !e.Type().IsRegular() {
			continue
		}
		more, bytes := s.read(e.Name())
		if size += bytes; size > maxPending && len(reports) > 0 {
			break
		}
		reports = append(reports, more...)
	}
	return reports[:min(len(reports), limit)], nil
}

// read returns the reports of a file that are not delivered, and how many bytes it has.
func (s *Spool) read(name string) (reports []protocol.SignedReport, bytes int) {
	path := filepath.Join(s.dir, name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0 // delivered by another process meanwhile
	}
	if err == nil && filepath.Ext(name) == suffix {
		reports = make([]protocol.SignedReport, 1)
		err = protocol.Unmarshal(b, &reports[0])
	} else if err == nil {
		if err = protocol.Unmarshal(b, &reports); err == nil {
			reports, err = s.undelivered(name, reports)
		}
	}
	if err != nil {
		// Nobody could deliver it; aside, so that it does not stand in the way.
		_ = os.Rename(path, strings.TrimSuffix(path, filepath.Ext(name))+".bad")
		return nil, 0
	}
	return reports, len(b)
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
