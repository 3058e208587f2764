package replica

import (
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"floe/protocol"
)

// fsm drives the machine for raft, on raft's one machine goroutine. After a failure
// it answers every entry with the cause and touches the machine no more.
type fsm struct {
	id        protocol.NodeID
	machine   Machine
	fuse      *fuse
	retention *retention
	progress  *progress
	count     *counters

	installs  installGuard
	undefined bool // the last restore failed: the machine holds nothing meaningful
	member    bool // this node was in the last configuration met

	persisted atomic.Uint64 // index of the newest snapshot on disk
}

// applied is the machine's response to one entry.
type applied struct {
	index, term uint64
	answers     []any
}

// Apply gives one entry to the machine; it returns *applied or an error.
func (f *fsm) Apply(log *raft.Log) any {
	if err := f.usable(); err != nil {
		return err
	}
	var answers []any
	err := f.call(fmt.Sprintf("apply entry %d", log.Index), func() (err error) {
		answers, err = f.machine.Apply(log.Index, log.Term, log.Data)
		return err
	})
	if err != nil {
		f.fuse.blow(err)
		return err
	}
	f.installs.progress()
	f.retention.wasApplied(len(log.Data), len(answers))
	f.progress.advance(log.Index)
	return &applied{index: log.Index, term: log.Term, answers: answers}
}

// StoreConfiguration notes that a change of members was passed; with it, progress
// covers every kind of entry that can follow a barrier.
func (f *fsm) StoreConfiguration(index uint64, c raft.Configuration) {
	f.progress.advance(index)
	f.met(c)
}

// met stops a node that was a member and no longer is: it has nothing more to hear.
// Older configurations, which a new member meets first, do not list it yet.
func (f *fsm) met(c raft.Configuration) {
	was := f.member
	f.member = slices.ContainsFunc(c.Servers, func(s raft.Server) bool { return s.ID == raft.ServerID(f.id) })
	if was && !f.member {
		f.fuse.blow(ErrRemoved)
	}
}

// Snapshot captures the machine.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.usable(); err != nil {
		return nil, err
	}
	var s Snapshot
	err := f.call("capture snapshot", func() (err error) { s, err = f.machine.Snapshot(); return err })
	if err != nil {
		return nil, err // nothing is lost: the log stays until a later attempt succeeds
	}
	f.retention.capture()
	return &sealedSnapshot{Snapshot: s, index: f.progress.now(), persisted: &f.persisted}, nil
}

// Restore replaces the machine's state. Bytes reach the machine after raft's CRC
// matched; our seal is checked at the end of the stream. After a failure raft offers
// another snapshot: an older one at start, the leader's again later.
func (f *fsm) Restore(source io.ReadCloser) error {
	defer source.Close()
	meta := snapshotMeta(source)
	if err := f.installs.saw(meta.Index); err != nil {
		f.fuse.blow(err)
		return err
	}
	f.count.installs.Add(1)
	err := f.call("restore snapshot", func() error {
		body := newSealReader(source)
		if err := f.machine.Restore(body); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, body)
		return err
	})
	f.undefined = err != nil
	if err == nil {
		f.progress.advance(meta.Index)
		f.persisted.Store(meta.Index)
		f.met(meta.Configuration)
	}
	return err
}

// usable refuses to touch a machine that failed.
func (f *fsm) usable() error {
	if f.undefined {
		f.fuse.blow(fmt.Errorf("%w: its last restore failed", ErrMachine))
	}
	return f.fuse.err()
}

// call runs a method of the machine; a panic in it becomes an error with its stack.
func (f *fsm) call(what string, method func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			err = fmt.Errorf("%w: %s: %w", ErrMachine, what, err)
		}
	}()
	return method()
}
