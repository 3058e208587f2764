package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"floe/protocol"

	"golang.org/x/sys/unix"
)

// room is what this process has reserved of the directory's quota.
type room struct {
	// turn holds one word of whoever in this process arranges room; the file lock "room"
	// keeps other processes out. It is no mutex because who has it may wait for that.
	turn     chan struct{}
	session  *locked                      // nil before the first reservation; guarded by turn
	id       string                       // of the session; guarded by turn
	reserved protocol.ByteSize            // by all of this process's reservations; guarded by turn
	sizes    map[string]protocol.ByteSize // of what lies in quarantine; guarded by turn
}

// reservation is room for something that is being written. It is in one goroutine's
// hands.
type reservation struct {
	store   *Store
	granted protocol.ByteSize
}

func (s *Store) reservation() *reservation { return &reservation{store: s} }

// Reservations that grow do so in steps, of a sixteenth of a small quota.
const (
	largeStep = 64 * protocol.MB
	smallStep = protocol.MB
)

// take reserves room for what is known to be n bytes.
func (r *reservation) take(ctx context.Context, n protocol.ByteSize) error {
	if n = inBlocks(n); n <= r.granted {
		return nil
	}
	if err := r.store.reserve(ctx, n-r.granted); err != nil {
		return err
	}
	r.granted = n
	return nil
}

// grow reserves room for at least n bytes, and some more for what will follow.
func (r *reservation) grow(ctx context.Context, n protocol.ByteSize) error {
	if n <= r.granted {
		return nil
	}
	step := largeStep
	if q := r.store.quota; q > 0 {
		step = max(min(step, q/16), min(smallStep, q/4))
	}
	err := r.take(ctx, max(n, r.granted+step))
	if errors.Is(err, ErrNoSpace) {
		return r.take(ctx, n) // no more than that is left
	}
	return err
}

// release gives the room back: what was written is gone, or counts by itself.
func (r *reservation) release() {
	if r.granted == 0 {
		return
	}
	s := r.store
	s.room.turn <- struct{}{}
	defer func() { <-s.room.turn }()
	s.room.reserved -= r.granted
	r.granted = 0
	if s.room.session == nil {
		return // the store was closed meanwhile
	}
	if err := s.sayReserved(s.room.reserved); err != nil {
		s.logger.Warn("room in the cache stays reserved", "err", err)
	}
}

// blockBytes is what a file takes at least. Source: blocks of ext4, xfs, NFS clients.
const blockBytes = 4096

func inBlocks(n protocol.ByteSize) protocol.ByteSize {
	return (n + blockBytes - 1) / blockBytes * blockBytes
}

// inRoom runs do while no other process reserves or evicts.
func (s *Store) inRoom(ctx context.Context, do func() error) error {
	select {
	case s.room.turn <- struct{}{}:
		defer func() { <-s.room.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	l, err := waitLock(ctx, s.path("room"))
	if err != nil {
		return diskError(err)
	}
	defer l.Close()
	return do()
}

// reserve makes need more bytes this process's, and evicts entries for it.
func (s *Store) reserve(ctx context.Context, need protocol.ByteSize) error {
	return s.inRoom(ctx, func() error {
		if err := s.openSession(); err != nil {
			return diskError(err)
		}
		others, err := s.sweep()
		if err != nil {
			return err
		}
		if err := s.makeRoom(others+s.room.reserved+need, need); err != nil {
			return err
		}
		if err := s.sayReserved(s.room.reserved + need); err != nil {
			return diskError(err)
		}
		s.room.reserved += need
		return nil
	})
}

// openSession makes this process known; the room is held.
func (s *Store) openSession() error {
	if s.room.session != nil && s.room.session.stands() {
		return nil
	}
	if s.room.session != nil {
		s.room.session.Close() // somebody removed it from under this process
	}
	s.room.id = fmt.Sprintf("%d-%016x", os.Getpid(), rand.Uint64())
	session, err := tryLock(s.path("sessions", s.room.id), alone, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	s.room.session = session
	return os.Mkdir(s.path("tmp", s.room.id), 0o700)
}

// sayReserved writes what this process has reserved where others read it.
func (s *Store) sayReserved(n protocol.ByteSize) error {
	_, err := s.room.session.WriteAt(fmt.Appendf(nil, "%020d\n", n), 0)
	return err
}

// workDir is where this process writes.
func (s *Store) workDir(ctx context.Context) (dir string, err error) {
	err = s.inRoom(ctx, func() error {
		err := s.openSession()
		dir = s.path("tmp", s.room.id)
		return err
	})
	return dir, err
}

// sweep removes what dead processes left, and sums up what others that live have
// reserved. The room is held: no session begins meanwhile.
func (s *Store) sweep() (reserved protocol.ByteSize, err error) {
	sessions, err := os.ReadDir(s.path("sessions"))
	if err != nil {
		return 0, err
	}
	living := map[string]bool{}
	for _, e := range sessions {
		if e.Name() == s.room.id {
			living[e.Name()] = true
			continue
		}
		path := s.path("sessions", e.Name())
		dead, err := tryLock(path, alone, os.O_RDWR)
		switch {
		case errors.Is(err, os.ErrNotExist): // it has just ended
		case err != nil:
			return 0, err
		case dead != nil:
			s.remove(s.path("tmp", e.Name()))
			dead.drop()
		default:
			living[e.Name()] = true
			text, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // it may just be ending
				return 0, err
			}
			n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // nothing yet is nothing reserved
			reserved += protocol.ByteSize(max(n, 0))
		}
	}
	left, err := os.ReadDir(s.path("tmp"))
	if err != nil {
		return 0, err
	}
	for _, e := range left {
		if !living[e.Name()] {
			s.remove(s.path("tmp", e.Name()))
		}
	}
	return reserved, nil
}

// tidy removes what dead processes left.
func (s *Store) tidy() error {
	s.forgetNames()
	return s.inRoom(context.Background(), func() error {
		_, err := s.sweep()
		return err
	})
}

// Close ends this process's session. Entries in use stay so until they are released.
// A store that is not closed ends with its process.
func (s *Store) Close() {
	s.room.turn <- struct{}{}
	defer func() { <-s.room.turn }()
	if s.room.session == nil {
		return
	}
	s.remove(s.path("tmp", s.room.id))
	s.room.session.drop()
	s.room.session, s.room.id = nil, ""
}

// A disk is not filled: a twentieth of it is left, at most 1 GB.
const (
	keptFreePart = 20
	keptFreeMost = protocol.GB
)

// makeRoom evicts what nobody uses until the directory fits its quota with what is
// reserved, and the disk has need bytes and some left. The room is held.
func (s *Store) makeRoom(reserved, need protocol.ByteSize) error {
	all, err := s.entries()
	if err != nil {
		return err
	}
	total := reserved
	for _, e := range all {
		total += e.size
	}
	fits := func() (bool, error) {
		if s.quota > 0 && total > s.quota {
			return false, nil
		}
		free, err := s.freeAfter(need)
		return free >= 0, err
	}
	for _, e := range all {
		ok, err := fits()
		if ok || err != nil {
			return err
		}
		if s.evict(&e) {
			total -= e.size
		}
	}
	ok, err := fits()
	switch {
	case err != nil:
		return err
	case ok:
		return nil
	case s.quota > 0 && total > s.quota:
		return fmt.Errorf("%w: the quota is %v; entries in use hold %v, %v are reserved or asked for", ErrNoSpace, s.quota, total-reserved, reserved)
	}
	return fmt.Errorf("%w: the disk has less than %v left besides what is kept free", ErrNoSpace, need)
}

// freeAfter is what the disk has left when need more bytes are written, less what is
// kept free; below 0 it is too little.
func (s *Store) freeAfter(need protocol.ByteSize) (protocol.ByteSize, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, err
	}
	unit := protocol.ByteSize(st.Bsize)
	kept := min(protocol.ByteSize(st.Blocks)*unit/keptFreePart, keptFreeMost)
	return protocol.ByteSize(st.Bavail)*unit - kept - need, nil
}
