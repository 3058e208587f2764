package cache

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"floe/protocol"

	"github.com/minio/sha256-simd"
)

// writing is a blob that has been copied to the disk, and stands under no name yet.
type writing struct {
	store  *Store
	file   *os.File
	room   *reservation
	digest protocol.Digest
	size   protocol.ByteSize
}

// write copies all of in, and hashes it on the way. The caller closes what it gets.
func (s *Store) write(ctx context.Context, in io.Reader, mode fs.FileMode) (*writing, error) {
	w := &writing{store: s, room: s.reservation()}
	if err := w.copy(ctx, in, mode); err != nil {
		w.close()
		return nil, diskError(err)
	}
	return w, nil
}

func (w *writing) copy(ctx context.Context, in io.Reader, mode fs.FileMode) error {
	if err := w.room.take(ctx, sizeOf(in)); err != nil {
		return err
	}
	dir, err := w.store.workDir(ctx)
	if err != nil {
		return err
	}
	if w.file, err = os.CreateTemp(dir, "blob-"); err != nil {
		return err
	}
	if err := w.file.Chmod(mode); err != nil {
		return err
	}
	h := sha256.New()
	buffer := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.Read(buffer)
		w.size += protocol.ByteSize(n)
		if err := w.room.grow(ctx, w.size); err != nil {
			return err
		}
		h.Write(buffer[:n])
		if _, err := w.file.Write(buffer[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	w.digest = protocol.Digest(h.Sum(nil))
	return nil
}

// publish gives the blob the name of its digest, and returns it in use.
func (w *writing) publish() (*locked, error) {
	to := w.store.blobPath(w.digest)
	mode := fs.FileMode(0o700)
	if w.store.share {
		mode = 0o711
	}
	if err := makeDirs(mode, filepath.Dir(to)); err != nil {
		return nil, diskError(err)
	}
	return publish(w.file.Name(), w.file.Name(), to, to)
}

// close removes what was not published, and gives its room back.
func (w *writing) close() {
	if w.file != nil {
		_ = w.file.Close()           // every write was checked
		_ = os.Remove(w.file.Name()) // it has another name when all went well
	}
	w.room.release()
}

// publish renames what is complete from one name to another. The file at lock, which
// will then be at path, is locked for use before anybody can see it. Nothing is
// synced: what a loss of power tears is found when it is hashed before its next use.
func publish(lock, from, to, path string) (*locked, error) {
	use, err := tryLock(lock, shared, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	use.path = path
	if err := os.Rename(from, to); err != nil {
		use.Close()
		return nil, diskError(err)
	}
	return use, nil
}
