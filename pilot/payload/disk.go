package payload

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"floe/protocol"
)

// diskWatch adds up what an attempt's directories and its log hold. Files that are
// open but removed are not seen.
type diskWatch struct {
	dirs       []string
	log        **Log // nil pointers count nothing
	last, peak protocol.ByteSize
}

// measure walks the directories and returns how long that took.
func (d *diskWatch) measure() time.Duration {
	began := time.Now()
	type inode struct{ dev, ino uint64 } // Dev is narrower on some systems
	seen := make(map[inode]bool)         // hard links count once
	sum := protocol.ByteSize(0)
	for _, dir := range d.dirs {
		// What vanishes during the walk, or may not be read, counts nothing.
		_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // see above
			}
			info, err := e.Info()
			if err != nil {
				return nil //nolint:nilerr // see above
			}
			s, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				return nil
			}
			of := inode{uint64(s.Dev), s.Ino} //nolint:unconvert // not on every system
			if seen[of] {
				return nil
			}
			if s.Nlink > 1 && !e.IsDir() {
				seen[of] = true
			}
			sum += protocol.ByteSize(s.Blocks) * 512
			return nil
		})
	}
	if d.log != nil && *d.log != nil {
		sum += (*d.log).blocks()
	}
	d.last, d.peak = sum, max(d.peak, sum)
	return time.Since(began)
}
