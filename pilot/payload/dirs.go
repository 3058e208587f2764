package payload

import (
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"floe/pilot/payload/session"
	"floe/protocol"
)

// maxKeptDirs is how many directories wait to be used again: those of attempts that
// end at about the same time.
const maxKeptDirs = 64

// Dirs makes directories of attempts, and uses those again that an attempt of the same
// dataset has left as it found them. To make and remove four directories for each costs
// more than to start a process; a directory that a payload has handed to somebody
// is of use only to its own dataset. The zero value keeps none yet; it may be used by
// many attempts at once.
type Dirs struct {
	mu   sync.Mutex
	kept []keptDir // guarded by mu; oldest first
}

type keptDir struct {
	dir     Dir
	socket  *session.Socket
	dataset protocol.DatasetID
}

// Make is MakeDir for an attempt of a dataset. With the directory comes the socket that
// Options.Socket takes. A nil Dirs keeps nothing.
func (k *Dirs) Make(path string, dataset protocol.DatasetID) (Dir, *session.Socket, error) {
	if k == nil {
		d, err := MakeDir(path)
		return d, nil, err
	}
	if old := k.take(dataset); old.dir != "" {
		if abs, err := filepath.Abs(path); err == nil && os.Rename(string(old.dir), abs) == nil {
			return Dir(abs), old.socket, nil
		}
		_ = old.remove() // else it goes with the pilot's own directory
	}
	d, err := MakeDir(path)
	return d, new(session.Socket), err
}

func (d *keptDir) remove() error {
	d.socket.Close()
	return d.dir.Remove()
}

func (k *Dirs) take(dataset protocol.DatasetID) (d keptDir) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.kept, func(d keptDir) bool { return d.dataset == dataset })
	if i >= 0 {
		d = k.kept[i]
		k.kept = slices.Delete(k.kept, i, i+1)
	}
	return d
}

// Remove keeps the directory of an attempt of which no process is left, if it is as
// MakeDir made it, and deletes it otherwise.
func (k *Dirs) Remove(d Dir, socket *session.Socket, dataset protocol.DatasetID) error {
	old := keptDir{d, socket, dataset}
	if k == nil || !d.isAsMade(socket) {
		return old.remove()
	}
	k.mu.Lock()
	k.kept = append(k.kept, old)
	full := len(k.kept) > maxKeptDirs
	if full {
		old = k.kept[0]
		k.kept = slices.Delete(k.kept, 0, 1)
	}
	k.mu.Unlock()
	if full {
		return old.remove()
	}
	return nil
}

// Close ends what waits to be used again.
func (k *Dirs) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.kept {
		k.kept[i].socket.Close()
	}
	k.kept = nil
}

// isAsMade tells whether the directory holds nothing but what MakeDir made, its socket,
// and a log, which it empties. No link is followed.
func (d Dir) isAsMade(socket *session.Socket) bool {
	root, names, ok := readDir(unix.AT_FDCWD, string(d))
	if !ok {
		return false
	}
	defer unix.Close(root)
	empty := 0
	for _, name := range names {
		switch name {
		case workName, tempName, homeName:
			deep := 0
			if name == tempName {
				deep = maxPoints
			}
			if !isEmpty(root, name, deep) {
				return false
			}
			empty++
		case logName:
			if !emptyFile(root, name) {
				return false
			}
		case session.Name:
			var st unix.Stat_t
			if unix.Fstatat(root, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || !socket.Is(&st) {
				return false
			}
		default:
			return false
		}
	}
	return empty == 3
}

// maxPoints is how deep the directories are that isolation made in the place of /tmp, to
// show there what lies in the node's: the attempt's own directory, for one.
const maxPoints = 32

// isEmpty tells whether a directory holds nothing, or, down to a depth, nothing but
// directories, which it removes.
func isEmpty(at int, name string, deep int) bool {
	fd, names, ok := readDir(at, name)
	if !ok {
		return false
	}
	defer unix.Close(fd)
	for _, n := range names {
		if deep == 0 || !isEmpty(fd, n, deep-1) || unix.Unlinkat(fd, n, unix.AT_REMOVEDIR) != nil {
			return false
		}
	}
	return true
}

// maxDirBytes is what a directory takes that never held much.
const maxDirBytes = 16 << 10

// readDir opens a directory and lists it, if it is this user's, nobody else's, and
// small.
func readDir(at int, name string) (fd int, names []string, ok bool) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, nil, false
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Mode == unix.S_IFDIR|0o700 && int(st.Uid) == os.Geteuid() && st.Blocks*512 <= maxDirBytes {
		buf := make([]byte, 2048)
		for {
			n, err := unix.ReadDirent(fd, buf)
			if err != nil || len(names) > 5 {
				break
			}
			if n == 0 {
				return fd, names, true
			}
			_, _, names = unix.ParseDirent(buf[:n], -1, names)
		}
	}
	_ = unix.Close(fd)
	return -1, nil, false
}

// emptyFile cuts a file to nothing, if it is a regular one of this user's, under no
// other name.
func emptyFile(at int, name string) bool {
	fd, err := unix.Openat(at, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode == unix.S_IFREG|0o600 && st.Nlink == 1 && int(st.Uid) == os.Geteuid() &&
		unix.Ftruncate(fd, 0) == nil
}
