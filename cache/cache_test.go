package cache_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"floe/cache"
	"floe/protocol"
)

func open(t *testing.T, dir string, quota protocol.ByteSize) *cache.Store {
	t.Helper()
	return openWith(t, cache.Config{Dir: dir, Quota: quota})
}

func openWith(t *testing.T, c cache.Config) *cache.Store {
	t.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	s, err := cache.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// from is a source of the bytes that counts how often it is opened.
func from(b []byte, opened *atomic.Int32) []cache.Source {
	return []cache.Source{{Name: "origin", Open: func(context.Context) (io.ReadCloser, error) {
		opened.Add(1)
		return io.NopCloser(bytes.NewReader(b)), nil
	}}}
}

type member struct {
	name, body, link string
	kind             byte
	mode             int64
}

func tarball(t *testing.T, members ...member) []byte {
	t.Helper()
	b, err := packed(members)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func packed(members []member) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Linkname: m.link, Mode: m.mode, Size: int64(len(m.body))}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(m.body)); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// source is a source of the bytes.
func source(b []byte) cache.Source {
	return cache.Source{Name: "origin", Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

func TestBlobIsFetchedOnceAndVerified(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	b := []byte("an input file")
	d := protocol.DigestOf(b)
	var opened atomic.Int32
	for i := range 3 {
		e, err := s.Blob(t.Context(), d, from(b, &opened))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(e.Path)
		if err != nil || !bytes.Equal(got, b) || e.Hit != (i > 0) {
			t.Errorf("use %d: %q, %v, hit %v", i, got, err, e.Hit)
		}
		e.Release()
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
	if st := s.Stats(); st.Hits != 2 || st.Misses != 1 || st.HitBytes != protocol.ByteSize(2*len(b)) {
		t.Errorf("stats = %+v", st)
	}
}

func TestBitRotIsQuarantinedAndFetchedAnew(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	b := []byte("an input file")
	var opened atomic.Int32
	e, err := s.Blob(t.Context(), protocol.DigestOf(b), from(b, &opened))
	if err != nil {
		t.Fatal(err)
	}
	e.Release()
	if err := os.Chmod(e.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.Path, []byte("an input fild"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err = s.Blob(t.Context(), protocol.DigestOf(b), from(b, &opened))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	if got, _ := os.ReadFile(e.Path); !bytes.Equal(got, b) || opened.Load() != 2 {
		t.Errorf("after bit rot: %q, fetched %d times", got, opened.Load())
	}
	bad, err := os.ReadDir(filepath.Join(dir, "quarantine"))
	if err != nil || len(bad) != 1 {
		t.Errorf("quarantine holds %v, %v", bad, err)
	}
}

func TestWrongBytesNeverAppear(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	good, evil := []byte("good"), []byte("evil")
	var opened atomic.Int32
	sources := append(from(evil, &opened), from(good, &opened)...)
	e, err := s.Blob(t.Context(), protocol.DigestOf(good), sources)
	if err != nil {
		t.Fatalf("the second source was right: %v", err)
	}
	e.Release()
	if _, err := s.Blob(t.Context(), protocol.DigestOf([]byte("other")), from(evil, &opened)); !errors.Is(err, cache.ErrMismatch) || !strings.Contains(err.Error(), "origin") {
		t.Errorf("only wrong bytes: %v, want ErrMismatch naming the source", err)
	}
	if _, err := s.Blob(t.Context(), protocol.DigestOf([]byte("none")), nil); !errors.Is(err, cache.ErrNoSource) {
		t.Errorf("no source: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*", "*")); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

// broken gives the beginning of some bytes, and then an error, or the end.
func broken(b []byte, err error) cache.Source {
	return cache.Source{Name: "broken", Open: func(context.Context) (io.ReadCloser, error) {
		if err == nil {
			return io.NopCloser(bytes.NewReader(b)), nil
		}
		return io.NopCloser(io.MultiReader(bytes.NewReader(b), iotest.ErrReader(err))), nil
	}}
}

func TestPartialDownloadsAreNeverTaken(t *testing.T) {
	b := tarball(t, member{name: "a", body: strings.Repeat("a", 100_000)}, member{name: "b", body: "b"})
	d := protocol.DigestOf(b)
	for name, cut := range map[string]int{"nothing": 0, "within a header": 100, "within a file": 5000, "between files": len(b) - 2048, "but the last byte": len(b) - 1} {
		for what, failure := range map[string]error{"ended": nil, "cut off": io.ErrUnexpectedEOF, "reset": errors.New("connection reset")} {
			dir := t.TempDir()
			s := open(t, dir, 0)
			for i, get := range []func(context.Context, protocol.Digest, []cache.Source) (*cache.Entry, error){s.Blob, s.Tree} {
				_, err := get(t.Context(), d, []cache.Source{broken(b[:cut], failure)})
				if want := cmp.Or(failure, cache.ErrMismatch); !errors.Is(err, want) || errors.Is(err, cache.ErrArchive) {
					t.Errorf("%s, %s, %d: %v, want %v", name, what, i, err, want)
				}
				if v, err := s.Verify(t.Context()); err != nil || v.Entries != 0 {
					t.Errorf("%s, %s, %d: the cache holds %+v, %v", name, what, i, v, err)
				}
				e, err := get(t.Context(), d, []cache.Source{broken(b[:cut], failure), source(b)})
				if err != nil {
					t.Errorf("%s, %s, %d, with another source: %v", name, what, i, err)
					continue
				}
				e.Release()
				if err := s.Trim(t.Context(), 0); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestWhoDoesNotWaitLeavesNothing: a fetch that is given up keeps no room and no file.
func TestWhoDoesNotWaitLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, protocol.MB)
	ctx, cancel := context.WithCancel(t.Context())
	endless := cache.Source{Name: "endless", Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(readerFunc(func(b []byte) (int, error) {
			cancel()
			return len(b[:1]), nil
		})), nil
	}}
	for i, get := range []func(context.Context, protocol.Digest, []cache.Source) (*cache.Entry, error){s.Blob, s.Tree} {
		if _, err := get(ctx, protocol.Digest{1}, []cache.Source{endless}); !errors.Is(err, context.Canceled) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if sum, err := s.Summary(t.Context()); err != nil || sum.Reserved != 0 {
		t.Errorf("Summary = %+v, %v", sum, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*", "*")); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestSourcesAreAskedInOrder(t *testing.T) {
	b := tarball(t, member{name: "a", body: "a"})
	d := protocol.DigestOf(b)
	theirs := t.TempDir()
	other := openWith(t, cache.Config{Dir: theirs, Share: true})
	var asked []string
	far := cache.Source{Name: "origin", URL: "https://origin/a", Open: func(context.Context) (io.ReadCloser, error) {
		asked = append(asked, "origin")
		return io.NopCloser(bytes.NewReader(b)), nil
	}}
	site := &siteFake{b: b, asked: &asked, err: cache.ErrNoSource}
	fetch := func(c cache.Config) cache.Stats {
		t.Helper()
		asked = nil
		c.Dir = t.TempDir()
		s := openWith(t, c)
		e, err := s.Tree(t.Context(), d, []cache.Source{far})
		if err != nil {
			t.Fatal(err)
		}
		e.Release()
		return s.Stats()
	}
	size := protocol.ByteSize(len(b))
	if st := fetch(cache.Config{From: []string{theirs}, Site: site}); st.FarBytes != size || !slices.Equal(asked, []string{"site https://origin/a", "origin"}) {
		t.Errorf("nobody nearby has it: %v, %+v", asked, st)
	}
	site.err = nil
	if st := fetch(cache.Config{From: []string{theirs}, Site: site}); st.SiteBytes != size || st.FarBytes != 0 || !slices.Equal(asked, []string{"site https://origin/a"}) {
		t.Errorf("the site has it: %v, %+v", asked, st)
	}
	site.b = []byte("something else")
	if st := fetch(cache.Config{Site: site}); st.FarBytes != size || len(asked) != 2 {
		t.Errorf("the site has something else: %v, %+v", asked, st)
	}
	refused := errors.New("the origin refuses")
	s := openWith(t, cache.Config{Dir: t.TempDir(), Site: site})
	if _, err := s.Tree(t.Context(), d, []cache.Source{broken(nil, refused)}); !errors.Is(err, refused) || errors.Is(err, cache.ErrMismatch) {
		t.Errorf("the site has something else, and the origin fails: %v; the site is not to blame", err)
	}
	e, err := other.Tree(t.Context(), d, []cache.Source{far})
	if err != nil {
		t.Fatal(err)
	}
	e.Release()
	if st := fetch(cache.Config{From: []string{theirs}, Site: site}); st.NeighbourBytes != size || len(asked) != 0 {
		t.Errorf("another user has it: %v, %+v", asked, st)
	}
	if err := os.WriteFile(filepath.Join(theirs, "blobs", d.Hex()[:2], d.Hex()), []byte("rot"), 0o600); err != nil {
		t.Fatal(err)
	}
	if st := fetch(cache.Config{From: []string{theirs}}); st.FarBytes != size {
		t.Errorf("another user's is damaged: %v, %+v", asked, st)
	}
}

type siteFake struct {
	b     []byte
	asked *[]string
	err   error
}

func (s *siteFake) Fetch(_ context.Context, _ protocol.Digest, origins []string) (io.ReadCloser, error) {
	*s.asked = append(*s.asked, "site "+strings.Join(origins, " "))
	return io.NopCloser(bytes.NewReader(s.b)), s.err
}

func TestUnpackPastTheCache(t *testing.T) {
	b := tarball(t, member{name: "bin/run", body: "x", mode: 0o755})
	s := open(t, t.TempDir(), 0)
	dir := filepath.Join(t.TempDir(), "software")
	wrong := broken(b[:600], nil)
	if err := s.Unpack(t.Context(), protocol.DigestOf(b), []cache.Source{wrong, source(b)}, dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "bin/run")); string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Unpack(t.Context(), protocol.DigestOf(b), []cache.Source{wrong}, dir); !errors.Is(err, cache.ErrMismatch) {
		t.Errorf("wrong bytes: %v, want ErrMismatch", err)
	}
	if len(s.Held(1)) != 0 {
		t.Error("the cache holds what went past it")
	}
}

// TestClosingDuringAFetch: a pilot that ends does not wait for what it fetches.
func TestClosingDuringAFetch(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, protocol.MB)
	b := bytes.Repeat([]byte("x"), 100_000)
	_, err := s.Blob(t.Context(), protocol.DigestOf(b), []cache.Source{{Name: "origin", Open: func(context.Context) (io.ReadCloser, error) {
		r := bytes.NewReader(b)
		return io.NopCloser(readerFunc(func(p []byte) (int, error) {
			s.Close()
			return r.Read(p)
		})), nil
	}}})
	if err == nil {
		t.Error("a file was kept that closing removed")
	}
	e, err := open(t, dir, protocol.MB).Blob(t.Context(), protocol.DigestOf(b), []cache.Source{source(b)})
	if err != nil {
		t.Fatal(err)
	}
	e.Release()
}
