package protocol

import (
	"floe/protocol/canon"
)

// What a task's life consists of is read and written without reflection. The field
// numbers are those of the structs' tags; tests compare with the general codec.

// WriteCanon implements canon.Writable.
func (l *LeaseID) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Uint(1, l.Index)
	m.Uint(2, uint64(l.Ordinal))
}

// ReadCanon implements canon.Readable.
func (l *LeaseID) ReadCanon(r *canon.Reader) {
	*l = LeaseID{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			l.Index = r.Uint64()
		case 2:
			l.Ordinal = r.Uint32()
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (t *TaskID) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Uint(1, uint64(t.Dataset))
	m.Uint(2, uint64(t.Job))
	m.Uint(3, uint64(t.Task))
}

// ReadCanon implements canon.Readable.
func (t *TaskID) ReadCanon(r *canon.Reader) {
	*t = TaskID{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			t.Dataset = DatasetID(r.Uint32())
		case 2:
			t.Job = JobIndex(r.Uint32())
		case 3:
			t.Task = TaskIndex(r.Uint16())
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (d *Digest) WriteCanon(w *canon.Writer) {
	if d.IsZero() {
		w.Blob([]byte{})
	} else {
		w.Blob(d[:])
	}
}

// ReadCanon implements canon.Readable.
func (d *Digest) ReadCanon(r *canon.Reader) {
	*d = Digest{}
	r.BlobInto(d[:])
}

// WriteCanon implements canon.Writable.
func (u *Usage) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.IntIf(1, u.WallMillis)
	m.IntIf(2, u.CPUMillis)
	m.IntIf(3, int64(u.PeakMemory))
	m.IntIf(4, int64(u.ReadBytes))
	m.IntIf(5, int64(u.WriteBytes))
	m.IntIf(6, int64(u.PeakDisk))
	m.IntIf(7, int64(u.Cores))
	m.IntIf(8, int64(u.GPUs))
	m.IntIf(9, u.StageMillis)
	m.IntIf(10, u.CopyMillis)
	m.IntIf(11, u.KeptMillis)
	if u.GPUMillis != nil {
		m.Int(12, *u.GPUMillis)
	}
	if u.PeakGPUMemory != nil {
		m.Int(13, int64(*u.PeakGPUMemory))
	}
}

// ReadCanon implements canon.Readable.
func (u *Usage) ReadCanon(r *canon.Reader) {
	*u = Usage{}
	for f := r.Map(); f.Next(); {
		switch n := r.Int(); f.Key {
		case 1:
			u.WallMillis = n
		case 2:
			u.CPUMillis = n
		case 3:
			u.PeakMemory = ByteSize(n)
		case 4:
			u.ReadBytes = ByteSize(n)
		case 5:
			u.WriteBytes = ByteSize(n)
		case 6:
			u.PeakDisk = ByteSize(n)
		case 7:
			u.Cores = int(n)
		case 8:
			u.GPUs = int(n)
		case 9:
			u.StageMillis = n
		case 10:
			u.CopyMillis = n
		case 11:
			u.KeptMillis = n
		case 12:
			u.GPUMillis = &n
		case 13:
			peak := ByteSize(n)
			u.PeakGPUMemory = &peak
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (s *Statistic) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Text(1, s.Name)
	m.Field(2)
	w.Float(s.Value)
}

// ReadCanon implements canon.Readable.
func (s *Statistic) ReadCanon(r *canon.Reader) {
	*s = Statistic{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			s.Name = r.Text()
		case 2:
			s.Value = r.Float()
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (o *FileRecord) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Uint(1, uint64(o.Type))
	m.Text(2, o.Name)
	m.Text(3, o.URL)
	m.TextIf(4, o.Published)
	m.Int(5, int64(o.Size))
	m.Item(6, &o.Digest)
}

// ReadCanon implements canon.Readable.
func (o *FileRecord) ReadCanon(r *canon.Reader) {
	*o = FileRecord{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			o.Type = FileType(r.Uint8())
		case 2:
			o.Name = r.Text()
		case 3:
			o.URL = r.Text()
		case 4:
			o.Published = r.Text()
		case 5:
			o.Size = ByteSize(r.Int())
		case 6:
			o.Digest.ReadCanon(r)
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (m *ModuleResult) WriteCanon(w *canon.Writer) {
	o := w.Map()
	o.TextIf(1, m.Tray)
	o.IntIf(2, int64(m.Iteration))
	o.Text(3, m.Module)
	o.IntIf(4, int64(m.ExitCode))
	o.Item(5, &m.Usage)
}

// ReadCanon implements canon.Readable.
func (m *ModuleResult) ReadCanon(r *canon.Reader) {
	*m = ModuleResult{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			m.Tray = r.Text()
		case 2:
			m.Iteration = int(r.Int())
		case 3:
			m.Module = r.Text()
		case 4:
			m.ExitCode = int(r.Int())
		case 5:
			m.Usage.ReadCanon(r)
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (l *LogRecord) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Item(1, &l.Digest)
	m.Int(2, int64(l.Size))
	m.IntIf(3, int64(l.Cut))
}

// ReadCanon implements canon.Readable.
func (l *LogRecord) ReadCanon(r *canon.Reader) {
	*l = LogRecord{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			l.Digest.ReadCanon(r)
		case 2:
			l.Size = ByteSize(r.Int())
		case 3:
			l.Cut = ByteSize(r.Int())
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
	m.Text(4, r.Passkey.Reveal())
	m.Uint(5, uint64(r.Verdict))
	m.TextIf(6, r.Evidence)
	m.IntIf(7, int64(r.ExitCode))
	m.IntIf(8, int64(r.Signal))
	m.Item(9, &r.Usage)
	canon.ListIf(m, 10, r.Statistics)
	canon.ListIf(m, 11, r.Outputs)
	canon.ListIf(m, 12, r.Modules)
	m.Item(13, &r.Log)
	m.TextIf(14, r.Host)
	m.BoolIf(15, r.Cleaned)
	m.TextIf(16, r.BadInput)
	m.IntIf(17, r.StartedUnix)
	m.IntIf(18, r.EndedUnix)
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
			r.Pilot = PilotID(in.Text())
		case 4:
			r.Passkey = Passkey(in.Text())
		case 5:
			r.Verdict = Verdict(in.Uint8())
		case 6:
			r.Evidence = in.Text()
		case 7:
			r.ExitCode = int(in.Int())
		case 8:
			r.Signal = int(in.Int())
		case 9:
			r.Usage.ReadCanon(in)
		case 10:
			r.Statistics = canon.List[Statistic](in)
		case 11:
			r.Outputs = canon.List[FileRecord](in)
		case 12:
			r.Modules = canon.List[ModuleResult](in)
		case 13:
			r.Log.ReadCanon(in)
		case 14:
			r.Host = in.Text()
		case 15:
			r.Cleaned = in.Bool()
		case 16:
			r.BadInput = in.Text()
		case 17:
			r.StartedUnix = in.Int()
		case 18:
			r.EndedUnix = in.Int()
		default:
			in.Fail()
		}
	}
}
