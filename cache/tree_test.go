package cache_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"floe/cache"
	"floe/protocol"

	"github.com/klauspost/compress/zstd"
)

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
		if err != nil || info.Mode() != 0o500 {
			t.Errorf("%s: mode %v, %v; want 0500, set-uid dropped", name, info.Mode(), err)
		}
		e.Release()
		again, err := open(t, dir, 0).Tree(t.Context(), protocol.DigestOf(b), nil)
		if err != nil || !again.Hit {
			t.Fatalf("%s: a new process finds the tree: %+v, %v", name, again, err)
		}
		again.Release()
	}
}

// writable undoes what keeps careless programs from writing into a tree.
func writable(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		return os.Chmod(path, 0o700)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// aTree fetches a tree of two files, and returns it with the bytes of its tarball.
func aTree(t *testing.T, s *cache.Store) (*cache.Entry, []byte) {
	t.Helper()
	b := tarball(t, member{name: "lib/a.py", body: "a = 1\n", mode: 0o644}, member{name: "lib/b.py", body: "b\n"})
	e, err := s.Tree(t.Context(), protocol.DigestOf(b), []cache.Source{source(b)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Release)
	return e, b
}

func TestATreeCannotBeWrittenByAccident(t *testing.T) {
	e, _ := aTree(t, open(t, t.TempDir(), 0))
	for _, name := range []string{".", "lib", "lib/a.py"} {
		if info, err := os.Stat(filepath.Join(e.Path, name)); err != nil || info.Mode().Perm()&0o222 != 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// TestATreeThatWasMerelyTouchedIsKept: what stat says only decides how much is hashed.
func TestATreeThatWasMerelyTouchedIsKept(t *testing.T) {
	for name, touch := range map[string]func(tree string) error{
		"times": func(tree string) error {
			return os.Chtimes(filepath.Join(tree, "root/lib/a.py"), time.Now(), time.Unix(1, 0))
		},
		"after a boot":  func(tree string) error { return removeAll(filepath.Join(tree, "checked-*")) },
		"damaged notes": func(tree string) error { return overwrite(filepath.Join(tree, "checked-*")) },
	} {
		dir := t.TempDir()
		e, b := aTree(t, open(t, dir, 0))
		if err := touch(filepath.Dir(e.Path)); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, 0)
		again, err := s.Tree(t.Context(), protocol.DigestOf(b), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again.Release()
		if notes, _ := filepath.Glob(filepath.Join(filepath.Dir(e.Path), "checked-*")); len(notes) != 1 {
			t.Errorf("%s: notes of the check: %v", name, notes)
		}
	}
}

func removeAll(pattern string) error {
	all, err := filepath.Glob(pattern)
	for _, path := range all {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func overwrite(pattern string) error {
	all, err := filepath.Glob(pattern)
	for _, path := range all {
		err = errors.Join(err, os.WriteFile(path, []byte("x"), 0o600))
	}
	return err
}

// TestPowerLossIsFound: after a boot nothing that was not on stable storage counts,
// though stat says what it said.
func TestPowerLossIsFound(t *testing.T) {
	for name, tear := range map[string]func(tree string) error{
		"empty file":     func(tree string) error { return os.Truncate(filepath.Join(tree, "root/lib/a.py"), 0) },
		"zeros":          func(tree string) error { return os.WriteFile(filepath.Join(tree, "root/lib/a.py"), make([]byte, 6), 0) },
		"empty manifest": func(tree string) error { return os.Truncate(filepath.Join(tree, "manifest"), 0) },
		"empty about":    func(tree string) error { return os.Truncate(filepath.Join(tree, "about"), 0) },
		"no about":       func(tree string) error { return os.Remove(filepath.Join(tree, "about")) },
	} {
		dir := t.TempDir()
		e, b := aTree(t, open(t, dir, 0))
		e.Release()
		tree := filepath.Dir(e.Path)
		writable(t, e.Path)
		if err := errors.Join(tear(tree), removeAll(filepath.Join(tree, "checked-*"))); err != nil {
			t.Fatal(err)
		}
		again, err := open(t, dir, 0).Tree(t.Context(), protocol.DigestOf(b), []cache.Source{source(b)})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(filepath.Join(again.Path, "lib/a.py")); string(got) != "a = 1\n" || again.Hit {
			t.Errorf("%s: %q, %v, hit %v", name, got, err, again.Hit)
		}
		again.Release()
	}
}

// TestScrubbingFindsRotInATreeThatIsInUse: who runs from it is told.
func TestScrubbingFindsRotInATreeThatIsInUse(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	e, b := aTree(t, s)
	if !e.Intact() {
		t.Fatal("a tree that was just fetched is not intact")
	}
	writable(t, e.Path)
	if err := os.WriteFile(filepath.Join(e.Path, "lib/a.py"), []byte("a = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := s.Verify(t.Context())
	if err != nil || v.Entries != 1 || len(v.Bad) != 1 || v.Bad[0] != protocol.DigestOf(b) {
		t.Fatalf("Verify = %+v, %v", v, err)
	}
	if e.Intact() {
		t.Error("the damaged tree counts as intact for who runs from it")
	}
	again, err := s.Tree(t.Context(), protocol.DigestOf(b), []cache.Source{source(b)})
	if err != nil || again.Hit {
		t.Fatalf("after that: %+v, %v", again, err)
	}
	defer again.Release()
	if !again.Intact() {
		t.Error("the tree fetched anew is not intact")
	}
	if v, err := s.Verify(t.Context()); err != nil || len(v.Bad) != 0 {
		t.Errorf("Verify = %+v, %v", v, err)
	}
}

// TestQuarantineIsBounded: what went bad makes room like anything else.
func TestQuarantineIsBounded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 100*protocol.KB)
	for i := range 20 {
		b := bytes.Repeat([]byte{byte(i)}, 20_000)
		e, err := s.Blob(t.Context(), protocol.DigestOf(b), []cache.Source{source(b)})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(e.Path, []byte("rot"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(e.Path, 20_000); err != nil {
			t.Fatal(err)
		}
		e.Release()
		if v, err := s.Verify(t.Context()); err != nil || len(v.Bad) != 1 {
			t.Fatalf("Verify = %+v, %v", v, err)
		}
		if size := onDisk(dir); size > 100*protocol.KB {
			t.Fatalf("after %d bad entries the directory takes %v", i+1, size)
		}
	}
	sum, err := s.Summary(t.Context())
	if err != nil || sum.Quarantined == 0 || sum.Quarantined > 8 {
		t.Errorf("Summary = %+v, %v", sum, err)
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
		writable(t, e.Path)
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
	if err := s.Trim(t.Context(), 2*4096); err != nil {
		t.Fatal(err)
	}
	held := s.Held(10)
	if len(held) != 2 {
		t.Fatalf("held %v after trimming to two blocks", held)
	}
	if _, err := os.Stat(inUse.Path); err != nil {
		t.Errorf("an entry in use was evicted: %v", err)
	}
	inUse.Release()
	if err := s.Trim(t.Context(), 0); err != nil || len(s.Held(10)) != 0 {
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

// TestATreeReservesWhatItTakes, and not much more: others fetch beside it.
func TestATreeReservesWhatItTakes(t *testing.T) {
	dir := t.TempDir()
	const quota = 160 * protocol.MB
	s, other := open(t, dir, quota), open(t, dir, quota)
	var members []member
	const files, size = 200, 50_000
	for i := range files {
		members = append(members, member{name: fmt.Sprint("f", i), body: strings.Repeat("x", size)})
	}
	b := tarball(t, members...)
	var reserved protocol.ByteSize
	e, err := s.Tree(t.Context(), protocol.DigestOf(b), []cache.Source{{Name: "origin", Open: func(context.Context) (io.ReadCloser, error) {
		r := bytes.NewReader(b)
		return io.NopCloser(readerFunc(func(p []byte) (int, error) {
			sum, _ := other.Summary(context.Background())
			reserved = max(reserved, sum.Reserved)
			return r.Read(p[:min(len(p), 500_000)])
		})), nil
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	// A reservation grows by a sixteenth of the quota, and disks give whole blocks.
	const block = 4096
	takes := protocol.ByteSize(files * (size/block + 1) * block)
	if reserved == 0 || reserved > takes+quota/16+2*block {
		t.Errorf("%v were reserved for a tree of %v that takes %v", reserved, e.Size, takes)
	}
	if sum, err := other.Summary(t.Context()); err != nil || sum.Reserved != 0 {
		t.Errorf("afterwards: %+v, %v", sum, err)
	}
}
