package payload

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"floe/pilot/payload/session"
	"floe/protocol"
)

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// TestADirectoryLeftAsItWasIsUsedAgain, by the same dataset, under the name of the next
// attempt, and nothing of the one before is in it.
func TestADirectoryLeftAsItWasIsUsedAgain(t *testing.T) {
	root := t.TempDir()
	var dirs Dirs
	made := func(name string, dataset protocol.DatasetID) Dir {
		t.Helper()
		d, _, err := dirs.Make(filepath.Join(root, name), dataset)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := made("first", 1)
	log, err := OpenLog(first.LogPath(), 0)
	if err != nil {
		t.Fatal(err)
	}
	log.Printf("secret")
	points := filepath.Join(first.Temp(), "scratch", "attempts", "first") // as isolation makes them
	if err := errors.Join(os.MkdirAll(points, 0o700), log.Close(), dirs.Remove(first, nil, 1)); err != nil {
		t.Fatal(err)
	}
	work := inode(t, first.Work())
	if other := made("other", 2); inode(t, other.Work()) == work {
		t.Error("another dataset has it")
	}
	second := made("second", 1)
	if inode(t, second.Work()) != work {
		t.Error("it was not used again")
	}
	if _, err := os.Lstat(string(first)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it has its old name, too: %v", err)
	}
	if left, err := os.ReadDir(second.Temp()); err != nil || len(left) > 0 {
		t.Errorf("its /tmp holds %v, %v", left, err)
	}
	if b, err := os.ReadFile(second.LogPath()); err != nil || len(b) > 0 {
		t.Errorf("the log says %q, %v", b, err)
	}
	if d := made("third", 1); inode(t, d.Work()) == work {
		t.Error("two attempts have it")
	}
	none := (*Dirs)(nil)
	d, _, err := none.Make(filepath.Join(root, "alone"), 1)
	if err = errors.Join(err, none.Remove(d, nil, 1)); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(string(d)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not to be kept is: %v", err)
	}
}

// TestADirectoryThatAPayloadChangedIsNot used again, however it did that.
func TestADirectoryThatAPayloadChangedIsNot(t *testing.T) {
	outside := t.TempDir()
	link := func(place, to string) error { return errors.Join(os.RemoveAll(place), os.Symlink(to, place)) }
	for name, change := range map[string]func(d Dir) error{
		"a file in work": func(d Dir) error { return os.WriteFile(filepath.Join(d.Work(), "x"), nil, 0o600) },
		"a file deep in tmp": func(d Dir) error {
			return errors.Join(os.MkdirAll(filepath.Join(d.Temp(), "a", "b"), 0o700), os.WriteFile(filepath.Join(d.Temp(), "a", "b", "x"), nil, 0o600))
		},
		"a directory in work": func(d Dir) error { return os.Mkdir(filepath.Join(d.Work(), "x"), 0o700) },
		"a hidden file":       func(d Dir) error { return os.WriteFile(filepath.Join(d.Home(), ".x"), nil, 0o600) },
		"a file beside it":    func(d Dir) error { return os.WriteFile(filepath.Join(string(d), "module-1.result"), nil, 0o600) },
		"a socket":            func(d Dir) error { return syscall.Mknod(filepath.Join(d.Temp(), "s"), syscall.S_IFSOCK|0o600, 0) },
		"a directory is gone": func(d Dir) error { return os.Remove(d.Home()) },
		"work is a link":      func(d Dir) error { return link(d.Work(), outside) },
		"the log is a link":   func(d Dir) error { return link(d.LogPath(), filepath.Join(outside, "log")) },
		"the log is a FIFO":   func(d Dir) error { return errors.Join(os.RemoveAll(d.LogPath()), syscall.Mkfifo(d.LogPath(), 0o600)) },
		"the log has two names": func(d Dir) error {
			return os.Link(d.LogPath(), filepath.Join(outside, "second"+strconv.Itoa(os.Getpid())))
		},
		"open to others":     func(d Dir) error { return os.Chmod(d.Work(), 0o777) },
		"closed to its user": func(d Dir) error { return os.Chmod(d.Temp(), 0) },
		"the root is open":   func(d Dir) error { return os.Chmod(string(d), 0o755) },
		"the log is open":    func(d Dir) error { return os.Chmod(d.LogPath(), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			precious := filepath.Join(outside, "log")
			if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			var dirs Dirs
			d, _, err := dirs.Make(filepath.Join(root, "first"), 1)
			if err == nil {
				err = errors.Join(os.WriteFile(d.LogPath(), []byte("log"), 0o600), change(d))
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := dirs.Remove(d, nil, 1); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(string(d)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is kept: %v", err)
			}
			if b, err := os.ReadFile(precious); err != nil || string(b) != "precious" {
				t.Errorf("what a link led to is %q, %v", b, err)
			}
		})
	}
}

// TestASocketIsUsedAgain with its directory, and what was said to one attempt is not
// known to the next.
func TestASocketIsUsedAgain(t *testing.T) {
	root := t.TempDir()
	var dirs Dirs
	defer dirs.Close()
	logger := slog.New(slog.DiscardHandler)
	open := func(name string) (Dir, *session.Socket, *session.Session) {
		t.Helper()
		d, socket, err := dirs.Make(filepath.Join(root, name), 1)
		if err != nil {
			t.Fatal(err)
		}
		s, err := session.Open(session.Config{Dir: string(d), Socket: socket, Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		s.Begin(map[string]any{"attempt": name})
		return d, socket, s
	}
	say := func(path, line string) string {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, line+"\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	d, socket, s := open("first")
	if got := say(s.Path(), "statistic set a 1"); got != "ok\n" {
		t.Fatalf("the first attempt is answered %q", got)
	}
	lasting, err := net.Dial("unix", s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer lasting.Close()
	s.Close()
	if _, err := bufio.NewReader(lasting).ReadString('\n'); err == nil {
		t.Error("a connection to the first attempt goes on")
	}
	node := inode(t, s.Path())
	if err := dirs.Remove(d, socket, 1); err != nil {
		t.Fatal(err)
	}
	d, socket, s = open("second")
	if inode(t, s.Path()) != node {
		t.Error("the second attempt has another socket")
	}
	if got := say(s.Path(), "attempt attempt"); got != "ok second\n" {
		t.Errorf("the second attempt is answered %q", got)
	}
	if said := s.End(); len(said) != 0 {
		t.Errorf("the second attempt is told to have said %v", said)
	}
	s.Close()
	// Another file in the socket's place is not taken for it.
	if err := errors.Join(os.Remove(s.Path()), syscall.Mknod(s.Path(), syscall.S_IFSOCK|0o600, 0), dirs.Remove(d, socket, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(string(d)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory with another socket is kept: %v", err)
	}
}
