package replica

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// boltBytes is a small bolt file.
func boltBytes(t testing.TB, keys int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 4096, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			return b.Put(fmt.Append(nil, i), make([]byte, 3000))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBoltLength(t *testing.T) {
	whole := boltBytes(t, 30)
	path := filepath.Join(t.TempDir(), "x.db")
	need, err := boltLength(bytes.NewReader(whole))
	if err != nil || need < 30*3000 || need > int64(len(whole)) {
		t.Fatalf("boltLength = %d, %v, want at least 90,000 and at most %d", need, err, len(whole))
	}
	for size, ok := range map[int64]bool{0: true, 4096: false, need - 1: false, need: true, int64(len(whole)): true} {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkLength(path); (err == nil) != ok {
			t.Errorf("checkLength of %d bytes of %d = %v, want ok %t", size, need, err, ok)
		}
	}
	first := bytes.Clone(whole)
	first[20] ^= 1 // one meta page may be torn: the other counts
	if _, err := boltLength(bytes.NewReader(first)); err != nil {
		t.Errorf("one meta page torn: %v", err)
	}
	first[4096+20] ^= 1
	if n, err := boltLength(bytes.NewReader(first)); err == nil {
		t.Errorf("both meta pages torn: %d, want an error", n)
	}
}

func FuzzBoltLength(f *testing.F) {
	f.Add([]byte{})
	f.Add(boltBytes(f, 1)[:2*4096])
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := boltLength(io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))))
		if err == nil && n < 0 {
			t.Errorf("boltLength = %d", n)
		}
	})
}
