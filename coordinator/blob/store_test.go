package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

func openStore(t *testing.T, c Config) *Store {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.MinFree == 0 {
		c.MinFree = 1
	}
	c.Logger = slog.New(slog.DiscardHandler)
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t *testing.T, s *Store, c Class, owner, text string) protocol.Digest {
	t.Helper()
	i, err := s.Put(t.Context(), Info{Class: c, Owner: owner, Size: -1}, strings.NewReader(text))
	if err != nil {
		t.Fatalf("put %q: %v", text, err)
	}
	if want := protocol.DigestOf([]byte(text)); i.Digest != want || int(i.Size) != len(text) {
		t.Fatalf("put %q = %v of %d bytes, want %v", text, i.Digest, i.Size, want)
	}
	return i.Digest
}

// read returns a blob's text; err is what Open answered.
func read(t *testing.T, s *Store, d protocol.Digest) (string, error) {
	t.Helper()
	f, _, err := s.Open(d)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), nil
}

func usage(t *testing.T, s *Store, c Class) Usage {
	t.Helper()
	u, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u[c]
}

// files counts the files under the folders.
func files(t *testing.T, s *Store, dirs ...string) (n int) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(s.path(dir), func(_ string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				n++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestPutIsReadBackAfterReopening(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir})
	d := put(t, s, Durable, "dataset 7", "the document")
	empty := put(t, s, Log, "1-0", "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, Config{Dir: dir})
	for digest, want := range map[protocol.Digest]string{d: "the document", empty: ""} {
		if got, err := read(t, s, digest); got != want || err != nil {
			t.Errorf("read %v = %q, %v; want %q", digest, got, err, want)
		}
	}
	if got, want := usage(t, s, Durable), (Usage{Blobs: 1, Bytes: 12}); got != want {
		t.Errorf("usage = %v, want %v", got, want)
	}
}

func TestPutRefuses(t *testing.T) {
	const text = "0123456789"
	digest := protocol.DigestOf([]byte(text))
	limits := map[Class]Limit{Temp: {Quota: 15, MaxSize: 12}}
	tests := []struct {
		name string
		info Info
		text string
		want error
	}{
		{"wrong digest", Info{Class: Temp, Owner: "o", Size: -1, Digest: protocol.DigestOf([]byte("x"))}, "abcd", ErrDigest},
		{"too short", Info{Class: Temp, Owner: "o", Size: 5}, "abcd", ErrSize},
		{"too long", Info{Class: Temp, Owner: "o", Size: 3}, "abcd", ErrSize},
		{"announced too large", Info{Class: Temp, Owner: "o", Size: 13}, "", ErrTooLarge},
		{"too large", Info{Class: Temp, Owner: "o", Size: -1}, text + "xyz", ErrTooLarge},
		{"quota", Info{Class: Temp, Owner: "o", Size: -1}, "another", ErrQuota},
		{"announced over quota", Info{Class: Temp, Owner: "o", Size: 7}, "another", ErrQuota},
		{"no class", Info{Owner: "o", Size: -1}, text, ErrReference},
		{"no owner", Info{Class: Temp, Size: -1}, text, ErrReference},
		{"owner with zero", Info{Class: Temp, Owner: "a\x00b", Size: -1}, text, ErrReference},
		{"known digest of another size", Info{Class: Temp, Owner: "p", Size: 3, Digest: digest}, "", ErrSize},
	}
	s := openStore(t, Config{Limits: limits})
	put(t, s, Temp, "first", text)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := s.Put(t.Context(), tt.info, strings.NewReader(tt.text)); !errors.Is(err, tt.want) {
				t.Errorf("Put = %v, want %v", err, tt.want)
			}
			if got, want := usage(t, s, Temp), (Usage{Blobs: 1, Bytes: 10}); got != want {
				t.Errorf("usage = %v, want %v", got, want)
			}
			if n := files(t, s, "incoming", "blobs"); n != 1 {
				t.Errorf("%d files, want 1", n)
			}
		})
	}
	// What was refused has left its reservation behind for others.
	put(t, s, Temp, "second", "abcde")
}

func TestPutRefusesBelowWatermark(t *testing.T) {
	s := openStore(t, Config{MinFree: 1 << 60})
	if _, err := s.Put(t.Context(), Info{Class: Log, Owner: "o", Size: -1}, strings.NewReader("x")); !errors.Is(err, ErrWatermark) {
		t.Errorf("Put = %v, want ErrWatermark", err)
	}
}

func TestPutStopsWithItsContextAndReader(t *testing.T) {
	s := openStore(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(ctx, Info{Class: Log, Owner: "o", Size: -1}, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put = %v, want canceled", err)
	}
	broken := io.MultiReader(strings.NewReader("half"), brokenReader{})
	if _, err := s.Put(t.Context(), Info{Class: Log, Owner: "o", Size: -1}, broken); !errors.Is(err, errBroken) {
		t.Errorf("Put = %v, want the reader's error", err)
	}
	if n := files(t, s, "incoming", "blobs"); n != 0 {
		t.Errorf("%d files left, want none", n)
	}
}

var errBroken = errors.New("connection lost")

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func TestBlobLivesAsLongAsItsReferences(t *testing.T) {
	s := openStore(t, Config{})
	d := put(t, s, Temp, "job 1", "shared")
	put(t, s, Temp, "job 2", "shared")
	put(t, s, Durable, "dataset 1", "shared")
	put(t, s, Temp, "job 2", "shared") // again: nothing more
	if got, want := usage(t, s, Temp), (Usage{Blobs: 1, Bytes: 6}); got != want {
		t.Errorf("usage = %v, want %v", got, want)
	}
	owners, err := s.Owners(d)
	if err != nil || len(owners) != 3 {
		t.Fatalf("Owners = %v, %v; want 3", owners, err)
	}
	for _, o := range owners {
		if got, err := read(t, s, d); got != "shared" || err != nil {
			t.Fatalf("before the release of %v %s: %q, %v", o.Class, o.Owner, got, err)
		}
		if err := s.Delete(d, o.Class, o.Owner); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(d, o.Class, o.Owner); err != nil {
			t.Errorf("deleting again = %v, want nil", err)
		}
	}
	if _, err := read(t, s, d); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the last release: %v, want ErrNotFound", err)
	}
	if n := files(t, s, "blobs"); n != 0 || usage(t, s, Temp) != (Usage{}) || usage(t, s, Durable) != (Usage{}) {
		t.Errorf("%d files, usage %v and %v left", n, usage(t, s, Temp), usage(t, s, Durable))
	}
}

func TestReleaseTakesOneOwnerOnly(t *testing.T) {
	s := openStore(t, Config{})
	keep := put(t, s, Temp, "job 10", "kept")
	for _, text := range []string{"a", "b", "c"} {
		put(t, s, Temp, "job 1", text)
	}
	put(t, s, Log, "job 2", "of another class")
	some, err := s.Owning(Temp, []string{"job 0", "job 1", "job", "job 10", "job 2", "job 100"})
	if diff := cmp.Diff([]string{"job 1", "job 10"}, some); diff != "" || err != nil {
		t.Errorf("Owning: %v (-want +got):\n%s", err, diff)
	}
	if n, err := s.Release(t.Context(), Temp, "job 1"); n != 3 || err != nil {
		t.Errorf("Release = %d, %v; want 3", n, err)
	}
	if _, err := read(t, s, keep); err != nil {
		t.Errorf("another owner's blob: %v", err)
	}
}

func TestListPages(t *testing.T) {
	s := openStore(t, Config{})
	put(t, s, Durable, "other class", "x")
	want := []string{"a", "b", "c", "d", "e"}
	for _, owner := range want {
		put(t, s, Log, owner, "log of "+owner)
	}
	var got []string
	for cursor := ""; ; {
		infos, next, err := s.List(Log, cursor, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			got = append(got, i.Owner)
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
}

func TestExpireKeepsFailedLogsLonger(t *testing.T) {
	s := openStore(t, Config{})
	const day = 24 * time.Hour
	ok := put(t, s, Log, "ok", "ok log")
	failed := put(t, s, Log, "failed", "failed log")
	durable := put(t, s, Durable, "dataset", "steering")
	if err := s.Mark(Log, "failed", true); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		want  []protocol.Digest
	}{
		{29 * day, []protocol.Digest{ok, failed, durable}},
		{31 * day, []protocol.Digest{failed, durable}},
		{181 * day, []protocol.Digest{durable}},
	} {
		if _, err := s.Expire(t.Context(), time.Now().Add(step.after), DefaultPolicy()); err != nil {
			t.Fatal(err)
		}
		for _, d := range []protocol.Digest{ok, failed, durable} {
			_, err := s.Stat(d)
			kept := false
			for _, w := range step.want {
				kept = kept || w == d
			}
			if kept != (err == nil) {
				t.Errorf("after %v: Stat(%v) = %v, want kept %v", step.after, d, err, kept)
			}
		}
	}
}

func TestDamageIsFoundAndMended(t *testing.T) {
	damage := map[string]func(path string) error{
		"flipped bit": func(p string) error { return os.WriteFile(p, []byte("precious byteS"), 0o600) },
		"truncated":   func(p string) error { return os.Truncate(p, 3) },
		"lost":        os.Remove,
	}
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Config{})
			const text = "precious bytes"
			d := put(t, s, Durable, "dataset", text)
			good := put(t, s, Durable, "dataset", "other")
			if err := harm(s.file(d)); err != nil {
				t.Fatal(err)
			}
			sum, err := s.Scrub(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]protocol.Digest{d}, sum.Damaged); diff != "" {
				t.Errorf("damaged (-want +got):\n%s", diff)
			}
			if _, err := read(t, s, d); !errors.Is(err, ErrMissing) {
				t.Errorf("read = %v, want ErrMissing", err)
			}
			if missing, err := s.Missing(protocol.Digest{}, 10); err != nil || !cmp.Equal(missing, []protocol.Digest{d}) {
				t.Errorf("Missing = %v, %v; want %v", missing, err, d)
			}
			if _, err := read(t, s, good); err != nil {
				t.Errorf("the other blob: %v", err)
			}
			if _, err := s.Put(t.Context(), Info{Class: Durable, Owner: "dataset", Digest: d, Size: -1}, strings.NewReader(text)); err != nil {
				t.Fatalf("mend: %v", err)
			}
			if got, err := read(t, s, d); got != text || err != nil {
				t.Errorf("mended = %q, %v", got, err)
			}
			if got, want := usage(t, s, Durable), (Usage{Blobs: 2, Bytes: 19}); got != want {
				t.Errorf("usage = %v, want %v", got, want)
			}
		})
	}
}

func TestOpenNoticesWrongLength(t *testing.T) {
	s := openStore(t, Config{})
	d := put(t, s, Durable, "dataset", "0123456789")
	if err := os.Truncate(s.file(d), 4); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, s, d); !errors.Is(err, ErrMissing) {
		t.Errorf("read = %v, want ErrMissing", err)
	}
	if n := files(t, s, "quarantine"); n != 1 {
		t.Errorf("%d files in quarantine, want 1", n)
	}
	if _, err := s.Expire(t.Context(), time.Now().Add(365*24*time.Hour), DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	if n := files(t, s, "quarantine"); n != 0 {
		t.Errorf("%d files in quarantine a year later, want none", n)
	}
}

// TestCrashLeavesNothingBehind makes what a crash may leave: a half-written file,
// and a whole one that the index does not know.
func TestCrashLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir})
	kept := put(t, s, Durable, "dataset", "kept")
	orphan := protocol.DigestOf([]byte("orphan"))
	for path, text := range map[string]string{s.path("incoming", "put-1"): "half", s.file(orphan): "orphan", s.path("blobs", "ab", "note"): "?"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, Config{Dir: dir})
	if n := files(t, s, "incoming"); n != 0 {
		t.Errorf("%d half-written files after Open, want none", n)
	}
	if _, err := read(t, s, orphan); !errors.Is(err, ErrNotFound) {
		t.Errorf("orphan = %v, want ErrNotFound", err)
	}
	sum, err := s.Scrub(t.Context())
	if err != nil || sum.Orphans != 2 || sum.Blobs != 1 {
		t.Errorf("Scrub = %+v, %v; want 2 orphans, 1 blob", sum, err)
	}
	if got, err := read(t, s, kept); got != "kept" || err != nil {
		t.Errorf("kept = %q, %v", got, err)
	}
}

// TestConcurrentOwners lets many owners store and release the same few blobs at
// once: whoever holds a reference can read.
func TestConcurrentOwners(t *testing.T) {
	s := openStore(t, Config{})
	texts := []string{"one", "two", "three"}
	var wg sync.WaitGroup
	for w := range 6 {
		owner := string(rune('a' + w))
		wg.Go(func() {
			for i := range 10 {
				text := texts[(w+i)%len(texts)]
				info, err := s.Put(t.Context(), Info{Class: Temp, Owner: owner, Size: -1}, strings.NewReader(text))
				if err != nil {
					t.Errorf("put: %v", err)
					return
				}
				f, _, err := s.Open(info.Digest)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				b, _ := io.ReadAll(f)
				_ = f.Close()
				if !bytes.Equal(b, []byte(text)) {
					t.Errorf("read %q, want %q", b, text)
				}
				if err := s.Delete(info.Digest, Temp, owner); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if n := files(t, s, "blobs", "incoming"); n != 0 || usage(t, s, Temp) != (Usage{}) {
		t.Errorf("%d files and usage %v left, want none", n, usage(t, s, Temp))
	}
}

func TestConfigValidate(t *testing.T) {
	err := (&Config{Limits: map[Class]Limit{9: {}}, MinFree: -1}).Validate()
	for _, want := range []string{"dir", "logger", "invalid class 9", "quota", "min free"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want it to name %s", err, want)
		}
	}
}

func FuzzSplitOwned(f *testing.F) {
	f.Add(ownedKey(Temp, "12.7", protocol.DigestOf(nil)))
	f.Add([]byte{})
	f.Add(make([]byte, 34))
	f.Fuzz(func(t *testing.T, k []byte) {
		c, owner, d, err := splitOwned(k)
		if err != nil {
			return
		}
		if got := ownedKey(c, owner, d); !bytes.Equal(got, k) {
			t.Errorf("splitOwned(%x) does not survive a round: %x", k, got)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	s, err := Open(Config{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler), MinFree: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	data := make([]byte, 16<<10)
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		data[i%len(data)]++
		if _, err := s.Put(context.Background(), Info{Class: Log, Owner: "o", Size: protocol.ByteSize(len(data))}, bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
