package boltfile

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
)

// A bolt file begins with two pages that describe it; the valid one with the higher
// transaction counts. Each is
//
//	 0  page header, 16 bytes
//	16  magic 4 ‖ version 4 ‖ page size 4 ‖ flags 4 ‖ root 16 ‖ freelist 8
//	56  pages 8: one past the highest page in use
//	64  transaction 8 ‖ FNV-64a of bytes 16 to 72
//
// in the byte order of the machine that wrote it.
const (
	boltMagic = 0xed0cdaed
	boltMeta  = 80
)

// meta is what the newest valid description of a bolt file says.
type meta struct {
	order       binary.ByteOrder
	pageSize    int64
	pages       uint64 // one past the highest page in use
	root        uint64
	freelist    uint64
	transaction uint64
}

// length is how many bytes the file uses.
func (m *meta) length() int64 { return int64(m.pages) * m.pageSize }

// readMeta reads how a bolt file describes itself.
func readMeta(r io.ReaderAt) (newest meta, err error) {
	found := false
	for _, size := range []int64{0, 4096, 8192, 16384, 32768, 65536} { // the second page follows the first
		page := make([]byte, boltMeta)
		if _, err := r.ReadAt(page, size); err != nil {
			continue
		}
		order := binary.ByteOrder(binary.NativeEndian)
		sum := fnv.New64a()
		sum.Write(page[16:72])
		if order.Uint32(page[16:]) != boltMagic || order.Uint64(page[72:]) != sum.Sum64() {
			continue
		}
		m := meta{
			order: order, pageSize: int64(order.Uint32(page[24:])), root: order.Uint64(page[32:]),
			freelist: order.Uint64(page[48:]), pages: order.Uint64(page[56:]), transaction: order.Uint64(page[64:]),
		}
		if size != 0 && size != m.pageSize || m.pageSize < 512 || m.pages > 1<<48/uint64(m.pageSize) {
			continue
		}
		if !found || m.transaction > newest.transaction {
			newest, found = m, true
		}
	}
	if !found {
		return newest, errors.New("no valid meta page")
	}
	return newest, nil
}
