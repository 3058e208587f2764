package hardware

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"floe/protocol"
)

func TestWhatAQuotaLeaves(t *testing.T) {
	for _, x := range []struct {
		name  string
		quota diskQuota
		left  protocol.ByteSize
		bound bool
	}{
		{"no limits", diskQuota{Space: 5000}, 0, false},
		{"a hard limit", diskQuota{BlockHard: 10, Space: 1024}, 9 << 10, true},
		{"a soft limit below it", diskQuota{BlockHard: 10, BlockSoft: 4, Space: 1024}, 3 << 10, true},
		{"a soft limit alone", diskQuota{BlockSoft: 4}, 4 << 10, true},
		{"over the soft limit", diskQuota{BlockHard: 10, BlockSoft: 4, Space: 5 << 10}, 0, true},
		{"no inode left", diskQuota{BlockHard: 10, InodeHard: 3, Inodes: 3}, 0, true},
		{"inodes left", diskQuota{InodeHard: 3, Inodes: 2}, 0, false},
		{"absurdly large", diskQuota{BlockHard: 1 << 63}, 0, false},
	} {
		if left, bound := x.quota.left(); left != x.left || bound != x.bound {
			t.Errorf("%s: left %v, %v; want %v, %v", x.name, left, bound, x.left, x.bound)
		}
	}
}

// TestFreeOfRealFileSystems asks the kernel, of file systems in memory with few inodes,
// and with a quota.
func TestFreeOfRealFileSystems(t *testing.T) {
	mount := func(t *testing.T, options string) string {
		t.Helper()
		dir := t.TempDir()
		if err := unix.Mount("floe-test", dir, "tmpfs", 0, options); err != nil {
			t.Skipf("mount with %s: %v", options, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		return dir
	}
	t.Run("no inodes", func(t *testing.T) {
		dir := mount(t, "size=1m,nr_inodes=3")
		if free, err := (running{}).Free(dir); err != nil || free != 1<<20 {
			t.Errorf("Free before = %v, %v", free, err)
		}
		for i := range 2 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := (running{}).Free(dir); err == nil || !strings.Contains(err.Error(), "no inodes") {
			t.Errorf("Free of a file system without inodes = %v", err)
		}
	})
	t.Run("a quota", func(t *testing.T) {
		dir := mount(t, "size=8m,usrquota,usrquota_block_hardlimit=1m")
		if os.Getuid() == 0 {
			t.Log("quotas of tmpfs are not root's; what is asked is answered all the same")
		}
		free, err := (running{}).Free(dir)
		if err != nil || free > 8<<20 {
			t.Errorf("Free = %v, %v", free, err)
		}
		if left, ok := quotaLeft(dir); ok && left > 1<<20 {
			t.Errorf("a quota of 1 MiB leaves %v", left)
		}
	})
}
