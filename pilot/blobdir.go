package pilot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"floe/protocol"
)

// blobDir is a directory in the place of the coordinators' blob store
// (stage.Blobs): a file per blob, named by its digest.
type blobDir string

func (b blobDir) path(d protocol.Digest) string { return filepath.Join(string(b), d.Hex()) }

// GetBlob implements stage.Blobs.
func (b blobDir) GetBlob(_ context.Context, d protocol.Digest) (io.ReadCloser, error) {
	f, err := os.Open(b.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, protocol.Errorf(protocol.CodeNotFound, "no blob %v in %s", d, string(b))
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// PutBlob implements stage.Blobs.
func (b blobDir) PutBlob(_ context.Context, d protocol.Digest, size protocol.ByteSize, body io.Reader) error {
	f, err := os.CreateTemp(string(b), "part-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it has another name when all went well
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), body)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if got := protocol.Digest(hash.Sum(nil)); got != d || protocol.ByteSize(n) != size {
		return fmt.Errorf("blob %v of %d bytes: got %d bytes with digest %v", d, size, n, got)
	}
	return os.Rename(f.Name(), b.path(d))
}
