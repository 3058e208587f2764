package hardware

import (
	"errors"
	"os"
	"syscall"
	"unsafe" // what quotactl fills

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/unix"

	"floe/protocol"
)

// running asks the kernel this process runs on.
type running struct{}

func (running) Affinity() (int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, err
	}
	return set.Count(), nil
}

func (running) AddressSpace() (protocol.ByteSize, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_AS, &l); err != nil {
		return 0, err
	}
	if l.Cur > uint64(protocol.MaxByteSize) {
		return 0, nil
	}
	return protocol.ByteSize(l.Cur), nil
}

// Free is what this user can still write to a directory's file system, quotas included.
func Free(dir string) (protocol.ByteSize, error) { return running{}.Free(dir) }

// Quota is what this user's quota leaves of a directory's file system; false where none
// bounds it, or the kernel does not say.
func Quota(dir string) (protocol.ByteSize, bool) { return quotaLeft(dir) }

func (running) Free(dir string) (protocol.ByteSize, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	if s.Files > 0 && s.Ffree == 0 {
		return 0, errors.New("no inodes are free: no file can be made, whatever space there is")
	}
	free := protocol.ByteSize(s.Bavail) * protocol.ByteSize(s.Bsize)
	if left, ok := quotaLeft(dir); ok {
		free = min(free, left)
	}
	return free, nil
}

// diskQuota is struct if_dqblk. Source: linux/quota.h.
type diskQuota struct {
	BlockHard, BlockSoft, Space  uint64
	InodeHard, InodeSoft, Inodes uint64
	BlockTime, InodeTime         uint64
	Valid, _                     uint32
}

// Of quotactl. Source: linux/quota.h: Q_GETQUOTA of a user's quota, whose blocks have
// 1024 bytes whatever the file system's do.
const (
	getUserQuota = 0x800007 << 8
	quotaBlock   = 1 << 10
)

// quotaLeft is what the quota of this user leaves of a directory's file system, nothing
// where it leaves no inode; not where there is none, as for most.
func quotaLeft(dir string) (protocol.ByteSize, bool) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	var q diskQuota
	// By descriptor, since Linux 5.14: before, the device of the mount would have to be known.
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), getUserQuota, uintptr(os.Getuid()), uintptr(unsafe.Pointer(&q)), 0, 0)
	if errno != 0 {
		return 0, false
	}
	return q.left()
}

// left is what a quota leaves, and whether it bounds anything. Over the soft limit a
// user may write for some days; that is not counted on.
func (q *diskQuota) left() (protocol.ByteSize, bool) {
	least := func(hard, soft uint64) uint64 {
		if hard == 0 || soft > 0 && soft < hard {
			return soft
		}
		return hard
	}
	blocks, inodes := least(q.BlockHard, q.BlockSoft), least(q.InodeHard, q.InodeSoft)
	if inodes > 0 && q.Inodes >= inodes {
		return 0, true
	}
	if blocks == 0 || blocks > uint64(protocol.MaxByteSize)/quotaBlock {
		return 0, false
	}
	return protocol.ByteSize(blocks*quotaBlock - min(q.Space, blocks*quotaBlock)), true
}

func (running) Level() int { return cpuid.CPU.X64Level() }

func (running) Arch() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Machine[:])
}

func (running) Stat(path string) error {
	// Opening makes an automounter mount; a plain stat may not.
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = d.Readdirnames(1)
	d.Close()
	return err
}
