package state

import (
	"encoding/binary"
	"unicode/utf8"

	"floe/protocol"
)

// A task's life is an Acquire and a Report, and reading them by reflection costs
// more than applying them. decodeHot reads both, in the form in which they are
// written. It tells false for whatever is in another form, even a legal one, and
// for other commands: the general decoder then decides.
func decodeHot(k Kind, body []byte) (Command, bool) {
	r := hotReader{b: body}
	var c Command
	switch k {
	case KindAcquire:
		a := new(Acquire)
		r.acquire(a)
		c = a
	case KindReport:
		p := new(Report)
		r.report(p)
		c = p
	default:
		return nil, false
	}
	return c, !r.failed && len(r.b) == 0
}

// hotReader reads core-deterministic CBOR with integer keys (RFC 8949 §4.2).
// After failed is set what it returns means nothing.
type hotReader struct {
	b      []byte
	failed bool
}

// The major types of CBOR.
const (
	cborUint = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborOther

	cborFalse = 0xf4
	cborTrue  = 0xf5
)

// fields calls f for each key of a map, which must rise. f reads the value and
// tells whether it knows the key.
func (r *hotReader) fields(f func(key uint64) bool) {
	last := uint64(0)
	for n := r.head(cborMap); n > 0 && !r.failed; n-- {
		key := r.head(cborUint)
		if key <= last || !f(key) {
			r.failed = true
		}
		last = key
	}
}

// head reads the head of an item of a major type and returns its argument.
func (r *hotReader) head(major byte) uint64 {
	if len(r.b) == 0 || r.b[0]>>5 != major {
		r.failed = true
		return 0
	}
	short := r.b[0] & 31
	r.b = r.b[1:]
	if short < 24 {
		return uint64(short)
	}
	width := 1 << (short - 24)
	if short > 27 || len(r.b) < width {
		r.failed = true
		return 0
	}
	var wide [8]byte
	copy(wide[8-width:], r.b)
	r.b = r.b[width:]
	return binary.BigEndian.Uint64(wide[:])
}

func (r *hotReader) uint(limit uint64) uint64 {
	n := r.head(cborUint)
	if n > limit {
		r.failed = true
	}
	return n
}

func (r *hotReader) int() int64 {
	if len(r.b) > 0 && r.b[0]>>5 == cborNegative {
		return -1 - int64(r.limit(r.head(cborNegative)))
	}
	return int64(r.limit(r.head(cborUint)))
}

func (r *hotReader) limit(n uint64) uint64 {
	if n > 1<<63-1 {
		r.failed = true
	}
	return n
}

// take returns the next n bytes.
func (r *hotReader) take(n uint64) []byte {
	if r.failed || n > uint64(len(r.b)) {
		r.failed = true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *hotReader) text() string {
	b := r.take(r.head(cborText))
	if !utf8.Valid(b) {
		r.failed = true
	}
	return string(b)
}

func (r *hotReader) digest() (d protocol.Digest) {
	// The general decoder is as strict: nothing, or all of it with a head of two bytes.
	switch b := r.b; {
	case len(b) > 0 && b[0] == 0x40:
		r.b = b[1:]
	case len(b) >= 2+len(d) && b[0] == 0x58 && int(b[1]) == len(d):
		copy(d[:], b[2:])
		r.b = b[2+len(d):]
	default:
		r.failed = true
	}
	return d
}

func (r *hotReader) bool() bool {
	b := r.take(1)
	if r.failed || b[0] != cborFalse && b[0] != cborTrue {
		r.failed = true
		return false
	}
	return b[0] == cborTrue
}

// hotList reads an array. A length beyond what is left is not believed.
func hotList[T any](r *hotReader, read func(*T)) []T {
	n := r.head(cborArray)
	if n > uint64(len(r.b)) {
		r.failed = true
	}
	if r.failed {
		return nil
	}
	list := make([]T, n)
	for i := range list {
		read(&list[i])
	}
	return list
}

// general lets the general decoder read the next item.
func (r *hotReader) general(into any) {
	rest := *r
	rest.skip(4)
	if rest.failed {
		r.failed = true
		return
	}
	item := r.b[:len(r.b)-len(rest.b)]
	r.b = rest.b
	if protocol.Unmarshal(item, into) != nil {
		r.failed = true
	}
}

// skip passes over an item nested to a depth.
func (r *hotReader) skip(depth int) {
	if len(r.b) == 0 || depth == 0 {
		r.failed = true
		return
	}
	major := r.b[0] >> 5
	n := r.head(major)
	switch major {
	case cborBytes, cborText:
		r.take(n)
	case cborMap:
		for ; n > 0 && !r.failed; n-- {
			r.skip(depth - 1)
			r.skip(depth - 1)
		}
	case cborArray:
		for ; n > 0 && !r.failed; n-- {
			r.skip(depth - 1)
		}
	case cborTag:
		r.failed = true
	}
}

func (r *hotReader) acquire(a *Acquire) {
	r.fields(func(key uint64) bool {
		switch key {
		case 1:
			a.Pilot = protocol.PilotID(r.text())
		case 2:
			r.resources(&a.Free)
		case 3:
			a.Want = uint16(r.uint(1<<16 - 1))
		case 4:
			a.Sequence = r.head(cborUint)
		default:
			return false
		}
		return true
	})
}

func (r *hotReader) resources(o *protocol.Resources) {
	r.fields(func(key uint64) bool {
		switch key {
		case 1:
			o.Cores = int(r.int())
		case 2:
			o.Memory = protocol.ByteSize(r.int())
		case 3:
			o.Disk = protocol.ByteSize(r.int())
		case 4:
			o.Remaining = protocol.Seconds(r.int())
		case 5:
			r.general(&o.GPUs)
		case 6:
			o.OS = r.text()
		case 7:
			o.Tags = hotList(r, func(s *string) { *s = r.text() })
		default:
			return false
		}
		return true
	})
}

func (r *hotReader) report(p *Report) {
	r.fields(func(key uint64) bool {
		switch key {
		case 1:
			r.lease(&p.Lease)
		case 2:
			r.task(&p.Task)
		case 3:
			p.Pilot = protocol.PilotID(r.text())
		case 4:
			p.Verdict = protocol.Verdict(r.uint(1<<8 - 1))
		case 5:
			p.Evidence = r.text()
		case 6:
			p.ExitCode = int(r.int())
		case 7:
			p.Signal = int(r.int())
		case 8:
			r.usage(&p.Usage)
		case 9:
			r.general(&p.Statistics) // floating point is not for this package
		case 10:
			p.Outputs = hotList(r, r.file)
		case 11:
			r.general(&p.Modules)
		case 12:
			r.log(&p.Log)
		case 13:
			p.Host = r.text()
		case 14:
			p.Cleaned = r.bool()
		case 15:
			p.BadInput = r.text()
		case 16:
			p.StartedUnix = r.int()
		case 17:
			p.EndedUnix = r.int()
		default:
			return false
		}
		return true
	})
}

func (r *hotReader) lease(l *protocol.LeaseID) {
	r.fields(func(key uint64) bool {
		switch key {
		case 1:
			l.Index = r.head(cborUint)
		case 2:
			l.Ordinal = uint32(r.uint(1<<32 - 1))
		}
		return key <= 2
	})
}

func (r *hotReader) task(t *protocol.TaskID) {
	r.fields(func(key uint64) bool {
		switch key {
		case 1:
			t.Dataset = protocol.DatasetID(r.uint(1<<32 - 1))
		case 2:
			t.Job = protocol.JobIndex(r.uint(1<<32 - 1))
		case 3:
			t.Task = protocol.TaskIndex(r.uint(1<<16 - 1))
		}
		return key <= 3
	})
}

func (r *hotReader) usage(u *protocol.Usage) {
	r.fields(func(key uint64) bool {
		n := r.int()
		switch key {
		case 1:
			u.WallMillis = n
		case 2:
			u.CPUMillis = n
		case 3:
			u.PeakMemory = protocol.ByteSize(n)
		case 4:
			u.ReadBytes = protocol.ByteSize(n)
		case 5:
			u.WriteBytes = protocol.ByteSize(n)
		case 6:
			u.PeakDisk = protocol.ByteSize(n)
		case 7:
			u.Cores = int(n)
		case 8:
			u.GPUs = int(n)
		case 9:
			u.StageMillis = n
		case 10:
			u.CopyMillis = n
		}
		return key <= 10
	})
}

func (r *hotReader) file(f *protocol.FileRecord) {
	r.fields(func(key uint64) bool {
		switch key {
		case 1:
			f.Type = protocol.FileType(r.uint(1<<8 - 1))
		case 2:
			f.Name = r.text()
		case 3:
			f.URL = r.text()
		case 4:
			f.Published = r.text()
		case 5:
			f.Size = protocol.ByteSize(r.int())
		case 6:
			f.Digest = r.digest()
		}
		return key <= 6
	})
}

func (r *hotReader) log(l *protocol.LogRecord) {
	r.fields(func(key uint64) bool {
		switch key {
		case 1:
			l.Digest = r.digest()
		case 2:
			l.Size = protocol.ByteSize(r.int())
		case 3:
			l.Cut = protocol.ByteSize(r.int())
		}
		return key <= 3
	})
}
