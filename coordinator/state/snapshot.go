package state

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/tidwall/btree"

	"floe/protocol"
)

// Frozen is the record at one log index. It never changes and may be read by many
// while the machine goes on.
type Frozen struct{ Record }

// Snapshot freezes the record in time proportional to the number of its
// collections. What the machine changes from now on it copies first.
func (m *Machine) Snapshot() *Frozen {
	f := &Frozen{m.Record}
	f.datasets = m.datasets.Copy()
	f.pilots = m.pilots.Copy()
	f.sites = m.sites.Copy()
	f.launches = m.launches.Copy()
	f.users = m.users.Copy()
	f.members = m.members.Copy()
	f.nodes = m.nodes.Copy()
	f.tickets = m.tickets.Copy()
	f.tokens = m.tokens.Copy()
	f.joins = m.joins.Copy()
	f.answered = m.answered.Copy()
	f.software = m.software.Copy()
	f.publishers = m.publishers.Copy()
	m.gen++
	return f
}

// A persisted record is
//
//	"floe state 1\n"
//	frames: kind (1 byte), length (uvarint), CBOR
//
// dataset by dataset with all that belongs to it, then kind by kind and, within a
// kind, by name. The last frame is the end, which counts the frames before it. Equal records have equal bytes.
const magic = "floe state 1\n"

// The kinds of frames. Append only.
const (
	frameHeader byte = iota + 1
	frameDataset
	frameLease
	frameAccepted
	frameAvoided
	framePilot
	frameSite
	frameLaunch
	frameUser
	frameMember
	frameTicket
	frameToken
	frameJoin
	frameAnswered
	frameEnd
	frameLost  // of a dataset, after the hosts it avoids
	frameNode  // after members
	frameSaved // of a dataset, after the losses
	frameSoftware
	framePublisher // both before the end
	frameRelease   // after publishers
)

// maxFrame bounds what Restore allocates for one frame: a bitmap over MaxJobs
// fragmented at its worst, for many tasks.
const maxFrame = 1 << 30

type headerFrame struct {
	Index  uint64             `cbor:"1,keyasint"`
	Term   uint64             `cbor:"2,keyasint"`
	Time   RecordTime         `cbor:"3,keyasint"`
	Wall   UnixMillis         `cbor:"4,keyasint"`
	Format uint32             `cbor:"5,keyasint"`
	Next   protocol.DatasetID `cbor:"6,keyasint"`
}

type keyedFrame[T any] struct {
	Key   string `cbor:"1,keyasint"`
	Value T      `cbor:"2,keyasint"`
}

type taskFrame[T any] struct {
	Task  protocol.TaskID `cbor:"1,keyasint"`
	Value T               `cbor:"2,keyasint"`
}

type endFrame struct {
	Frames uint64 `cbor:"1,keyasint"`
}

// persister writes frames and remembers the first error.
type persister struct {
	w   *bufio.Writer
	n   uint64
	err error
}

func (p *persister) frame(kind byte, v any) {
	if p.err != nil {
		return
	}
	body, err := protocol.Marshal(v)
	if err != nil {
		p.err = fmt.Errorf("frame %d: %w", kind, err)
		return
	}
	head := binary.AppendUvarint([]byte{kind}, uint64(len(body)))
	_, _ = p.w.Write(head) // bufio keeps the error for Flush
	_, _ = p.w.Write(body)
	p.n++
}

// Persist writes the record. It may run while the machine applies.
func (f *Frozen) Persist(w io.Writer) error {
	p := &persister{w: bufio.NewWriterSize(w, 64<<10)}
	_, _ = p.w.WriteString(magic)
	p.frame(frameHeader, &headerFrame{f.index, f.term, f.time, f.wall, f.format, f.next})
	f.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
		d.persist(p)
		return p.err == nil
	})
	persistAll(p, framePilot, f.pilots.Scan)
	persistAll(p, frameSite, f.sites.Scan)
	persistAll(p, frameLaunch, f.launches.Scan)
	persistAll(p, frameUser, f.users.Scan)
	persistAll(p, frameMember, f.members.Scan)
	persistAll(p, frameNode, f.nodes.Scan)
	persistAll(p, frameTicket, f.tickets.Scan)
	persistAll(p, frameToken, f.tokens.Scan)
	persistAll(p, frameJoin, f.joins.Scan)
	f.answered.Scan(func(key string, a *answered) bool {
		p.frame(frameAnswered, &keyedFrame[*answered]{key, a})
		return p.err == nil
	})
	persistAll(p, frameSoftware, f.software.Scan)
	persistAll(p, framePublisher, f.publishers.Scan)
	if f.release != nil {
		p.frame(frameRelease, f.release)
	}
	p.frame(frameEnd, &endFrame{p.n})
	if p.err == nil {
		p.err = p.w.Flush()
	}
	if p.err != nil {
		return fmt.Errorf("persist record at %d: %w", f.index, p.err)
	}
	return nil
}

func persistAll[K, T any](p *persister, kind byte, scan func(func(K, *T) bool)) {
	scan(func(_ K, v *T) bool {
		p.frame(kind, v)
		return p.err == nil
	})
}

// Digest is the SHA-256 of what Persist writes: equal exactly for equal records.
func (f *Frozen) Digest() protocol.Digest {
	h := sha256.New()
	if err := f.Persist(h); err != nil {
		panic("state: " + err.Error()) // a hash takes everything
	}
	return protocol.Digest(h.Sum(nil))
}

var errSnapshot = errors.New("snapshot cannot be read")

// Restore replaces everything the machine holds by what Persist wrote, to the end
// of r. After an error the machine is as it was.
func (m *Machine) Restore(r io.Reader) error {
	fresh := New()
	if err := fresh.restore(bufio.NewReaderSize(r, 64<<10)); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	*m = *fresh
	return nil
}

func (m *Machine) restore(r *bufio.Reader) error {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return fmt.Errorf("%w: no header of a version this build reads", errSnapshot)
	}
	for n := uint64(0); ; n++ {
		kind, body, err := readFrame(r)
		if err != nil {
			return fmt.Errorf("%w: frame %d: %w", errSnapshot, n+1, err)
		}
		if n == 0 && kind != frameHeader {
			return fmt.Errorf("%w: does not begin with a header", errSnapshot)
		}
		if kind == frameEnd {
			var end endFrame
			if err := protocol.Unmarshal(body, &end); err != nil || end.Frames != n {
				return fmt.Errorf("%w: ends after %d frames of %d", errSnapshot, n, end.Frames)
			}
			if _, err := r.ReadByte(); err == nil {
				return fmt.Errorf("%w: goes on after its end", errSnapshot)
			} else if !errors.Is(err, io.EOF) {
				return err
			}
			return m.finishRestore()
		}
		if err := m.restoreFrame(kind, body); err != nil {
			return fmt.Errorf("%w: frame %d of kind %d: %w", errSnapshot, n+1, kind, err)
		}
	}
}

func readFrame(r *bufio.Reader) (kind byte, body []byte, err error) {
	if kind, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	if size > maxFrame {
		return 0, nil, fmt.Errorf("%d bytes, limit %d", size, maxFrame)
	}
	// A damaged length must not make us allocate what is not there.
	body, err = io.ReadAll(io.LimitReader(r, int64(size)))
	if err == nil && uint64(len(body)) < size {
		err = io.ErrUnexpectedEOF
	}
	return kind, body, err
}

// restoreFrame takes in one frame. What refers to something else is checked by
// finishRestore.
func (m *Machine) restoreFrame(kind byte, body []byte) error {
	switch kind {
	case frameHeader:
		var h headerFrame
		if err := protocol.Unmarshal(body, &h); err != nil {
			return err
		}
		if h.Format < 1 || h.Format > Format {
			return fmt.Errorf("%w: record of format %d", ErrUnknownCommand, h.Format)
		}
		m.index, m.term, m.time, m.wall, m.format, m.next = h.Index, h.Term, h.Time, h.Wall, h.Format, h.Next
		return nil
	case frameDataset:
		return m.restoreDataset(body)
	case frameLease:
		return m.restoreLease(body)
	case frameAccepted:
		return restoreTask(m, body, func(d *dataset, key uint64, a *accepted) { d.accepted.Set(key, a) })
	case frameAvoided:
		return restoreTask(m, body, func(d *dataset, key uint64, hosts *[]string) { d.failedAt.Set(key, *hosts) })
	case frameLost:
		return restoreTask(m, body, func(d *dataset, key uint64, nodes *[]string) { d.lostAt.Set(key, *nodes) })
	case frameSaved:
		return restoreTask(m, body, func(d *dataset, key uint64, s *saved) { d.saved.Set(key, s) })
	case framePilot:
		return restoreInto(m.pilots, body, func(p *Pilot) protocol.PilotID {
			p.gen = m.gen
			return p.ID
		})
	case frameSite:
		return restoreInto(m.sites, body, func(s *Site) protocol.SiteID {
			s.gen = m.gen
			return s.ID
		})
	case frameLaunch:
		return restoreInto(m.launches, body, func(l *Launch) protocol.LaunchID { return l.ID })
	case frameUser:
		return restoreInto(m.users, body, func(u *User) protocol.UserID { return u.ID })
	case frameMember:
		return restoreInto(m.members, body, func(x *Member) protocol.NodeID { return x.Node })
	case frameNode:
		return restoreInto(m.nodes, body, (*Node).key)
	case frameTicket:
		return restoreInto(m.tickets, body, func(t *Ticket) string { return string(t.Hash[:]) })
	case frameToken:
		return restoreInto(m.tokens, body, func(t *Token) string { return string(t.Hash[:]) })
	case frameJoin:
		return restoreInto(m.joins, body, func(j *JoinToken) string { return string(j.Hash[:]) })
	case frameSoftware:
		return restoreInto(m.software, body, (*Software).key)
	case framePublisher:
		return restoreInto(m.publishers, body, (*Publisher).key)
	case frameRelease:
		m.release = new(Release)
		return protocol.Unmarshal(body, m.release)
	case frameAnswered:
		var k keyedFrame[*answered]
		if err := protocol.Unmarshal(body, &k); err != nil || k.Value == nil {
			return fmt.Errorf("remembered answer: %w", err)
		}
		m.answered.Set(k.Key, k.Value)
		return nil
	}
	return errors.New("unknown kind")
}

func restoreInto[K ~string, T any](into *btree.Map[K, *T], body []byte, key func(*T) K) error {
	v := new(T)
	if err := protocol.Unmarshal(body, v); err != nil {
		return err
	}
	if _, twice := into.Set(key(v), v); twice {
		return fmt.Errorf("%q twice", string(key(v)))
	}
	return nil
}

func restoreTask[T any](m *Machine, body []byte, set func(*dataset, uint64, *T)) error {
	var f taskFrame[*T]
	if err := protocol.Unmarshal(body, &f); err != nil {
		return err
	}
	d, v := m.vertexOf(f.Task)
	if v == nil || f.Value == nil {
		return fmt.Errorf("no task %v", f.Task)
	}
	set(d, taskKey(uint32(f.Task.Job), f.Task.Task), f.Value)
	return nil
}

// finishRestore derives what is not persisted and checks that what refers to
// something else finds it.
func (m *Machine) finishRestore() error {
	var err error
	m.pilots.Scan(func(_ protocol.PilotID, p *Pilot) bool {
		if p.Left == 0 {
			m.running++
		} else {
			m.due.pilots.add(p.Left+PilotMemory, string(p.ID))
		}
		if _, known := m.sites.Get(p.Site); !known && (p.Left == 0 || len(p.Leases) > 0) {
			err = fmt.Errorf("%w: pilot %s is of an unknown site", errSnapshot, p.ID)
		}
		for _, h := range p.Leases {
			if l, current := m.Lease(h.Task); !current || l.ID != h.Lease || l.Pilot != p.ID {
				err = fmt.Errorf("%w: pilot %s holds an unknown lease", errSnapshot, p.ID)
			}
			m.leases--
		}
		return err == nil
	})
	held := m.leases // what remains is held by nobody
	m.leases = 0
	m.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
		m.leases += uint64(d.live.Len())
		return true
	})
	if err == nil && held != 0 {
		err = fmt.Errorf("%w: a lease is not held by its pilot", errSnapshot)
	}
	m.launches.Scan(func(_ protocol.LaunchID, l *Launch) bool {
		if _, known := m.sites.Get(l.Site); !known {
			err = fmt.Errorf("%w: launch %s is of an unknown site", errSnapshot, l.ID)
		}
		if l.Pilot == "" {
			m.due.launches.add(l.Expires, string(l.ID))
		}
		return true
	})
	m.nodes.Scan(func(_ string, n *Node) bool {
		if n.check(&m.Record) != nil {
			err = fmt.Errorf("%w: node %s: %w", errSnapshot, nodeName(n.Site, n.Host), n.check(&m.Record))
		}
		m.dueNode(n)
		return true
	})
	m.tickets.Scan(func(key string, t *Ticket) bool { m.due.tickets.add(t.Expires, key); return true })
	m.joins.Scan(func(key string, j *JoinToken) bool { m.due.joins.add(j.Expires, key); return true })
	m.answered.Scan(func(key string, a *answered) bool { m.due.keys.add(a.Expires, key); return true })
	m.tokens.Scan(func(key string, t *Token) bool {
		if t.Expires > 0 {
			m.due.tokens.add(t.Expires, key)
		}
		return true
	})
	m.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
		m.relink(d, func() {})
		return true
	})
	clear(m.released)
	m.released = m.released[:0]
	return err
}
