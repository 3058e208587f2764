package payload

import (
	"fmt"
	"os"
	"path/filepath"
)

// Dir is the directory of one attempt, mode 0700:
//
//	work/   where modules run and stage puts and takes files
//	tmp/    TMPDIR, and what an isolated payload sees as /tmp and /var/tmp
//	home/   HOME
//	log     everything the payload prints
//	shim/   what runs Python classes, where there are any
//	module-N.*  what a module is told and what it returns
//	checkpoint-N  what a payload has saved, packed; earlier/ what an earlier attempt has
//	socket  what a payload says to its pilot while it runs (session)
type Dir string

// MakeDir creates an attempt's directory; it must not exist, so that no
// earlier attempt's file is taken for this one's.
func MakeDir(path string) (Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("attempt directory: %w", err)
	}
	if err := os.Mkdir(abs, 0o700); err != nil {
		return "", fmt.Errorf("attempt directory: %w", err)
	}
	d := Dir(abs)
	for _, sub := range []string{d.Work(), d.Temp(), d.Home()} {
		if err := os.Mkdir(sub, 0o700); err != nil {
			return "", fmt.Errorf("attempt directory: %w", err)
		}
	}
	return d, nil
}

// Names below the directory.
const (
	workName = "work"
	tempName = "tmp"
	homeName = "home"
	logName  = "log"
)

// Work is where modules run.
func (d Dir) Work() string { return filepath.Join(string(d), workName) }

// Temp is the payload's TMPDIR, and /tmp and /var/tmp of one that is isolated.
func (d Dir) Temp() string { return filepath.Join(string(d), tempName) }

// Home is the payload's HOME.
func (d Dir) Home() string { return filepath.Join(string(d), homeName) }

// LogPath is the log.
func (d Dir) LogPath() string { return filepath.Join(string(d), logName) }

// earlier is what is unpacked of an earlier attempt's checkpoint.
func (d Dir) earlier() string { return filepath.Join(string(d), "earlier") }

func (d Dir) shim() string { return filepath.Join(string(d), "shim") }

// Remove deletes the directory with all it holds, also what the payload made
// unwritable.
func (d Dir) Remove() error {
	if err := os.RemoveAll(string(d)); err == nil {
		return nil
	}
	// A tree unpacked read-only cannot be removed before its directories are writable.
	_ = filepath.WalkDir(string(d), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(string(d))
}
