package history

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"floe/coordinator/state"
	"floe/protocol"
)

// A page is a zstd frame of rows in order of their keys, each behind its length as
// a uvarint. It is cut after pageRows rows or pageBytes bytes and where the table
// or the dataset changes, so that a query about one dataset reads no other's rows.
const (
	pageRows  = 1024    // Source: research F6, 1024-row pages
	pageBytes = 1 << 20 // before compression
	maxPage   = pageBytes + state.MaxCommandBytes + 4096
)

// pageInfo is a page's entry in the index of its file.
type pageInfo struct {
	Offset int64  `cbor:"1,keyasint"` // in the file
	Length int    `cbor:"2,keyasint"` // compressed
	Rows   int    `cbor:"3,keyasint"`
	First  []byte `cbor:"4,keyasint"` // key of the first row
	Last   []byte `cbor:"5,keyasint"` // key of the last row
	// Oldest and Newest bound the leases in the page.
	Oldest protocol.LeaseID `cbor:"6,keyasint"`
	Newest protocol.LeaseID `cbor:"7,keyasint"`
	// Verdicts has a bit for each verdict that an attempt of the page ended with.
	Verdicts uint32 `cbor:"8,keyasint,omitempty"`
	// Permanent says that some attempt of the page has a permanent output.
	Permanent bool `cbor:"9,keyasint,omitempty"`
}

func (p *pageInfo) check() error {
	if len(p.First) != len(key{}) || len(p.Last) != len(key{}) || p.Offset < 0 || p.Length <= 0 || p.Rows <= 0 || key(p.First).compare(key(p.Last)) > 0 {
		return fmt.Errorf("%w: page at %d", errSeal, p.Offset)
	}
	return nil
}

// touches reports whether the page may hold rows of the span.
func (p *pageInfo) touches(s span) bool {
	return key(p.Last).compare(s.from) >= 0 && key(p.First).compare(s.to) <= 0
}

// holds reports whether the page may hold rows of the lease.
func (p *pageInfo) holds(l protocol.LeaseID) bool {
	return p.Oldest.Compare(l) <= 0 && l.Compare(p.Newest) <= 0
}

// page gathers rows until it is full.
type page struct {
	info pageInfo
	raw  []byte
}

// fits reports whether a row of the key and length may join the page.
func (p *page) fits(k key, length int) bool {
	return p.info.Rows == 0 ||
		p.info.Rows < pageRows && len(p.raw)+length <= pageBytes && string(p.info.First[:keyTask+4]) == string(k[:keyTask+4])
}

func (p *page) add(r row) {
	k := r.key()
	if p.info.Rows == 0 {
		p.info.First = append([]byte(nil), k[:]...)
		p.info.Oldest = k.lease()
	}
	p.info.Last = append(p.info.Last[:0], k[:]...)
	p.info.Rows++
	if l := k.lease(); l.Compare(p.info.Oldest) < 0 {
		p.info.Oldest = l
	}
	if l := k.lease(); l.Compare(p.info.Newest) > 0 {
		p.info.Newest = l
	}
	if v := r.mark().verdict(); v != 0 {
		p.info.Verdicts |= 1 << v
	}
	p.info.Permanent = p.info.Permanent || r.mark()&markPermanent != 0
	p.raw = binary.AppendUvarint(p.raw, uint64(len(r)))
	p.raw = append(p.raw, r...)
}

// codec compresses pages. It may be used concurrently.
type codec struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

func newCodec() (*codec, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	// Queries decode at most four pages at once.
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(4), zstd.WithDecoderMaxMemory(maxIndex))
	if err != nil {
		return nil, err
	}
	return &codec{e, d}, nil
}

func (c *codec) close() {
	_ = c.encoder.Close()
	c.decoder.Close()
}

// unpack decompresses a page and takes its rows apart. The rows share memory.
func (c *codec) unpack(frame []byte) ([]row, error) {
	raw, err := c.decoder.DecodeAll(frame, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: page: %w", errSeal, err)
	}
	return splitRows(raw)
}

// splitRows takes the contents of a page apart and refuses rows out of order.
func splitRows(raw []byte) ([]row, error) {
	if len(raw) > maxPage {
		return nil, fmt.Errorf("%w: page of %d bytes", errSeal, len(raw))
	}
	rows := make([]row, 0, pageRows)
	for len(raw) > 0 {
		n, width := binary.Uvarint(raw)
		if width <= 0 || n > uint64(len(raw)-width) {
			return nil, fmt.Errorf("%w: row %d of a page: wrong length", errSeal, len(rows))
		}
		r := row(raw[width : width+int(n)])
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("%w: row %d of a page: %w", errSeal, len(rows), err)
		}
		if len(rows) > 0 && rows[len(rows)-1].key().compare(r.key()) >= 0 {
			return nil, fmt.Errorf("%w: row %d of a page is out of order", errSeal, len(rows))
		}
		rows = append(rows, r)
		raw = raw[width+int(n):]
	}
	return rows, nil
}
