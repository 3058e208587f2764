package blob

import (
	"strings"
	"testing"
	"time"

	"floe/protocol"
)

// A reference taken over from a peer keeps its age and makes the blob missing until
// it is put; one that is known already changes nothing.
func TestReferMakesBlobsMissingUntilTheyArePut(t *testing.T) {
	s := openStore(t, Config{})
	text := "of another coordinator"
	old := time.Unix(1_700_000_000, 0)
	i := Info{Digest: protocol.DigestOf([]byte(text)), Size: protocol.ByteSize(len(text)), Class: Log, Owner: "task 1.0.0", Failed: true, Added: old}
	for _, want := range []int{1, 0} {
		if n, err := s.Refer([]Info{i}); n != want || err != nil {
			t.Fatalf("Refer = %d, %v; want %d", n, err, want)
		}
	}
	if got, err := s.Stat(i.Digest); err != nil || !got.Missing || !got.Failed || !got.Added.Equal(old) || got.Size != i.Size {
		t.Errorf("Stat = %+v, %v", got, err)
	}
	if n, err := s.CountMissing(); n != 1 || err != nil {
		t.Errorf("CountMissing = %d, %v; want 1", n, err)
	}
	put := Info{Digest: i.Digest, Size: i.Size, Class: Log, Owner: i.Owner}
	if _, err := s.Put(t.Context(), put, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Refer([]Info{i}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Stat(i.Digest); err != nil || got.Missing || !got.Added.Equal(old) {
		t.Errorf("after Put, Stat = %+v, %v", got, err)
	}
	if u, err := s.Usage(); err != nil || u[Log].Blobs != 1 || u[Log].Bytes != i.Size {
		t.Errorf("Usage = %+v, %v; want it counted once", u[Log], err)
	}
	if _, err := s.Refer([]Info{{Digest: i.Digest, Class: Log}}); err == nil {
		t.Error("a reference without an owner was taken")
	}
}
