package cache_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"floe/cache"
	"floe/protocol"

	"github.com/klauspost/compress/zstd"
)

func open(t *testing.T, dir string, quota protocol.ByteSize) *cache.Store {
	t.Helper()
	s, err := cache.Open(cache.Config{Dir: dir, Quota: quota, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
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
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Linkname: m.link, Mode: m.mode, Size: int64(len(m.body))}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
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
	if left, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestTreeOfEveryCompression(t *testing.T) {
	plain := tarball(t, member{name: "./", kind: tar.TypeDir}, member{name: "bin/run", body: "#!/bin/sh\n", mode: 0o4755},
		member{name: "lib/a.py", body: "a = 1\n", mode: 0o644}, member{name: "bin/again", kind: tar.TypeSymlink, link: "../lib/a.py"})
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	_, _ = g.Write(plain)
	_ = g.Close()
	z, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = z.Write(plain)
	_ = z.Close()
	for name, b := range map[string][]byte{"plain": plain, "gzip": gz.Bytes(), "zstd": zs.Bytes()} {
		dir := t.TempDir()
		var opened atomic.Int32
		e, err := open(t, dir, 0).Tree(t.Context(), protocol.DigestOf(b), from(b, &opened))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(filepath.Join(e.Path, "bin/again")); string(got) != "a = 1\n" {
			t.Errorf("%s: through the link: %q, %v", name, got, err)
		}
		info, err := os.Stat(filepath.Join(e.Path, "bin/run"))
		if err != nil || info.Mode() != 0o700 {
			t.Errorf("%s: mode %v, %v; want 0700, set-uid dropped", name, info.Mode(), err)
		}
		e.Release()
		again, err := open(t, dir, 0).Tree(t.Context(), protocol.DigestOf(b), nil)
		if err != nil || !again.Hit {
			t.Fatalf("%s: a new process finds the tree: %+v, %v", name, again, err)
		}
		again.Release()
	}
}

func TestDamagedTreeIsFetchedAnew(t *testing.T) {
	b := tarball(t, member{name: "lib/a.py", body: "a = 1\n", mode: 0o644}, member{name: "lib/b.py", body: "b\n"})
	d := protocol.DigestOf(b)
	for name, spoil := range map[string]func(root string) error{
		"changed": func(root string) error {
			return os.WriteFile(filepath.Join(root, "lib/a.py"), []byte("a = 2\n"), 0o600)
		},
		"removed":  func(root string) error { return os.Remove(filepath.Join(root, "lib/b.py")) },
		"added":    func(root string) error { return os.WriteFile(filepath.Join(root, "lib/c.py"), nil, 0o600) },
		"manifest": func(root string) error { return os.WriteFile(filepath.Join(root, "../manifest"), []byte("x"), 0o600) },
		"swapped": func(root string) error {
			if err := os.Remove(filepath.Join(root, "lib/b.py")); err != nil {
				return err
			}
			return os.Symlink("/etc/passwd", filepath.Join(root, "lib/b.py"))
		},
	} {
		dir := t.TempDir()
		var opened atomic.Int32
		e, err := open(t, dir, 0).Tree(t.Context(), d, from(b, &opened))
		if err != nil {
			t.Fatal(err)
		}
		e.Release()
		if err := spoil(e.Path); err != nil {
			t.Fatal(err)
		}
		e, err = open(t, dir, 0).Tree(t.Context(), d, from(b, &opened))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(filepath.Join(e.Path, "lib/a.py")); string(got) != "a = 1\n" || opened.Load() != 2 {
			t.Errorf("%s: %q after %d fetches", name, got, opened.Load())
		}
		e.Release()
	}
}

func TestHostileArchivesAreRefused(t *testing.T) {
	deep := strings.Repeat("d/", 60) + "f"
	for name, members := range map[string][]member{
		"parent":          {{name: "../evil", body: "x"}},
		"absolute":        {{name: "/etc/evil", body: "x"}},
		"link outside":    {{name: "l", kind: tar.TypeSymlink, link: "../../x"}},
		"absolute link":   {{name: "l", kind: tar.TypeSymlink, link: "/etc"}},
		"hard link":       {{name: "a", body: "x"}, {name: "h", kind: tar.TypeLink, link: "a"}},
		"device":          {{name: "null", kind: tar.TypeChar}},
		"fifo":            {{name: "pipe", kind: tar.TypeFifo}},
		"deep":            {{name: deep, body: "x"}},
		"long name":       {{name: strings.Repeat("n", 300), body: "x"}},
		"same name twice": {{name: "a", body: "x"}, {name: "a", body: "y"}},
		"behind a link":   {{name: "a/b/l", kind: tar.TypeSymlink, link: "../.."}, {name: "a/b/l/e", kind: tar.TypeSymlink, link: "../../x"}},
		"behind a file":   {{name: "a", body: "x"}, {name: "a/b", body: "y"}},
		"through link":    {{name: "d", kind: tar.TypeSymlink, link: "e"}, {name: "d/../../f", body: "x"}},
	} {
		b := tarball(t, members...)
		dir := t.TempDir()
		var opened atomic.Int32
		if e, err := open(t, dir, 0).Tree(t.Context(), protocol.DigestOf(b), from(b, &opened)); err == nil {
			t.Errorf("%s was unpacked to %s", name, e.Path)
		}
		if _, err := os.Stat(filepath.Join(dir, "trees", protocol.DigestOf(b).Hex())); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something stands under the final name: %v", name, err)
		}
	}
	garbage := []byte("this is no archive at all, whatever its digest says")
	var opened atomic.Int32
	if _, err := open(t, t.TempDir(), 0).Tree(t.Context(), protocol.DigestOf(garbage), from(garbage, &opened)); !errors.Is(err, cache.ErrArchive) {
		t.Errorf("garbage: %v, want ErrArchive", err)
	}
}

func TestQuotaEvictsTheLeastRecentlyUsed(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	var opened atomic.Int32
	blob := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 1000) }
	var inUse *cache.Entry
	for i := range 4 {
		e, err := s.Blob(t.Context(), protocol.DigestOf(blob(i)), from(blob(i), &opened))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			inUse = e
		} else {
			e.Release()
		}
	}
	if err := s.Trim(2000); err != nil {
		t.Fatal(err)
	}
	held := s.Held(10)
	if len(held) != 2 {
		t.Fatalf("held %v after trimming to 2000 bytes", held)
	}
	if _, err := os.Stat(inUse.Path); err != nil {
		t.Errorf("an entry in use was evicted: %v", err)
	}
	inUse.Release()
	if err := s.Trim(0); err != nil || len(s.Held(10)) != 0 {
		t.Errorf("after trimming to nothing: %v, %v", s.Held(10), err)
	}
}

func TestQuotaSpentByUseIsNoSpace(t *testing.T) {
	s := open(t, t.TempDir(), 100*protocol.MB)
	var opened atomic.Int32
	big := bytes.Repeat([]byte("x"), int(70*protocol.MB))
	e, err := s.Blob(t.Context(), protocol.DigestOf(big), from(big, &opened))
	if !errors.Is(err, cache.ErrNoSpace) && err != nil {
		t.Fatal(err)
	}
	if err == nil {
		defer e.Release()
	}
	other := append(bytes.Clone(big), 'y')
	if _, err := s.Blob(t.Context(), protocol.DigestOf(other), from(other, &opened)); !errors.Is(err, cache.ErrNoSpace) {
		t.Errorf("a second blob of 70 MB under a quota of 100 MB: %v, want ErrNoSpace", err)
	}
}

// TestRacingProcesses has several processes ask for one tree at once: the test
// binary runs itself.
func TestRacingProcesses(t *testing.T) {
	b := tarball(t, member{name: "bin/run", body: strings.Repeat("payload", 1000), mode: 0o755})
	dir := t.TempDir()
	origin := filepath.Join(dir, "origin.tar")
	if err := os.WriteFile(origin, b, 0o600); err != nil {
		t.Fatal(err)
	}
	fetches := filepath.Join(dir, "fetches")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			c := exec.Command(os.Args[0], "-test.run=^TestRacingProcess$")
			c.Env = append(os.Environ(), "CACHE_RACE_DIR="+filepath.Join(dir, "cache"), "CACHE_RACE_ORIGIN="+origin, "CACHE_RACE_LOG="+fetches)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("process %d: %v\n%s", i, err, out)
			}
		})
	}
	wg.Wait()
	if log, err := os.ReadFile(fetches); string(log) != "fetched\n" {
		t.Errorf("fetch log = %q, %v; want one fetch", log, err)
	}
}

// TestRacingProcess is one process of TestRacingProcesses.
func TestRacingProcess(t *testing.T) {
	dir := os.Getenv("CACHE_RACE_DIR")
	if dir == "" {
		t.Skip("run by TestRacingProcesses")
	}
	b, err := os.ReadFile(os.Getenv("CACHE_RACE_ORIGIN"))
	if err != nil {
		t.Fatal(err)
	}
	source := cache.Source{Name: "origin", Open: func(context.Context) (io.ReadCloser, error) {
		f, err := os.OpenFile(os.Getenv("CACHE_RACE_LOG"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		fmt.Fprintln(f, "fetched")
		return io.NopCloser(bytes.NewReader(b)), nil
	}}
	e, err := open(t, dir, 0).Tree(t.Context(), protocol.DigestOf(b), []cache.Source{source})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	if _, err := os.Stat(filepath.Join(e.Path, "bin/run")); err != nil {
		t.Error(err)
	}
}

func FuzzTree(f *testing.F) {
	f.Add([]byte("not a tarball"))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0})
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		var opened atomic.Int32
		e, err := open(t, dir, protocol.GB).Tree(context.Background(), protocol.DigestOf(b), from(b, &opened))
		if err == nil {
			e.Release()
		}
	})
}
