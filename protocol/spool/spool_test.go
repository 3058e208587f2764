package spool_test

import (
	"os"
	"path/filepath"
	"testing"

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
		if err := s.Put(l, protocol.SignedReport{Body: []byte(l.String()), Signature: []byte("s")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(leases[3], protocol.SignedReport{Body: []byte("newer"), Signature: []byte("t")}); err != nil {
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
		if err := s.Put(protocol.LeaseID{Index: uint64(i + 1)}, r); err != nil {
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
