//go:build unix

package blob

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// diskSpace returns how many bytes of dir's file system are free for this user and
// how many there are.
func diskSpace(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("disk space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil //nolint:unconvert // Bsize is narrower on some systems
}
