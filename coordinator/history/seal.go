package history

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"floe/protocol"
)

// A sealed file holds the rows of one generation of the journal, sorted, for ever.
//
//	0        "floehist" and the format, 1: 9 bytes
//	9        pages
//	         index: zstd frame of the CBOR of sealIndex
//	end−44   SHA-256 of the index frame
//	end−12   length of the index frame, big-endian, 8 bytes
//	end−4    "seal"
//
// The journal names it by the SHA-256 of the whole, which is its name on disk, too.
// Every page is guarded by zstd's own checksum when it is read.
const (
	sealMagic   = "floehist\x01"
	sealEnd     = "seal"
	sealTrailer = sha256.Size + 8 + len(sealEnd)
	maxIndex    = 64 << 20
)

// Seal describes a sealed file.
type Seal struct {
	Digest protocol.Digest   `cbor:"1,keyasint"`
	Size   protocol.ByteSize `cbor:"2,keyasint"`
	Rows   int               `cbor:"3,keyasint"`
	// First and Last are the covered range of log indexes.
	First uint64 `cbor:"4,keyasint"`
	Last  uint64 `cbor:"5,keyasint"`
}

type sealIndex struct {
	Rows  int        `cbor:"1,keyasint"`
	First uint64     `cbor:"2,keyasint"`
	Last  uint64     `cbor:"3,keyasint"`
	Pages []pageInfo `cbor:"4,keyasint"`
}

var errSeal = errors.New("sealed file cannot be read")

// sealer writes one sealed file.
type sealer struct {
	codec *codec
	index sealIndex
	page  page
	out   *bufio.Writer
	hash  io.Writer
	size  int64
}

// writeSeal writes rows, given in order, to a new file in dir and returns what it
// is. The same rows always give the same file.
func writeSeal(ctx context.Context, dir string, c *codec, first, last uint64, rows func(yield func(row) error) error) (seal Seal, err error) {
	f, err := os.CreateTemp(dir, "writing-*")
	if err != nil {
		return Seal{}, err
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	hash := sha256.New()
	s := &sealer{codec: c, out: bufio.NewWriterSize(f, 1<<20), hash: hash, index: sealIndex{First: first, Last: last}}
	if err := s.write([]byte(sealMagic)); err != nil {
		return Seal{}, err
	}
	err = rows(func(r row) error {
		if !s.page.fits(r.key(), len(r)) {
			if err := errors.Join(ctx.Err(), s.flush()); err != nil {
				return err
			}
		}
		s.index.Rows++
		s.page.add(r)
		return nil
	})
	if err != nil {
		return Seal{}, err
	}
	if err := errors.Join(s.finish(), s.out.Flush(), f.Sync(), f.Close()); err != nil {
		return Seal{}, err
	}
	seal = Seal{Size: protocol.ByteSize(s.size), Rows: s.index.Rows, First: first, Last: last}
	hash.Sum(seal.Digest[:0])
	if err := os.Rename(f.Name(), sealPath(dir, seal.Digest)); err != nil {
		return Seal{}, err
	}
	return seal, syncDir(dir)
}

func sealPath(dir string, d protocol.Digest) string { return filepath.Join(dir, d.Hex()) }

func (s *sealer) write(b []byte) error {
	s.size += int64(len(b))
	_, _ = s.hash.Write(b) // documented never to fail
	_, err := s.out.Write(b)
	return err
}

// flush writes the page gathered so far.
func (s *sealer) flush() error {
	if s.page.info.Rows == 0 {
		return nil
	}
	frame := s.codec.encoder.EncodeAll(s.page.raw, nil)
	s.page.info.Offset, s.page.info.Length = s.size, len(frame)
	s.index.Pages = append(s.index.Pages, s.page.info)
	s.page = page{raw: s.page.raw[:0]}
	return s.write(frame)
}

func (s *sealer) finish() error {
	if err := s.flush(); err != nil {
		return err
	}
	b, err := protocol.Marshal(&s.index)
	if err != nil {
		return err
	}
	frame := s.codec.encoder.EncodeAll(b, nil)
	sum := sha256.Sum256(frame)
	trailer := binary.BigEndian.AppendUint64(sum[:], uint64(len(frame)))
	return errors.Join(s.write(frame), s.write(trailer), s.write([]byte(sealEnd)))
}

// segment is a sealed file open for reading. It may be used concurrently.
type segment struct {
	Seal
	pages []pageInfo
	file  *os.File
	codec *codec
	// broken, where not nil, is why the file cannot be read; it has no pages then.
	broken error
}

// openSegment opens a sealed file and verifies length and index. The pages are
// verified when they are read, and all of it by Verify.
func openSegment(dir string, c *codec, s Seal) (_ *segment, err error) {
	f, err := os.Open(sealPath(dir, s.Digest))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() != int64(s.Size) {
		return nil, fmt.Errorf("%w: %d bytes, want %d", errSeal, fi.Size(), s.Size)
	}
	index, err := readIndex(f, fi.Size(), c)
	if err != nil {
		return nil, err
	}
	if index.Rows != s.Rows || index.First != s.First || index.Last != s.Last {
		return nil, fmt.Errorf("%w: it covers %d to %d, want %d to %d", errSeal, index.First, index.Last, s.First, s.Last)
	}
	return &segment{Seal: s, pages: index.Pages, file: f, codec: c}, nil
}

// readIndex reads the index at the end of a sealed file of the size.
func readIndex(f io.ReaderAt, size int64, c *codec) (*sealIndex, error) {
	if size < int64(len(sealMagic)+sealTrailer) {
		return nil, fmt.Errorf("%w: %d bytes are too few", errSeal, size)
	}
	head, end := make([]byte, len(sealMagic)), make([]byte, sealTrailer)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, err
	}
	if _, err := f.ReadAt(end, size-int64(sealTrailer)); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint64(end[sha256.Size:])
	if string(head) != sealMagic || string(end[sha256.Size+8:]) != sealEnd || length > maxIndex || int64(length) > size-int64(len(sealMagic)+sealTrailer) {
		return nil, fmt.Errorf("%w: it does not begin and end as one", errSeal)
	}
	frame := make([]byte, length)
	if _, err := f.ReadAt(frame, size-int64(sealTrailer)-int64(length)); err != nil {
		return nil, err
	}
	if sha256.Sum256(frame) != [sha256.Size]byte(end[:sha256.Size]) {
		return nil, fmt.Errorf("%w: its index is damaged", errSeal)
	}
	raw, err := c.decoder.DecodeAll(frame, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: index: %w", errSeal, err)
	}
	index := new(sealIndex)
	if err := protocol.Unmarshal(raw, index); err != nil {
		return nil, fmt.Errorf("%w: index: %w", errSeal, err)
	}
	for i := range index.Pages {
		p := &index.Pages[i]
		if err := p.check(); err != nil {
			return nil, err
		}
		if p.Offset+int64(p.Length) > size {
			return nil, fmt.Errorf("%w: page at %d ends behind the file", errSeal, p.Offset)
		}
	}
	return index, nil
}

// read returns the rows of a page.
func (s *segment) read(p *pageInfo) ([]row, error) {
	frame := make([]byte, p.Length)
	if _, err := s.file.ReadAt(frame, p.Offset); err != nil {
		return nil, fmt.Errorf("sealed file %v: %w", s.Digest, err)
	}
	rows, err := s.codec.unpack(frame)
	if err != nil {
		return nil, fmt.Errorf("sealed file %v: %w", s.Digest, err)
	}
	if len(rows) != p.Rows {
		return nil, fmt.Errorf("sealed file %v: %w: page at %d has %d rows, want %d", s.Digest, errSeal, p.Offset, len(rows), p.Rows)
	}
	return rows, nil
}

// syncDir makes renames and removals in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
