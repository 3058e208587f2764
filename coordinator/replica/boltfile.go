package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
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

// checkLength refuses a bolt file that is shorter than the pages it uses. Bolt reads
// through a memory map, part of it on goroutines of its own, where a missing page is
// a fault that nothing can recover from.
func checkLength(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 { // bolt makes a new file of an empty one
		return err
	}
	need, err := boltLength(f)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	if info.Size() < need {
		return fmt.Errorf("%w: %s has %d bytes and should have %d", ErrDamaged, path, info.Size(), need)
	}
	return nil
}

// boltLength reads how many bytes a bolt file uses.
func boltLength(r io.ReaderAt) (int64, error) {
	var newest uint64
	length := int64(-1)
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
		pageSize, pages, transaction := int64(order.Uint32(page[24:])), order.Uint64(page[56:]), order.Uint64(page[64:])
		if size != 0 && size != pageSize || pageSize == 0 || pages > 1<<48/uint64(pageSize) {
			continue
		}
		if length < 0 || transaction > newest {
			newest, length = transaction, int64(pages)*pageSize
		}
	}
	if length < 0 {
		return 0, errors.New("no valid bolt meta page")
	}
	return length, nil
}
