package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"syscall"
)

// ErrDamaged: the file is not what bolt would have written.
var ErrDamaged = errors.New("storage damaged")

// Check reads a bolt file. One that is not there, empty, or locked by a process that
// has it open is no error.
func Check(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// Who has the lock may be writing; bolt, which is asked next, names that.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil
	}
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	if err := check(f, info.Size()); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return nil
}

// Guard runs what opens and reads a bolt file on this goroutine: should the file be
// damaged in a way that Check does not see, faults and panics become ErrDamaged.
func Guard(path string, read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: read %s: %v", ErrDamaged, path, p)
		}
	}()
	if err := Check(path); err != nil {
		return err
	}
	return read()
}

// A page begins with
//
//	0  number 8 ‖ flags 2 ‖ count 2 ‖ overflow 4: pages that follow and belong to it
//
// A branch then has count elements of position 4 ‖ key size 4 ‖ page 8, a leaf of
// flags 4 ‖ position 4 ‖ key size 4 ‖ value size 4; positions are counted from the
// element. The value of a bucket is root 8 ‖ sequence 8, and, where the root is
// zero, a page of its own behind them.
const (
	headerSize  = 16
	elementSize = 16
	bucketSize  = 16

	flagBranch   = 1
	flagLeaf     = 2
	flagFreelist = 16

	elementBucket = 1

	noFreelist = 1<<64 - 1 // the list of free pages was not written
	maxDepth   = 64        // of pages and buckets in each other
)

// walk is the reading of one file.
type walk struct {
	meta
	file io.ReaderAt
	used []uint64 // a bit per page
}

func check(file io.ReaderAt, size int64) error {
	m, err := readMeta(file)
	if err != nil {
		return err
	}
	if size < m.length() {
		return fmt.Errorf("it has %d bytes and should have %d", size, m.length())
	}
	w := &walk{meta: m, file: file, used: make([]uint64, m.pages/64+1)}
	if err := w.page(m.root, nil, nil, 0); err != nil {
		return err
	}
	if m.freelist == noFreelist {
		return nil
	}
	return w.free()
}

// claim marks a page and those that belong to it as used, once.
func (w *walk) claim(number, overflow uint64) error {
	if number < 2 || number >= w.pages || overflow >= w.pages-number {
		return fmt.Errorf("page %d with %d more, of %d", number, overflow, w.pages)
	}
	for n := number; n <= number+overflow; n++ {
		if w.isUsed(n) {
			return fmt.Errorf("page %d is reached twice", n)
		}
		w.used[n/64] |= 1 << (n % 64)
	}
	return nil
}

func (w *walk) isUsed(n uint64) bool { return w.used[n/64]&(1<<(n%64)) != 0 }

// read reads a page with all that belongs to it.
func (w *walk) read(number uint64) (b []byte, flags, count uint16, err error) {
	if number < 2 || number >= w.pages {
		return nil, 0, 0, fmt.Errorf("page %d of %d", number, w.pages)
	}
	head := make([]byte, headerSize)
	if _, err := w.file.ReadAt(head, int64(number)*w.pageSize); err != nil {
		return nil, 0, 0, err
	}
	overflow := uint64(w.order.Uint32(head[12:]))
	if got := w.order.Uint64(head); got != number {
		return nil, 0, 0, fmt.Errorf("page %d calls itself %d", number, got)
	}
	if err := w.claim(number, overflow); err != nil {
		return nil, 0, 0, err
	}
	b = make([]byte, int64(overflow+1)*w.pageSize)
	if _, err := w.file.ReadAt(b, int64(number)*w.pageSize); err != nil {
		return nil, 0, 0, err
	}
	return b, w.order.Uint16(b[8:]), w.order.Uint16(b[10:]), nil
}

// page walks a page and all below it, whose keys are from least on and before most.
func (w *walk) page(number uint64, least, most []byte, depth int) error {
	b, flags, count, err := w.read(number)
	if err != nil {
		return err
	}
	if err := w.elements(b, flags, count, least, most, depth); err != nil {
		return fmt.Errorf("page %d: %w", number, err)
	}
	return nil
}

func (w *walk) elements(b []byte, flags, count uint16, least, most []byte, depth int) error {
	if depth > maxDepth {
		return errors.New("too deep")
	}
	if flags != flagBranch && flags != flagLeaf || flags == flagBranch && count == 0 {
		return fmt.Errorf("flags %#x with %d elements", flags, count)
	}
	if headerSize+int(count)*elementSize > len(b) {
		return fmt.Errorf("%d elements in %d bytes", count, len(b))
	}
	keys := make([][]byte, count)
	for i := range keys {
		at := headerSize + i*elementSize
		e := b[at : at+elementSize]
		position, size := e[0:], e[4:]
		if flags == flagLeaf {
			position, size = e[4:], e[8:]
		}
		key, err := part(b, at, uint64(w.order.Uint32(position)), uint64(w.order.Uint32(size)))
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(keys[i-1], key) >= 0 || bytes.Compare(key, least) < 0 || most != nil && bytes.Compare(key, most) >= 0 {
			return fmt.Errorf("key %d is out of order", i)
		}
		keys[i] = key
	}
	for i, key := range keys {
		at := headerSize + i*elementSize
		e := b[at : at+elementSize]
		if flags == flagBranch {
			next := most
			if i+1 < len(keys) {
				next = keys[i+1]
			}
			if err := w.page(w.order.Uint64(e[8:]), key, next, depth+1); err != nil {
				return err
			}
			continue
		}
		position, keySize, valueSize := uint64(w.order.Uint32(e[4:])), uint64(w.order.Uint32(e[8:])), uint64(w.order.Uint32(e[12:]))
		value, err := part(b, at, position+keySize, valueSize)
		if err != nil {
			return err
		}
		switch w.order.Uint32(e) {
		case 0:
		case elementBucket:
			if err := w.bucket(value, depth+1); err != nil {
				return fmt.Errorf("bucket %q: %w", key, err)
			}
		default:
			return fmt.Errorf("element %d has flags %#x", i, w.order.Uint32(e))
		}
	}
	return nil
}

func (w *walk) bucket(value []byte, depth int) error {
	if len(value) < bucketSize {
		return fmt.Errorf("%d bytes", len(value))
	}
	if root := w.order.Uint64(value); root != 0 {
		return w.page(root, nil, nil, depth)
	}
	inline := value[bucketSize:]
	if len(inline) < headerSize {
		return fmt.Errorf("%d bytes", len(value))
	}
	return w.elements(inline, w.order.Uint16(inline[8:]), w.order.Uint16(inline[10:]), nil, nil, depth)
}

// part is what an element at a place of a page speaks of.
func part(page []byte, at int, position, size uint64) ([]byte, error) {
	from := uint64(at) + position
	if from > uint64(len(page)) || size > uint64(len(page))-from {
		return nil, fmt.Errorf("%d bytes at %d of %d", size, from, len(page))
	}
	return page[from : from+size], nil
}

// free checks that the pages listed as free are not in use.
func (w *walk) free() error {
	b, flags, count, err := w.read(w.freelist)
	if err != nil {
		return fmt.Errorf("freelist: %w", err)
	}
	if flags != flagFreelist {
		return fmt.Errorf("freelist: flags %#x", flags)
	}
	list, n := b[headerSize:], uint64(count)
	if count == 0xffff { // then the first number is how many there are
		n, list = w.order.Uint64(list), list[8:]
	}
	if n > uint64(len(list))/8 {
		return fmt.Errorf("freelist: %d pages in %d bytes", n, len(list))
	}
	last := uint64(0)
	for i := range n {
		p := w.order.Uint64(list[8*i:])
		if p <= last && i > 0 || p < 2 || p >= w.pages || w.isUsed(p) {
			return fmt.Errorf("freelist: page %d is listed as free", p)
		}
		last = p
	}
	return nil
}
