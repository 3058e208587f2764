package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocks: the directory's file system keeps no locks, so that processes cannot
// share it.
var ErrLocks = errors.New("file locks do not work")

// How a file is locked. Both are kernel locks (flock): they end with the process,
// however it ends.
const (
	shared = unix.LOCK_SH
	alone  = unix.LOCK_EX
)

// lockPoll is how often a process that waits for another looks again.
const lockPoll = 20 * time.Millisecond

// locked is an open file under lock. Closing it ends the lock.
type locked struct {
	*os.File
	path string // where it stands
}

// stands tells whether it is still the file at its path.
func (l *locked) stands() bool { return same(l.File, l.path) }

// tryLock opens and locks the file at path; nil says that another has it. The file
// that was locked is the one that stands at path: whoever holds it alone may remove
// or move it.
func tryLock(path string, how, flags int) (*locked, error) {
	for {
		f, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock(f, how); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, nil
			}
			return nil, err
		}
		if l := (&locked{f, path}); l.stands() {
			return l, nil
		}
		f.Close()
		if flags&os.O_CREATE == 0 {
			return nil, fs.ErrNotExist // it was moved away meanwhile
		}
	}
}

// waitLock is tryLock until it is had, or ctx ends.
func waitLock(ctx context.Context, path string) (*locked, error) {
	for {
		l, err := tryLock(path, alone, os.O_RDWR|os.O_CREATE)
		if l != nil || err != nil {
			return l, err
		}
		if err := pause(ctx, lockPoll); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flock does not wait.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}

// same tells whether an open file still stands at path.
func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// drop removes the lock file and ends the lock.
func (l *locked) drop() {
	_ = os.Remove(l.path) // one that stays is used again
	_ = l.Close()         // nothing was written
}

// reach is how far locks in a directory reach.
type reach int

const (
	everywhere reach = iota // to all that share the directory
	thisNode                // to processes of this node only
)

// reachOf tries a lock in dir, and finds out whether other nodes see it.
func reachOf(dir string) (reach, error) {
	probe, err := os.CreateTemp(dir, "probe-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(probe.Name())
	defer probe.Close()
	if err := flock(probe, alone); err != nil {
		return 0, fmt.Errorf("%w in %s: %w", ErrLocks, dir, err)
	}
	other, err := tryLock(probe.Name(), alone, os.O_RDWR)
	if err != nil {
		return 0, fmt.Errorf("%w in %s: %w", ErrLocks, dir, err)
	}
	if other != nil {
		other.Close()
		return 0, fmt.Errorf("%w in %s: two hold the same one", ErrLocks, dir)
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return everywhere, nil // not Linux, or no /proc: nothing speaks against it
	}
	defer mounts.Close()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, err
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	for s := bufio.NewScanner(mounts); s.Scan(); {
		if local := localLocks(s.Text(), device); local {
			return thisNode, nil
		}
	}
	return everywhere, nil
}

// localLocks tells whether a line of mountinfo is that of a device, and says that
// locks there stay on the node. Source: nfs(5), mount.lustre(8), mount.cifs(8).
func localLocks(line, device string) bool {
	before, after, ok := strings.Cut(line, " - ")
	head, tail := strings.Fields(before), strings.Fields(after)
	if !ok || len(head) < 6 || len(tail) < 3 || head[2] != device {
		return false
	}
	for option := range strings.SplitSeq(head[5]+","+tail[2], ",") {
		switch tail[0] + " " + option {
		case "nfs nolock", "nfs local_lock=all", "nfs local_lock=flock",
			"nfs4 nolock", "nfs4 local_lock=all", "nfs4 local_lock=flock",
			"lustre localflock", "cifs nobrl", "smb3 nobrl":
			return true
		}
	}
	return false
}

// ofNode is the part of a directory that this node has to itself.
func ofNode(dir string) (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "nodes", filepath.Base("node-"+name)), nil
}
