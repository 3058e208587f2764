package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"floe/protocol"
)

// mostQuarantined is how many bad entries are kept for a person to look at. They
// count in the quota, and are the first to go when room is needed.
const mostQuarantined = 8

// quarantine moves a bad entry aside; what cannot be moved is removed. use is what
// its users lock.
func (s *Store) quarantine(d protocol.Digest, use string) {
	path := use
	if filepath.Base(use) == aboutName {
		path = filepath.Dir(use)
	}
	s.forget(d)
	to := s.path("quarantine", fmt.Sprintf("%s-%d", d.Hex(), time.Now().UnixNano()))
	err := os.Rename(path, to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return // another process was first
	case err != nil:
		s.logger.Error("bad cache entry not moved to quarantine", "path", path, "err", err)
		s.remove(path)
	}
	s.stats.quarantined.Add(1)
}

// quarantined lists what lies in quarantine, oldest first, and removes what is too
// much. The room is held.
func (s *Store) quarantined() ([]kept, error) {
	left, err := os.ReadDir(s.path("quarantine"))
	if err != nil {
		return nil, err
	}
	var all []kept
	sizes := map[string]protocol.ByteSize{}
	for _, e := range left {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		path := s.path("quarantine", e.Name())
		size, known := s.room.sizes[e.Name()]
		if !known {
			size = sizeOnDisk(path)
		}
		sizes[e.Name()] = size
		all = append(all, kept{path: path, size: size, used: whenQuarantined(info)})
	}
	s.room.sizes = sizes
	slices.SortFunc(all, func(a, b kept) int { return a.used.Compare(b.used) })
	for len(all) > mostQuarantined {
		s.remove(all[0].path)
		all = all[1:]
	}
	return all, nil
}

// whenQuarantined reads the time from the name: the file has that of its last use.
func whenQuarantined(info fs.FileInfo) time.Time {
	var digits string
	var nanos int64
	if _, err := fmt.Sscanf(info.Name(), "%64s-%d", &digits, &nanos); err == nil {
		return time.Unix(0, nanos)
	}
	return info.ModTime()
}

// sizeOnDisk is what a file or tree takes; what cannot be read is not counted.
func sizeOnDisk(path string) (total protocol.ByteSize) {
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it is not counted
		}
		if info, err := d.Info(); err == nil {
			total += inBlocks(max(protocol.ByteSize(info.Size()), 1))
		}
		return nil
	})
	return total
}
