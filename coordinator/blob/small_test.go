package blob

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"floe/protocol"
)

func small(owner, text string) Small {
	return Small{Info: Info{Class: Log, Owner: owner}, Data: []byte(text)}
}

// TestSmallLogsAreInTheIndex, all of them or none, and live and go as files do.
func TestSmallLogsAreInTheIndex(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir})
	inFile := put(t, s, Temp, "job 1", "in a file")
	logs := []Small{small("task 1.0.0", "one"), small("task 1.1.0", "two"), small("task 1.2.0", "one"), small("task 1.3.0", "in a file")}
	logs[1].Failed = true
	if err := s.PutSmall(logs); err != nil {
		t.Fatal(err)
	}
	if n := files(t, s, "blobs", "incoming"); n != 1 {
		t.Errorf("%d files, want the one that was there", n)
	}
	if got, want := usage(t, s, Log), (Usage{Blobs: 3, Bytes: 15}); got != want {
		t.Errorf("usage = %v, want %v", got, want)
	}
	wrong := small("task 1.5.0", "two")
	wrong.Digest = logs[0].Digest
	for what, all := range map[string][]Small{
		"too large": {small("task 1.4.0", "three"), small("task 1.5.0", strings.Repeat("x", int(MaxSmall)+1))},
		"digest":    {small("task 1.4.0", "three"), wrong},
		"no owner":  {small("task 1.4.0", "three"), small("", "four")},
	} {
		if err := s.PutSmall(all); !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrDigest) && !errors.Is(err, ErrReference) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := s.Stat(protocol.DigestOf([]byte("three"))); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: the other one was kept: %v", what, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, Config{Dir: dir})
	for _, l := range logs {
		if got, err := read(t, s, l.Digest); got != string(l.Data) || err != nil {
			t.Errorf("log of %s = %q, %v", l.Owner, got, err)
		}
	}
	if i, err := s.Stat(logs[1].Digest); err != nil || !i.Failed || !i.Small || i.Size != 3 {
		t.Errorf("Stat = %+v, %v", i, err)
	}
	if sum, err := s.Scrub(t.Context()); err != nil || len(sum.Damaged) != 0 || sum.Orphans != 0 || sum.Blobs != 3 {
		t.Errorf("Scrub = %+v, %v", sum, err)
	}
	// One of two owners goes, then both; what is a file for another class stays.
	for i, step := range []struct {
		owner  string
		digest protocol.Digest
		left   bool
	}{{"task 1.0.0", logs[0].Digest, true}, {"task 1.2.0", logs[0].Digest, false}, {"task 1.3.0", inFile, true}} {
		if err := s.Delete(step.digest, Log, step.owner); err != nil {
			t.Fatal(err)
		}
		if _, err := read(t, s, step.digest); (err == nil) != step.left {
			t.Errorf("step %d: read: %v, want it to be there: %v", i, err, step.left)
		}
	}
	if got, want := usage(t, s, Log), (Usage{Blobs: 1, Bytes: 3}); got != want {
		t.Errorf("usage = %v, want %v", got, want)
	}
	if n := s.countSmall(t); n != 1 {
		t.Errorf("the bytes of %d are in the index, want 1", n)
	}
}

func (s *Store) countSmall(t *testing.T) (n int) {
	t.Helper()
	if err := s.index.View(func(tx *bbolt.Tx) error { n = tx.Bucket(bucketSmall).Stats().KeyN; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPutOfASmallLogMakesNoFile, whoever sends it; what is announced holds for it, too.
func TestPutOfASmallLogMakesNoFile(t *testing.T) {
	s := openStore(t, Config{Limits: map[Class]Limit{Log: {Quota: 10, MaxSize: 8}}})
	d := protocol.DigestOf([]byte("a log"))
	for _, tt := range []struct {
		name string
		info Info
		want error
	}{
		{"too short", Info{Class: Log, Owner: "o", Size: 6}, ErrSize},
		{"too long", Info{Class: Log, Owner: "o", Size: 4}, ErrSize},
		{"wrong digest", Info{Class: Log, Owner: "o", Size: 5, Digest: protocol.DigestOf([]byte("x"))}, ErrDigest},
		{"too large", Info{Class: Log, Owner: "o", Size: 9}, ErrTooLarge},
		{"good", Info{Class: Log, Owner: "o", Size: 5, Digest: d}, nil},
		{"again", Info{Class: Log, Owner: "p", Size: 5, Digest: d}, nil},
	} {
		if _, err := s.Put(t.Context(), tt.info, strings.NewReader("a log")); !errors.Is(err, tt.want) {
			t.Errorf("%s: Put = %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := s.Put(t.Context(), Info{Class: Log, Owner: "o", Size: 6}, strings.NewReader("others")); !errors.Is(err, ErrQuota) {
		t.Errorf("over quota: %v", err)
	}
	if got, err := read(t, s, d); got != "a log" || err != nil || files(t, s, "blobs") != 0 {
		t.Errorf("it is %q, %v, with %d files", got, err, files(t, s, "blobs"))
	}
	// The same bytes as a file of another class: one place is enough, and none is lost.
	put(t, s, Temp, "job", "a log")
	if got, err := read(t, s, d); got != "a log" || err != nil {
		t.Errorf("with a file it is %q, %v", got, err)
	}
	if err := errors.Join(s.Delete(d, Log, "o"), s.Delete(d, Log, "p")); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, s, d); got != "a log" || err != nil {
		t.Errorf("without the logs it is %q, %v", got, err)
	}
}

// TestASmallLogThatRotsIsMended, and the evidence is kept.
func TestASmallLogThatRotsIsMended(t *testing.T) {
	for _, found := range []string{"by reading", "by scrubbing"} {
		t.Run(found, func(t *testing.T) {
			s := openStore(t, Config{})
			logs := []Small{small("task 1.0.0", "precious")}
			if err := s.PutSmall(logs); err != nil {
				t.Fatal(err)
			}
			d := logs[0].Digest
			if err := s.index.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketSmall).Put(d[:], []byte("preciouS")) }); err != nil {
				t.Fatal(err)
			}
			if found == "by scrubbing" {
				if sum, err := s.Scrub(t.Context()); err != nil || !cmp.Equal(sum.Damaged, []protocol.Digest{d}) {
					t.Errorf("Scrub = %+v, %v", sum, err)
				}
			}
			if _, err := read(t, s, d); !errors.Is(err, ErrMissing) {
				t.Errorf("read = %v, want ErrMissing", err)
			}
			kept, _ := filepath.Glob(s.path("quarantine", "*"))
			if len(kept) != 1 {
				t.Fatalf("in quarantine are %v", kept)
			}
			if b, err := os.ReadFile(kept[0]); err != nil || string(b) != "preciouS" {
				t.Errorf("the evidence is %q, %v", b, err)
			}
			if _, err := s.Put(t.Context(), Info{Class: Log, Owner: "task 1.0.0", Size: 8, Digest: d}, strings.NewReader("precious")); err != nil {
				t.Fatal(err)
			}
			if got, err := read(t, s, d); got != "precious" || err != nil {
				t.Errorf("mended = %q, %v", got, err)
			}
		})
	}
}
