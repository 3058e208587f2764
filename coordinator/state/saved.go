package state

import (
	"slices"

	"floe/protocol"
)

// saved is what an attempt has saved of a task that is not done, for the next attempt
// to go on from.
type saved struct {
	File protocol.FileRecord `cbor:"1,keyasint"`
	// Parents are the accepted attempts that its attempt has read: of another input,
	// nobody goes on from there.
	Parents []protocol.LeaseID `cbor:"2,keyasint,omitempty"`
}

// savedBy is the checkpoint among the outputs of a report, the last one; nil for none.
func savedBy(outputs []protocol.FileRecord) *protocol.FileRecord {
	for i := len(outputs) - 1; i >= 0; i-- {
		if outputs[i].Type == protocol.FileCheckpoint {
			return &outputs[i]
		}
	}
	return nil
}

// keepSaved notes what an attempt that ended with a verdict has saved, or forgets what
// none will go on from. It returns the file that nobody needs any more, in a list that
// is empty where there is none.
func (d *dataset) keepSaved(l *Lease, verdict protocol.Verdict, file *protocol.FileRecord) (spent []protocol.FileRecord) {
	key := taskKey(uint32(l.Task.Job), l.Task.Task)
	keeps := verdict.KeepsCheckpoint()
	if d.saved.Len() == 0 && (!keeps || file == nil) {
		return nil
	}
	old, known := d.saved.Get(key)
	switch {
	case keeps && file == nil:
		return nil
	case keeps:
		d.saved.Set(key, &saved{File: *file, Parents: l.Parents})
	default:
		d.saved.Delete(key)
	}
	if known && (!keeps || old.File.URL != file.URL) {
		spent = []protocol.FileRecord{old.File}
	}
	return spent
}

// earlier is what an attempt of a task can go on from; nil starts anew.
func (d *dataset) earlier(l *Lease) *protocol.FileRecord {
	if d.saved.Len() == 0 {
		return nil
	}
	s, known := d.saved.Get(taskKey(uint32(l.Task.Job), l.Task.Task))
	if !known || !slices.Equal(s.Parents, l.Parents) {
		return nil
	}
	return &s.File
}

// saved checks that nothing is kept of tasks that are done.
func (a *audit) saved(d *dataset) {
	d.saved.Scan(func(key uint64, s *saved) bool {
		id := keyTask(d.id, key)
		if s.File.Type != protocol.FileCheckpoint || len(s.Parents) != len(d.tasks[id.Task].spec.Parents) {
			a.fault("", "task %v goes on from a %v file, which reads %d attempts", id, s.File.Type, len(s.Parents))
		}
		if d.tasks[id.Task].finished(uint32(id.Job)) {
			a.fault("", "task %v is done and could be gone on with", id)
		}
		return true
	})
}
