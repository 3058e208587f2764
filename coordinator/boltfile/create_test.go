package boltfile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

func TestCreateLeavesNothingHalfMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.db")
	// A creation that was cut short, which another one takes over.
	if err := os.WriteFile(path+".new", []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, nil); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err != nil {
		t.Errorf("what was created: %v", err)
	}
	if _, err := os.Lstat(path + ".new"); err == nil {
		t.Error("what it was made of is left over")
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := Create(path, nil); err != nil { // it is there, and open
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("a file that was there is not as it was: %v", err)
	}
}
