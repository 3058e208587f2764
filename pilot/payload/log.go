package payload

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"floe/protocol"
)

// DefaultLogKeep is how much of a log's beginning, and of its end, is kept.
const DefaultLogKeep = 4 << 20

// Log is the file that everything a payload prints goes to. Payloads write to
// it directly; the pilot adds banners, cuts its middle out when it grows, and
// reads its tail while it runs. It may be used by several goroutines at once.
//
// A position counts every byte ever written. The middle is cut by giving its
// blocks back to the file system, so positions in the file stay true; where the
// file system cannot, the file is rewritten and positions are shifted.
type Log struct {
	path string
	keep int64

	mu    sync.Mutex
	file  *os.File
	cut   int64 // position after the cut, at least keep; bytes from keep to here are gone
	shift int64 // position − place in the file, beyond keep
	whole bool  // the file system cannot punch holes
}

// OpenLog opens or continues the log at path; keep is how much of its beginning
// and of its end is kept, and 0 is DefaultLogKeep.
func OpenLog(path string, keep int64) (*Log, error) {
	if keep <= 0 {
		keep = DefaultLogKeep
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &Log{path: path, keep: keep, file: f, cut: keep}, nil
}

// Close closes the pilot's own descriptor. Readers that started before fail.
func (l *Log) Close() error { return l.file.Close() }

// Printf adds a line of the pilot's own.
func (l *Log) Printf(format string, args ...any) {
	// A full disk loses the banner; the payload's own failure tells of it.
	_, _ = fmt.Fprintf(l.file, bannerMark+format+"\n", args...)
}

const bannerMark = "=== floe: "

// Size is how many bytes were ever written.
func (l *Log) Size() (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sizeLocked()
}

func (l *Log) sizeLocked() (int64, error) {
	info, err := l.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("log: %w", err)
	}
	size := info.Size()
	if size > l.keep {
		size += l.shift
	}
	return size, nil
}

// blocks is what the log takes on disk.
func (l *Log) blocks() protocol.ByteSize {
	info, err := l.file.Stat()
	if err != nil {
		return 0
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return protocol.ByteSize(info.Size())
	}
	return protocol.ByteSize(s.Blocks) * 512
}

// Trim cuts the middle out if the log has outgrown twice what is kept. It is
// cheap when it has not.
func (l *Log) Trim() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, err := l.sizeLocked()
	if err != nil || size-l.cut <= 2*l.keep {
		return err
	}
	to := size - l.keep
	if !l.whole {
		err := unix.Fallocate(int(l.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, l.cut, to-l.cut)
		if err == nil {
			l.cut = to
			return nil
		}
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
			return fmt.Errorf("trim log: %w", err)
		}
		l.whole = true
	}
	return l.rewriteLocked(size, to)
}

// rewriteLocked keeps the part from position to, by cutting the file after its
// beginning and appending that part again. What the payload writes between
// reading and cutting is lost with the middle.
func (l *Log) rewriteLocked(size, to int64) error {
	tail := make([]byte, size-to)
	n, err := l.file.ReadAt(tail, to-l.shift)
	if err != nil && err != io.EOF {
		return fmt.Errorf("trim log: %w", err)
	}
	if err := l.file.Truncate(l.keep); err != nil {
		return fmt.Errorf("trim log: %w", err)
	}
	if _, err := l.file.Write(tail[:n]); err != nil {
		return fmt.Errorf("trim log: %w", err)
	}
	l.cut, l.shift = to, to-l.keep
	return nil
}

// ReadFrom returns at most limit bytes from the first kept position at or after
// offset, and that position. It returns no bytes at the end of what was written.
func (l *Log) ReadFrom(offset int64, limit int) (data []byte, at int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at = max(offset, 0)
	place := at
	if at >= l.keep {
		if l.cut > l.keep {
			at = max(at, l.cut)
		}
		place = at - l.shift
	} else if l.cut > l.keep {
		limit = int(min(int64(limit), l.keep-at))
	}
	data = make([]byte, limit)
	n, err := l.file.ReadAt(data, place)
	if err == io.EOF {
		err = nil
	}
	if err != nil {
		return nil, at, fmt.Errorf("read log: %w", err)
	}
	return data[:n], at, nil
}

// Tail returns the last bytes, at most limit.
func (l *Log) Tail(limit int) []byte {
	size, err := l.Size()
	if err != nil {
		return nil
	}
	data, _, err := l.ReadFrom(max(0, size-int64(limit)), limit)
	if err != nil {
		return nil
	}
	return data
}

// lastLines is the payload's own last words, for evidence: at most n lines,
// without banners and control characters.
func (l *Log) lastLines(n int) string {
	var lines []string
	for line := range strings.SplitSeq(string(l.Tail(4<<10)), "\n") {
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' || r == utf8.RuneError || r == 0x7f {
				return -1
			}
			return r
		}, line))
		if line != "" && !strings.HasPrefix(line, bannerMark) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], " ⏎ ")
}

// Seal makes the file at the log's path what is to be stored: beginning, a line
// that says how much is missing, end; also where a payload has put something else in
// its place. Nothing writes to it any more. Readers of this Log go on with the
// positions they know.
func (l *Log) Seal() (protocol.LogRecord, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, err := l.sizeLocked()
	if err != nil {
		return protocol.LogRecord{}, err
	}
	// Whatever exceeds beginning and end goes, even below the slack of Trim.
	to := max(l.cut, size-l.keep)
	if size <= 2*l.keep && l.cut == l.keep {
		to = l.keep
	}
	record := protocol.LogRecord{Cut: protocol.ByteSize(to - l.keep)}
	hash := sha256.New()
	if record.Cut == 0 && l.isInPlace() {
		n, err := io.Copy(hash, io.NewSectionReader(l.file, 0, size))
		if err != nil {
			return record, fmt.Errorf("seal log: %w", err)
		}
		record.Size, record.Digest = protocol.ByteSize(n), protocol.Digest(hash.Sum(nil))
		return record, nil
	}
	_ = os.Chmod(filepath.Dir(l.path), 0o700) // a payload may have closed it
	part := l.path + ".sealed"
	err = errors.Join(os.RemoveAll(part), os.RemoveAll(l.path))
	var sealed *os.File
	if err == nil {
		sealed, err = os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return record, fmt.Errorf("seal log: %w", err)
	}
	defer sealed.Close()
	var whole io.Reader = io.NewSectionReader(l.file, 0, size)
	if record.Cut > 0 {
		whole = io.MultiReader(
			io.NewSectionReader(l.file, 0, l.keep),
			strings.NewReader(fmt.Sprintf("\n%s%d bytes left out here\n", bannerMark, record.Cut)),
			io.NewSectionReader(l.file, to-l.shift, size-to))
	}
	n, err := io.Copy(io.MultiWriter(sealed, hash), whole)
	if err == nil {
		err = os.Rename(part, l.path)
	}
	if err != nil {
		return record, fmt.Errorf("seal log: %w", err)
	}
	record.Size, record.Digest = protocol.ByteSize(n), protocol.Digest(hash.Sum(nil))
	return record, nil
}

// isInPlace tells whether the file at the log's path is the log.
func (l *Log) isInPlace() bool {
	here, err := os.Lstat(l.path)
	if err != nil {
		return false
	}
	own, err := l.file.Stat()
	return err == nil && os.SameFile(here, own)
}
