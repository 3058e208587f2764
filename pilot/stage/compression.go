package stage

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path"

	"github.com/klauspost/compress/zstd"
)

// Compression is how a file is packed on its way. Empty is not at all; "yes"
// leaves it to the suffix of the remote name.
type Compression string

// programs do what the libraries cannot write; they are part of every node's base system.
var programs = map[Compression]string{"bz2": "bzip2", "lzma": "xz"}

var suffixes = map[string]Compression{".gz": "gzip", ".bz2": "bz2", ".xz": "lzma", ".lzma": "lzma", ".zst": "zstd"}

// resolve turns "yes" into a compression.
func (c Compression) resolve(remote string) (Compression, error) {
	switch c {
	case "", "none":
		return "", nil
	case "yes":
		if k, ok := suffixes[path.Ext(remote)]; ok {
			return k, nil
		}
		return "gzip", nil
	case "gzip", "bz2", "lzma", "zstd":
		return c, nil
	}
	return "", fmt.Errorf("%w: compression %q: want gzip, bz2, lzma, zstd or none", ErrUnsupported, c)
}

// Unpack copies in to out, undoing the compression.
func (c Compression) Unpack(ctx context.Context, out io.Writer, in io.Reader) error {
	switch c {
	case "":
		_, err := io.Copy(out, in)
		return err
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInput, err)
		}
		if _, err := io.Copy(out, z); err != nil { //nolint:gosec // the attempt's disk limit bounds it
			return err
		}
		return z.Close()
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInput, err)
		}
		defer z.Close()
		_, err = io.Copy(out, z)
		return err
	}
	return c.program(ctx, out, in, "-dc")
}

// Pack copies in to out, compressing. The bytes depend on the content alone: no
// name or time enters them.
func (c Compression) Pack(ctx context.Context, out io.Writer, in io.Reader) error {
	switch c {
	case "":
		_, err := io.Copy(out, in)
		return err
	case "gzip":
		z := gzip.NewWriter(out)
		if _, err := io.Copy(z, in); err != nil {
			return err
		}
		return z.Close()
	case "zstd":
		z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		if _, err := io.Copy(z, in); err != nil {
			return err
		}
		return z.Close()
	}
	return c.program(ctx, out, in, "-c")
}

func (c Compression) program(ctx context.Context, out io.Writer, in io.Reader, flag string) error {
	name := programs[c]
	if _, err := exec.LookPath(name); err != nil {
		return fmt.Errorf("%w: compression %s: %w", ErrUnsupported, c, err)
	}
	run := exec.CommandContext(ctx, name, flag) //nolint:gosec // one of two constants
	run.Stdin, run.Stdout = in, out
	if err := run.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, flag, err)
	}
	return nil
}
