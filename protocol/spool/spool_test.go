package spool_test

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"floe/protocol"
	"floe/protocol/spool"

	"github.com/google/go-cmp/cmp"
)

func TestReportsStayUntilTheirAnswerIsFinal(t *testing.T) {
	dir := t.TempDir()
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	leases := []protocol.LeaseID{{Index: 1}, {Index: 2}, {Index: 3}, {Index: 4}}
	for _, l := range leases {
		if err := s.Put(l, protocol.SignedReport{Body: []byte(l.String()), Signature: []byte("s")}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(leases[3], protocol.SignedReport{Body: []byte("newer"), Signature: []byte("t")}, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "0-0.report"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Delivered([]protocol.ReportAnswer{
		{Lease: leases[0], Code: protocol.CodeOK},
		{Lease: leases[1], Code: protocol.CodeStale},
		{Lease: leases[2], Code: protocol.CodeUnknown},
		{Lease: protocol.LeaseID{Index: 99}, Code: protocol.CodeOK},
	}); err != nil {
		t.Fatal(err)
	}
	again, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	left, err := again.Pending(10)
	if err != nil {
		t.Fatal(err)
	}
	want := []protocol.SignedReport{{Body: []byte("3-0"), Signature: []byte("s")}, {Body: []byte("newer"), Signature: []byte("t")}}
	if d := cmp.Diff(want, left); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
	if one, err := again.Pending(1); err != nil || len(one) != 1 {
		t.Errorf("Pending(1) = %d reports, %v", len(one), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "0-0.bad")); err != nil {
		t.Errorf("the torn file was not put aside: %v", err)
	}
}

// Many large reports must not make a message that is refused, time after time.
func TestPendingFitsIntoOneMessage(t *testing.T) {
	s, err := spool.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		r := protocol.SignedReport{Body: make([]byte, protocol.MaxExchangeBytes/4)}
		if err := s.Put(protocol.LeaseID{Index: uint64(i + 1)}, r, 0); err != nil {
			t.Fatal(err)
		}
	}
	reports, err := s.Pending(256)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, r := range reports {
		size += len(r.Body)
	}
	if len(reports) == 0 || size >= protocol.MaxExchangeBytes {
		t.Errorf("%d reports of %d bytes together, want some that fit into %d", len(reports), size, protocol.MaxExchangeBytes)
	}
}

// TestReportsOfAMomentShareAFile, which goes with the last of them that is delivered;
// another process delivers what is left.
func TestReportsOfAMomentShareAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := spool.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		report := func(n uint64, evidence string) (protocol.LeaseID, protocol.SignedReport) {
			l := protocol.LeaseID{Index: n}
			signed, err := protocol.SignReport(&protocol.Report{Lease: l, Verdict: protocol.VerdictNode, Evidence: evidence}, key)
			if err != nil {
				t.Fatal(err)
			}
			return l, signed
		}
		const many = 200
		var work sync.WaitGroup
		for n := range many {
			work.Go(func() {
				l, signed := report(uint64(n+1), "first")
				if err := s.Put(l, signed, 5*time.Millisecond); err != nil {
					t.Error(err)
				}
				if n%40 > 0 {
					return
				}
				pending, err := s.Pending(1000)
				if err != nil || !slices.ContainsFunc(pending, func(r protocol.SignedReport) bool { return cmp.Equal(r, signed) }) {
					t.Errorf("report %v is not in the spool though it was put: %v", l, err)
				}
			})
		}
		work.Wait()
		files := func() int {
			names, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			return len(names)
		}
		if n := files(); n < many/64 || n > many/10 {
			t.Errorf("%d reports of a moment are in %d files", many, n)
		}
		leases := func(s *spool.Spool, limit int) map[protocol.LeaseID]string {
			pending, err := s.Pending(limit)
			if err != nil || len(pending) > limit {
				t.Fatalf("%d reports pending of %d, %v", len(pending), limit, err)
			}
			found := map[protocol.LeaseID]string{}
			for i := range pending {
				r, err := pending[i].Decode()
				if err != nil {
					t.Fatal(err)
				}
				found[r.Lease] = r.Evidence
			}
			return found
		}
		if n := len(leases(s, 1000)); n != many {
			t.Errorf("%d reports are pending, want %d", n, many)
		}
		l, signed := report(7, "second") // in the place of the first
		if err := s.Put(l, signed, 0); err != nil {
			t.Fatal(err)
		}
		if found := leases(s, 1000); len(found) != many || found[l] != "second" {
			t.Errorf("%d are pending, that of lease %v says %q", len(found), l, found[l])
		}
		for n := range many / 2 {
			if err := s.Delivered([]protocol.ReportAnswer{{Lease: protocol.LeaseID{Index: uint64(n + 1)}}}); err != nil {
				t.Fatal(err)
			}
		}
		if found := leases(s, 1000); len(found) != many/2 {
			t.Errorf("%d are pending, want the half that was not delivered", len(found))
		}
		// Another process does not know what was delivered of a file; what it delivers
		// twice is harmless. In the end nothing is left.
		other, err := spool.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for round := 0; files() > 0; round++ {
			found := leases(other, 50)
			if len(found) == 0 || round > many {
				t.Fatalf("%d files are left, and %d reports pending", files(), len(found))
			}
			for l := range found {
				if err := other.Remove(l); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := len(leases(s, 1000)); n != 0 {
			t.Errorf("%d are pending after another process has delivered them", n)
		}
		if err := os.WriteFile(filepath.Join(dir, "1-0-0.reports"), []byte{0x81, 0xa2, 1, 0x41, 0xff, 2, 0x41, 0}, 0o600); err != nil {
			t.Fatal(err)
		}
		if n := len(leases(s, 1000)); n != 0 {
			t.Errorf("%d reports are found in a file that holds none", n)
		}
		if _, err := os.Stat(filepath.Join(dir, "1-0-0.bad")); err != nil {
			t.Errorf("a file without any report was not put aside: %v", err)
		}
	})
}

// TestAReportThatCannotBeWritten is told to each that put one.
func TestAReportThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "spool")
		s, err := spool.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		var work sync.WaitGroup
		for n := range 3 {
			work.Go(func() {
				if err := s.Put(protocol.LeaseID{Index: uint64(n + 1)}, protocol.SignedReport{Body: []byte("x")}, time.Millisecond); err == nil {
					t.Error("no error")
				}
			})
		}
		work.Wait()
	})
}
