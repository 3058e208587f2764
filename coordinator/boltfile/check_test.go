package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// boltBytes is a small bolt file with pages of all kinds: branches, buckets in
// buckets, values longer than a page, free pages, and, where it is asked for, a list
// of them.
func boltBytes(t testing.TB, keys int, freelist bool) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 4096, NoFreelistSync: !freelist, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			inner, err := b.CreateBucketIfNotExists(fmt.Appendf(nil, "inner-%d", i%3))
			if err != nil {
				return err
			}
			return errors.Join(b.Put(fmt.Appendf(nil, "key-%06d", i), make([]byte, 100+i%7*1000)), inner.Put(fmt.Append(nil, i), nil))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCheckAcceptsWhatBoltWrites(t *testing.T) {
	for _, keys := range []int{0, 1, 50, 400} {
		for _, freelist := range []bool{false, true} {
			b := boltBytes(t, keys, freelist)
			if err := check(bytes.NewReader(b), int64(len(b))); err != nil {
				t.Errorf("check of %d keys, freelist %v: %v", keys, freelist, err)
			}
		}
	}
	if err := Check(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Errorf("Check of no file: %v", err)
	}
}

// Every file that is cut below what it uses is refused, by name.
func TestCheckRefusesAFileThatWasCut(t *testing.T) {
	whole := boltBytes(t, 30, true)
	m, err := readMeta(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.db")
	for size, ok := range map[int64]bool{0: true, 1: false, 4096: false, m.length() - 1: false, m.length(): true, int64(len(whole)): true} {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Check(path); (err == nil) != ok || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("Check of %d bytes of %d = %v, want ok %t", size, m.length(), err, ok)
		}
	}
	first := bytes.Clone(whole)
	first[20] ^= 1 // one meta page may be torn: the other counts
	if _, err := readMeta(bytes.NewReader(first)); err != nil {
		t.Errorf("one meta page torn: %v", err)
	}
	first[4096+20] ^= 1
	if m, err := readMeta(bytes.NewReader(first)); err == nil {
		t.Errorf("both meta pages torn: %+v, want an error", m)
	}
}

// What passes, bolt can read to its end without a fault, and its own check agrees.
func TestBoltReadsWhatPasses(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	passed, refused := 0, 0
	for _, freelist := range []bool{false, true} {
		whole := boltBytes(t, 60, freelist)
		for range 400 {
			b := bytes.Clone(whole)
			// Most of a file is values; the beginnings of pages are where it hurts.
			b[r.IntN(len(b)/4096)*4096+r.IntN(256)] ^= 1 << r.IntN(8)
			if check(bytes.NewReader(b), int64(len(b))) != nil {
				refused++
				continue
			}
			passed++
			path := filepath.Join(t.TempDir(), "x.db")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := Guard(path, func() error { return readAll(path) }); err != nil {
				t.Errorf("a file that passed: %v", err)
			}
		}
	}
	if passed < 50 || refused < 50 {
		t.Errorf("%d passed and %d were refused; the test means nothing", passed, refused)
	}
}

func readAll(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		var all error
		for err := range tx.Check() {
			all = errors.Join(all, err)
		}
		return all
	})
}

func FuzzCheck(f *testing.F) {
	f.Add(boltBytes(f, 3, false))
	f.Add(boltBytes(f, 3, true))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = check(io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))), int64(len(b)))
	})
}
