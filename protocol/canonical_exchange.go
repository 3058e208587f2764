package protocol

import (
	"cmp"
	"maps"
	"slices"

	"floe/protocol/canon"
)

// WriteCanon implements canon.Writable.
func (s *SignedReport) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Field(1)
	w.Blob(s.Body)
	m.Field(2)
	w.Blob(s.Signature)
	if len(s.Log) > 0 {
		m.Field(3)
		w.Blob(s.Log)
	}
}

// ReadCanon implements canon.Readable.
func (s *SignedReport) ReadCanon(r *canon.Reader) {
	*s = SignedReport{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			s.Body = r.Blob()
		case 2:
			s.Signature = r.Blob()
		case 3:
			s.Log = r.Blob()
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (h *HeldLease) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Item(1, &h.Lease)
	m.Item(2, &h.Task)
	m.Uint(3, uint64(h.Phase))
}

// ReadCanon implements canon.Readable.
func (h *HeldLease) ReadCanon(r *canon.Reader) {
	*h = HeldLease{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			h.Lease.ReadCanon(r)
		case 2:
			h.Task.ReadCanon(r)
		case 3:
			h.Phase = Phase(r.Uint8())
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (t *LogTail) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Item(1, &t.Lease)
	m.Int(2, t.Offset)
	m.Field(3)
	w.Blob(t.Data)
}

// ReadCanon implements canon.Readable.
func (t *LogTail) ReadCanon(r *canon.Reader) {
	*t = LogTail{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			t.Lease.ReadCanon(r)
		case 2:
			t.Offset = r.Int()
		case 3:
			t.Data = r.Blob()
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (p *Progress) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Item(1, &p.Lease)
	if p.Fraction != 0 {
		m.Field(2)
		w.Float(p.Fraction)
	}
	m.TextIf(3, p.Text)
	canon.ListIf(m, 4, p.Statistics)
	if p.Checkpoint != nil {
		m.Item(5, p.Checkpoint)
	}
}

// ReadCanon implements canon.Readable.
func (p *Progress) ReadCanon(r *canon.Reader) {
	*p = Progress{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			p.Lease.ReadCanon(r)
		case 2:
			p.Fraction = r.Float()
		case 3:
			p.Text = r.Text()
		case 4:
			p.Statistics = canon.List[Statistic](r)
		case 5:
			p.Checkpoint = new(FileRecord)
			p.Checkpoint.ReadCanon(r)
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (g *GPU) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Text(1, g.ID)
	m.TextIf(2, g.Model)
	m.IntIf(3, int64(g.Memory))
	m.IntIf(4, int64(g.Capability))
	m.BoolIf(5, g.Tested)
}

// ReadCanon implements canon.Readable.
func (g *GPU) ReadCanon(r *canon.Reader) {
	*g = GPU{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			g.ID = r.Text()
		case 2:
			g.Model = r.Text()
		case 3:
			g.Memory = ByteSize(r.Int())
		case 4:
			g.Capability = int(r.Int())
		case 5:
			g.Tested = r.Bool()
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (o *Resources) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.IntIf(1, int64(o.Cores))
	m.IntIf(2, int64(o.Memory))
	m.IntIf(3, int64(o.Disk))
	m.IntIf(4, int64(o.Remaining))
	canon.ListIf(m, 5, o.GPUs)
	m.TextIf(6, o.OS)
	canon.TextsIf(m, 7, o.Tags)
}

// ReadCanon implements canon.Readable.
func (o *Resources) ReadCanon(r *canon.Reader) {
	*o = Resources{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			o.Cores = int(r.Int())
		case 2:
			o.Memory = ByteSize(r.Int())
		case 3:
			o.Disk = ByteSize(r.Int())
		case 4:
			o.Remaining = Seconds(r.Int())
		case 5:
			o.GPUs = canon.List[GPU](r)
		case 6:
			o.OS = r.Text()
		case 7:
			o.Tags = canon.Texts[string](r)
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (q *Requirements) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.IntIf(1, int64(q.Cores))
	m.IntIf(2, int64(q.Memory))
	m.IntIf(3, int64(q.Disk))
	m.IntIf(4, int64(q.Walltime))
	m.IntIf(5, int64(q.GPUs))
	m.IntIf(6, int64(q.GPUMemory))
	m.IntIf(7, int64(q.GPUCapability))
	canon.TextsIf(m, 8, q.OS)
	canon.TextsIf(m, 9, q.Sites)
	canon.TextsIf(m, 10, q.Tags)
	canon.ListIf(m, 11, q.Alternatives)
	m.BoolIf(12, q.Elastic)
}

// ReadCanon implements canon.Readable. It leaves alternatives to the general
// decoder: they are rare, and may be nested to any depth by a hostile hand.
func (q *Requirements) ReadCanon(r *canon.Reader) {
	*q = Requirements{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			q.Cores = int(r.Int())
		case 2:
			q.Memory = ByteSize(r.Int())
		case 3:
			q.Disk = ByteSize(r.Int())
		case 4:
			q.Walltime = Seconds(r.Int())
		case 5:
			q.GPUs = int(r.Int())
		case 6:
			q.GPUMemory = ByteSize(r.Int())
		case 7:
			q.GPUCapability = int(r.Int())
		case 8:
			q.OS = canon.Texts[string](r)
		case 9:
			q.Sites = canon.Texts[SiteID](r)
		case 10:
			q.Tags = canon.Texts[string](r)
		case 12:
			q.Elastic = r.Bool()
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (c *CacheFigures) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.UintIf(1, c.Hits)
	m.UintIf(2, c.Misses)
	m.UintIf(3, c.Evicted)
	m.UintIf(4, c.Quarantined)
	m.IntIf(5, int64(c.Saved))
	m.IntIf(6, int64(c.Neighbour))
	m.IntIf(7, int64(c.Site))
	m.IntIf(8, int64(c.Far))
}

// ReadCanon implements canon.Readable.
func (c *CacheFigures) ReadCanon(r *canon.Reader) {
	*c = CacheFigures{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			c.Hits = r.Uint64()
		case 2:
			c.Misses = r.Uint64()
		case 3:
			c.Evicted = r.Uint64()
		case 4:
			c.Quarantined = r.Uint64()
		case 5:
			c.Saved = ByteSize(r.Int())
		case 6:
			c.Neighbour = ByteSize(r.Int())
		case 7:
			c.Site = ByteSize(r.Int())
		case 8:
			c.Far = ByteSize(r.Int())
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (a *Ahead) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Uint(1, uint64(a.Dataset))
	m.Uint(2, uint64(a.Task))
	m.Uint(3, uint64(a.Count))
}

// ReadCanon implements canon.Readable.
func (a *Ahead) ReadCanon(r *canon.Reader) {
	*a = Ahead{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			a.Dataset = DatasetID(r.Uint32())
		case 2:
			a.Task = TaskIndex(r.Uint16())
		case 3:
			a.Count = r.Uint16()
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (e *ExchangeRequest) WriteCanon(w *canon.Writer) {
	m := w.Map()
	canon.ListIf(m, 1, e.Held)
	canon.ListIf(m, 2, e.Reports)
	canon.ListIf(m, 3, e.Logs)
	m.Item(4, &e.Free)
	m.UintIf(5, uint64(e.Want))
	m.IntIf(6, int64(e.Wait))
	m.Uint(7, e.Sequence)
	canon.ListIf(m, 8, e.Cached)
	m.BoolIf(9, e.Leaving)
	m.TextIf(10, e.Reason)
	canon.ListIf(m, 11, e.Progress)
	if e.Cache != nil {
		m.Item(12, e.Cache)
	}
	if e.Ahead != nil {
		m.Item(13, e.Ahead)
	}
	if e.Way != nil {
		m.Item(14, e.Way)
	}
	m.UintIf(15, e.Obeyed)
}

// ReadCanon implements canon.Readable.
func (e *ExchangeRequest) ReadCanon(r *canon.Reader) {
	*e = ExchangeRequest{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			e.Held = canon.List[HeldLease](r)
		case 2:
			e.Reports = canon.List[SignedReport](r)
		case 3:
			e.Logs = canon.List[LogTail](r)
		case 4:
			e.Free.ReadCanon(r)
		case 5:
			e.Want = r.Uint16()
		case 6:
			e.Wait = Seconds(r.Int())
		case 7:
			e.Sequence = r.Uint64()
		case 8:
			e.Cached = canon.List[Digest](r)
		case 9:
			e.Leaving = r.Bool()
		case 10:
			e.Reason = r.Text()
		case 11:
			e.Progress = canon.List[Progress](r)
		case 12:
			e.Cache = new(CacheFigures)
			e.Cache.ReadCanon(r)
		case 13:
			e.Ahead = new(Ahead)
			e.Ahead.ReadCanon(r)
		case 14:
			e.Way = new(Way)
			e.Way.ReadCanon(r)
		case 15:
			e.Obeyed = r.Uint64()
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (l *Lease) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Item(1, &l.ID)
	m.Item(2, &l.Task)
	m.Text(3, l.TaskName)
	m.Uint(4, uint64(l.Attempt))
	m.Item(5, &l.Steering)
	m.Uint(6, l.Seed)
	m.Uint(7, uint64(l.JobCount))
	m.Text(8, l.Passkey.Reveal())
	m.Item(9, &l.Granted)
	canon.ListIf(m, 10, l.Inputs)
	m.Int(11, int64(l.Term))
	m.Int(12, int64(l.Fence))
	m.Uint(13, uint64(l.Version))
	m.TextIf(14, l.TempArea)
	m.TextIf(15, string(l.Submitter))
	m.TextIf(16, string(l.Group))
	if len(l.Options) > 0 {
		m.Field(17)
		w.Pairs(len(l.Options))
		// Core deterministic order: by the encoded key, so the shorter come first.
		names := slices.SortedFunc(maps.Keys(l.Options), func(a, b string) int {
			return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
		})
		for _, name := range names {
			w.Text(name)
			w.Text(l.Options[name])
		}
	}
	if !l.Modules.IsZero() {
		m.Item(18, &l.Modules)
	}
	if !l.Software.IsZero() {
		m.Item(19, &l.Software)
	}
}

// ReadCanon implements canon.Readable.
func (l *Lease) ReadCanon(r *canon.Reader) {
	*l = Lease{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			l.ID.ReadCanon(r)
		case 2:
			l.Task.ReadCanon(r)
		case 3:
			l.TaskName = r.Text()
		case 4:
			l.Attempt = r.Uint32()
		case 5:
			l.Steering.ReadCanon(r)
		case 6:
			l.Seed = r.Uint64()
		case 7:
			l.JobCount = r.Uint32()
		case 8:
			l.Passkey = Passkey(r.Text())
		case 9:
			l.Granted.ReadCanon(r)
		case 10:
			l.Inputs = canon.List[FileRecord](r)
		case 11:
			l.Term = Seconds(r.Int())
		case 12:
			l.Fence = Seconds(r.Int())
		case 13:
			l.Version = r.Uint32()
		case 14:
			l.TempArea = r.Text()
		case 15:
			l.Submitter = UserID(r.Text())
		case 16:
			l.Group = GroupID(r.Text())
		case 17:
			n := r.Pairs()
			l.Options = make(map[string]string, n)
			for range n {
				name := r.Text()
				l.Options[name] = r.Text()
			}
			if len(l.Options) != n {
				r.Fail() // a name given twice
			}
		case 18:
			l.Modules.ReadCanon(r)
		case 19:
			l.Software.ReadCanon(r)
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (o *Order) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Uint(1, uint64(o.Kind))
	m.Item(2, &o.Lease)
	m.TextIf(3, o.Reason)
	m.UintIf(4, o.Number)
	m.IntIf(5, int64(o.Within))
}

// ReadCanon implements canon.Readable.
func (o *Order) ReadCanon(r *canon.Reader) {
	*o = Order{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			o.Kind = OrderKind(r.Uint8())
		case 2:
			o.Lease.ReadCanon(r)
		case 3:
			o.Reason = r.Text()
		case 4:
			o.Number = r.Uint64()
		case 5:
			o.Within = Seconds(r.Int())
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (a *ReportAnswer) WriteCanon(w *canon.Writer) {
	m := w.Map()
	m.Item(1, &a.Lease)
	m.Uint(2, uint64(a.Code))
	m.TextIf(3, a.Reason)
}

// ReadCanon implements canon.Readable.
func (a *ReportAnswer) ReadCanon(r *canon.Reader) {
	*a = ReportAnswer{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			a.Lease.ReadCanon(r)
		case 2:
			a.Code = Code(r.Uint8())
		case 3:
			a.Reason = r.Text()
		default:
			r.Fail()
		}
	}
}

// WriteCanon implements canon.Writable.
func (e *ExchangeReply) WriteCanon(w *canon.Writer) {
	m := w.Map()
	canon.ListIf(m, 1, e.Leases)
	canon.ListIf(m, 2, e.Orders)
	canon.ListIf(m, 3, e.Answers)
	m.Int(4, int64(e.Next))
	canon.TextsIf(m, 5, e.Addresses)
	m.TextIf(6, e.Leader)
}

// ReadCanon implements canon.Readable.
func (e *ExchangeReply) ReadCanon(r *canon.Reader) {
	*e = ExchangeReply{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			e.Leases = canon.List[Lease](r)
		case 2:
			e.Orders = canon.List[Order](r)
		case 3:
			e.Answers = canon.List[ReportAnswer](r)
		case 4:
			e.Next = Seconds(r.Int())
		case 5:
			e.Addresses = canon.Texts[string](r)
		case 6:
			e.Leader = r.Text()
		default:
			r.Fail()
		}
	}
}
