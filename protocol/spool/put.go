package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"floe/protocol"
)

// Bounds of what shares a file: it fits into one message.
const (
	maxShared      = 64
	maxSharedBytes = maxPending / 2
)

// entry is a report that waits to be written.
type entry struct {
	lease  protocol.LeaseID
	report protocol.SignedReport
	size   int
	// turn is told that the report is written, or that it did not come to be; or that
	// its owner is to write what waits.
	turn chan verdict
}

type verdict struct {
	write bool
	err   error
}

// Put keeps a report until Remove. It replaces an earlier one of the same lease,
// and is on stable storage when it returns. Reports that are put while another is
// written, or within the time that a report may wait for company, share one file and
// its syncs.
func (s *Spool) Put(l protocol.LeaseID, r protocol.SignedReport, company time.Duration) error {
	e := &entry{lease: l, report: r, size: r.Size(), turn: make(chan verdict, 1)}
	s.mu.Lock()
	s.waiting = append(s.waiting, e)
	first := !s.writing
	s.writing = true
	s.mu.Unlock()
	if !first {
		if v := <-e.turn; !v.write {
			return v.err
		}
	} else if company > 0 {
		<-time.After(company)
	}
	err := s.write()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing = len(s.waiting) > 0; s.writing {
		s.waiting[0].turn <- verdict{write: true}
	}
	return err
}

// write writes what waits, of which the first is the caller's, and tells the others.
func (s *Spool) write() error {
	s.mu.Lock()
	n, size := 0, 0
	for n < len(s.waiting) && n < maxShared && (n == 0 || size+s.waiting[n].size < maxSharedBytes) {
		size += s.waiting[n].size
		n++
	}
	group := s.waiting[:n:n]
	s.waiting = s.waiting[n:]
	s.mu.Unlock()
	err := s.writeGroup(group)
	for _, e := range group[1:] {
		e.turn <- verdict{err: err}
	}
	return err
}

func (s *Spool) writeGroup(group []*entry) error {
	first := group[0]
	name, content := first.lease.String()+suffix, any(first.report)
	if len(group) > 1 {
		reports := make([]protocol.SignedReport, len(group))
		leases := make(map[protocol.LeaseID]bool, len(group))
		for i, e := range group {
			reports[i] = e.report
			leases[e.lease] = true
		}
		// Others of these leases may share a file of their own.
		name, content = fmt.Sprintf("%v-%08x%s", first.lease, rand.Uint32(), sharedSuffix), reports
		// Known before it can be read: Pending would note it as one that was found.
		s.mu.Lock()
		s.shared[name] = leases
		s.mu.Unlock()
	}
	b, err := protocol.Marshal(content)
	if err == nil {
		err = s.writeFile(name, b)
	}
	if err != nil {
		s.mu.Lock()
		delete(s.shared, name)
		s.mu.Unlock()
		return fmt.Errorf("spool report %v: %w", first.lease, err)
	}
	return s.forgetBut(name, group)
}

// forgetBut forgets what the reports in a file take the place of.
func (s *Spool) forgetBut(name string, group []*entry) error {
	var all []error
	for _, e := range group {
		if len(group) > 1 {
			all = append(all, s.removeSingle(e.lease))
		}
		all = append(all, s.removeShared(e.lease, name))
	}
	return errors.Join(all...)
}

func (s *Spool) writeFile(name string, b []byte) error {
	f, err := os.CreateTemp(s.dir, ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(s.dir, name))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(s.dir)
}

// undelivered notes what a file with several reports holds and returns those of them
// whose fate is not known. It fails where none of them is a report.
func (s *Spool) undelivered(name string, reports []protocol.SignedReport) (left []protocol.SignedReport, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leases, known := s.shared[name]
	if !known {
		leases = map[protocol.LeaseID]bool{}
	}
	for i := range reports {
		report, refused := reports[i].Decode()
		if report == nil {
			err = refused // no coordinator could say which one it refuses
			continue
		}
		if !known {
			leases[report.Lease] = true
		}
		if leases[report.Lease] {
			left = append(left, reports[i])
		}
	}
	if len(leases) == 0 {
		return nil, err
	}
	s.shared[name] = leases
	return left, nil
}

// Remove forgets a report; one that is not there is no error.
func (s *Spool) Remove(l protocol.LeaseID) error {
	if err := errors.Join(s.removeSingle(l), s.removeShared(l, "")); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// removeSingle forgets a report that has a file of its own.
func (s *Spool) removeSingle(l protocol.LeaseID) error {
	return removed(filepath.Join(s.dir, l.String()+suffix))
}

// removeShared forgets a report in all files that it shares but one. A file goes with
// the last of its reports.
func (s *Spool) removeShared(l protocol.LeaseID, but string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []error
	for name, leases := range s.shared {
		if name == but || !leases[l] {
			continue
		}
		if delete(leases, l); len(leases) == 0 {
			delete(s.shared, name)
			all = append(all, removed(filepath.Join(s.dir, name)))
		}
	}
	return errors.Join(all...)
}

// removed removes a file that need not be there.
func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
