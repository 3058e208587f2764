package payload

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// A payload can put anything in the place of any file of its attempt: a link that
// leads out of it, a FIFO that nobody writes to, a directory. The pilot, which may
// do more than the payload, writes and reads there by these two.

// put writes a file of the pilot's below the attempt's directory, in the place of
// whatever is there.
func (d Dir) put(name string, data []byte) error {
	_ = os.Chmod(string(d), 0o700) // a payload may have closed it
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// empty makes an empty directory of the pilot's, in the place of whatever is there.
func (d Dir) empty(name string) error {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	return root.Mkdir(name, 0o700)
}

// take reads a file that a payload may have left, of at most limit bytes. Without
// one the error is fs.ErrNotExist.
func (d Dir) take(name string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := openRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%d bytes or more, limit %d", len(b), limit)
		if info, statErr := f.Stat(); statErr == nil {
			err = fmt.Errorf("%d bytes, limit %d", info.Size(), limit)
		}
	}
	return b, err
}

// allow changes the mode of a file below the attempt's directory, given by its whole
// path; one that is elsewhere by way of a link stays as it is.
func (d Dir) allow(file string, mode fs.FileMode) error {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return err
	}
	defer root.Close()
	name, err := filepath.Rel(string(d), file)
	if err != nil {
		return err
	}
	return root.Chmod(name, mode.Perm())
}

// openRegular opens a regular file, and waits for nobody.
func openRegular(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
