package state

import (
	"floe/protocol"
	"floe/protocol/canon"
)

// A task's life is an Acquire and a Report and three to five events. Reading and
// writing them by reflection costs more than applying them, so they do it
// themselves. The field numbers are those of the structs' tags; tests compare with
// the general codec.

// WriteCanon implements canon.Writable.
func (a *Acquire) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Text(1, string(a.Pilot))
	m.Item(2, &a.Free)
	m.Uint(3, uint64(a.Want))
	m.UintIf(4, a.Sequence)
	if a.Ahead != nil {
		m.Item(5, a.Ahead)
	}
}

// ReadCanon implements canon.Readable.
func (a *Acquire) ReadCanon(r *canon.Reader) {
	*a = Acquire{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			a.Pilot = protocol.PilotID(r.Text())
		case 2:
			a.Free.ReadCanon(r)
		case 3:
			a.Want = r.Uint16()
		case 4:
			a.Sequence = r.Uint64()
		case 5:
			a.Ahead = new(protocol.Ahead)
			a.Ahead.ReadCanon(r)
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (r *Report) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Item(1, &r.Lease)
	m.Item(2, &r.Task)
	m.Text(3, string(r.Pilot))
	m.Uint(4, uint64(r.Verdict))
	m.TextIf(5, r.Evidence)
	m.IntIf(6, int64(r.ExitCode))
	m.IntIf(7, int64(r.Signal))
	m.Item(8, &r.Usage)
	canon.ListIf(m, 9, r.Statistics)
	canon.ListIf(m, 10, r.Outputs)
	canon.ListIf(m, 11, r.Modules)
	m.Item(12, &r.Log)
	m.TextIf(13, r.Host)
	m.BoolIf(14, r.Cleaned)
	m.TextIf(15, r.BadInput)
	m.IntIf(16, r.StartedUnix)
	m.IntIf(17, r.EndedUnix)
}

// ReadCanon implements canon.Readable.
func (r *Report) ReadCanon(in *canon.Reader) {
	*r = Report{}
	for f := in.Map(); f.Next(); {
		switch f.Key {
		case 1:
			r.Lease.ReadCanon(in)
		case 2:
			r.Task.ReadCanon(in)
		case 3:
			r.Pilot = protocol.PilotID(in.Text())
		case 4:
			r.Verdict = protocol.Verdict(in.Uint8())
		case 5:
			r.Evidence = in.Text()
		case 6:
			r.ExitCode = int(in.Int())
		case 7:
			r.Signal = int(in.Int())
		case 8:
			r.Usage.ReadCanon(in)
		case 9:
			r.Statistics = canon.List[protocol.Statistic](in)
		case 10:
			r.Outputs = canon.List[protocol.FileRecord](in)
		case 11:
			r.Modules = canon.List[protocol.ModuleResult](in)
		case 12:
			r.Log.ReadCanon(in)
		case 13:
			r.Host = in.Text()
		case 14:
			r.Cleaned = in.Bool()
		case 15:
			r.BadInput = in.Text()
		case 16:
			r.StartedUnix = in.Int()
		case 17:
			r.EndedUnix = in.Int()
		default:
			in.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (e *LeaseGranted) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Item(1, &e.Lease)
	m.Item(2, &e.Task)
	m.Uint(3, uint64(e.Attempt))
	m.Text(4, string(e.Pilot))
	m.Text(5, string(e.Site))
}

// WriteCanon implements canon.Writable.
func (e *AttemptEnded) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Item(1, &e.Lease)
	m.Item(2, &e.Task)
	m.Uint(3, uint64(e.Attempt))
	m.Text(4, string(e.Pilot))
	m.Text(5, string(e.Site))
	m.TextIf(6, e.Host)
	m.Uint(7, uint64(e.Verdict))
	m.TextIf(8, e.Evidence)
	m.IntIf(9, int64(e.ExitCode))
	m.IntIf(10, int64(e.Signal))
	m.BoolIf(11, e.Accepted)
	m.Uint(12, uint64(e.Next))
	m.Item(13, &e.Usage)
	canon.ListIf(m, 14, e.Statistics)
	canon.ListIf(m, 15, e.Outputs)
	canon.ListIf(m, 16, e.Modules)
	m.Item(17, &e.Log)
	m.Int(18, int64(e.Granted))
	m.Int(19, int64(e.GrantedWall))
	m.IntIf(20, e.StartedUnix)
	m.IntIf(21, e.EndedUnix)
	canon.ListIf(m, 22, e.Remove)
}

// ReadCanon implements canon.Readable.
func (e *AttemptEnded) ReadCanon(r *canon.Reader) {
	*e = AttemptEnded{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			e.Lease.ReadCanon(r)
		case 2:
			e.Task.ReadCanon(r)
		case 3:
			e.Attempt = r.Uint32()
		case 4:
			e.Pilot = protocol.PilotID(r.Text())
		case 5:
			e.Site = protocol.SiteID(r.Text())
		case 6:
			e.Host = r.Text()
		case 7:
			e.Verdict = protocol.Verdict(r.Uint8())
		case 8:
			e.Evidence = r.Text()
		case 9:
			e.ExitCode = int(r.Int())
		case 10:
			e.Signal = int(r.Int())
		case 11:
			e.Accepted = r.Bool()
		case 12:
			e.Next = protocol.TaskState(r.Uint8())
		case 13:
			e.Usage.ReadCanon(r)
		case 14:
			e.Statistics = canon.List[protocol.Statistic](r)
		case 15:
			e.Outputs = canon.List[protocol.FileRecord](r)
		case 16:
			e.Modules = canon.List[protocol.ModuleResult](r)
		case 17:
			e.Log.ReadCanon(r)
		case 18:
			e.Granted = RecordTime(r.Int())
		case 19:
			e.GrantedWall = UnixMillis(r.Int())
		case 20:
			e.StartedUnix = r.Int()
		case 21:
			e.EndedUnix = r.Int()
		case 22:
			e.Remove = canon.List[protocol.FileRecord](r)
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (e *AttemptCleaned) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Item(1, &e.Lease)
	m.Item(2, &e.Task)
	m.BoolIf(3, e.Uncleaned)
}

// WriteCanon implements canon.Writable.
func (s *SiteRule) WriteCanon(w *canon.Writer) {
	m := w.Map()
	canon.TextsIf(m, 1, s.Allowed)
	canon.TextsIf(m, 2, s.Excluded)
}

// WriteCanon implements canon.Writable.
func (e *TasksReleased) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Uint(1, uint64(e.Dataset))
	m.Uint(2, uint64(e.Task))
	m.Uint(3, e.Count)
	m.Item(4, &e.Requirements)
	m.Item(5, &e.Sites)
}

// WriteCanon implements canon.Writable.
func (e *JobFinished) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Uint(1, uint64(e.Dataset))
	m.Uint(2, uint64(e.Job))
	m.Uint(3, uint64(e.State))
	canon.ListIf(m, 4, e.Remove)
}
