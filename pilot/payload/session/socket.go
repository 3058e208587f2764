package session

import (
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is what one session after another uses, in the same directory: to bind one
// for each attempt costs more than all that most payloads say. The zero value is none
// yet. It belongs to one session at a time.
type Socket struct {
	listener *net.UnixListener
	dev, ino uint64 // of its name
}

// Name is the socket's, below Config.Dir.
const Name = socketName

// bound notes what a session has made.
func (s *Socket) bound(l *net.UnixListener, file string) {
	info, err := os.Lstat(file)
	if err != nil {
		return // it is made anew the next time
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.listener, s.dev, s.ino = l, uint64(st.Dev), st.Ino //nolint:unconvert // not on every system
	}
}

// Is tells whether a file is the socket under its name: a payload may have put another
// in its place, or given it one more.
func (s *Socket) Is(st *unix.Stat_t) bool {
	return s != nil && s.listener != nil && st.Mode == unix.S_IFSOCK|0o600 && st.Nlink == 1 && uint64(st.Dev) == s.dev && st.Ino == s.ino //nolint:unconvert // not on every system
}

// sendAway closes the connections that nobody has taken: what they say is not for the
// next session.
func (s *Socket) sendAway() {
	if s.listener == nil {
		return
	}
	raw, err := s.listener.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			for {
				c, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
				if err != nil {
					return // there is none, or none to be had
				}
				_ = unix.Close(c)
			}
		})
	}
	if err == nil {
		err = s.listener.SetDeadline(time.Time{})
	}
	if err != nil {
		s.Close()
	}
}

// Close ends it; its file goes with its directory.
func (s *Socket) Close() {
	if s != nil && s.listener != nil {
		_ = s.listener.Close()
		s.listener = nil
	}
}
