package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// Create makes an empty bolt file where there is none. It is there whole or not at
// all: bolt writes a new file in place, and one that a loss of power tore then cannot
// be told from one that was damaged and had held something.
func Create(path string, options *bbolt.Options) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a creation that was cut short
		return err
	}
	db, err := bbolt.Open(fresh, 0o600, options)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if err := db.Close(); err != nil { // what bolt has written is synced
		return fmt.Errorf("create %s: %w", path, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
