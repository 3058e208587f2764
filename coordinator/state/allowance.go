package state

import (
	"fmt"
	"slices"
	"strings"

	"floe/protocol"
)

// Pilot jobs that come to nothing cost a site its good name with whoever runs it. So
// a site may have only so many of a shape that have not proven themselves: launched,
// and their pilots not given a task yet. Each that proves itself lets one more be
// tried; each that comes to nothing halves the number, down to one, a probe. Probes
// that come to nothing are made ever more rarely, and the first that proves itself
// ends that.
//
// Source: research/grid-peers.md B3 and proposal 5; the first ten are those of a pass
// without a ramp.
const (
	FirstAllowance = 10
	MaxAllowance   = 1000
	// MinProbe is the pause after the first probe that came to nothing. Each is twice as
	// long as the one before, at most MaxProbe.
	MinProbe = 5 * Minute
	MaxProbe = Hour
)

// EndCause is why a launch lease ended, as far as it is held against its shape.
type EndCause uint8

// The causes. Those above EndQuietly are held against the shape.
const (
	EndQuietly EndCause = iota // no longer wanted, given up, or its pilot has had its time
	EndDied                    // its pilot job ended before a pilot was given a task
	EndRefused                 // the batch system refused its pilot job
	EndVain                    // its pilot left without a task, though tasks waited that it was launched for
	endCauses
)

var endWords = [...]string{"quietly", "died", "refused", "in vain"}

func (c EndCause) String() string {
	if int(c) >= len(endWords) {
		return fmt.Sprintf("invalid cause %d", c)
	}
	return endWords[c]
}

// Shape is what is known of one kind of pilot job of a site.
type Shape struct {
	Name string `cbor:"1,keyasint"`
	// Allowance is how many pilot jobs may be unproven at once, Unproven how many are.
	Allowance uint32 `cbor:"2,keyasint"`
	Unproven  uint32 `cbor:"3,keyasint,omitempty"`
	// Launched counts the launch leases there ever were, Proven the pilots that were given
	// a task, Died, Refused and Vain those that ended so.
	Launched uint64 `cbor:"4,keyasint,omitempty"`
	Proven   uint64 `cbor:"5,keyasint,omitempty"`
	Died     uint64 `cbor:"6,keyasint,omitempty"`
	Refused  uint64 `cbor:"7,keyasint,omitempty"`
	Vain     uint64 `cbor:"8,keyasint,omitempty"`
	// Probes in a row came to nothing; none is launched before Next.
	Probes uint32     `cbor:"9,keyasint,omitempty"`
	Next   RecordTime `cbor:"10,keyasint,omitempty"`
	// Cut is when one last came to nothing, Wall the same by the wall clock, and Reason
	// why; launch leases granted before it are of the same wave.
	Cut    RecordTime `cbor:"11,keyasint,omitempty"`
	Wall   UnixMillis `cbor:"12,keyasint,omitempty"`
	Reason string     `cbor:"13,keyasint,omitempty"`
	// Used is when a launch lease was last asked for.
	Used RecordTime `cbor:"14,keyasint,omitempty"`
}

// Left is how many more pilot jobs may be launched at a record time.
func (s *Shape) Left(now RecordTime) uint32 {
	if now < s.Next {
		return 0
	}
	return s.Allowance - min(s.Allowance, s.Unproven)
}

// Shape returns what is known of a shape; one that is new has its first allowance.
func (s *Site) Shape(name string) Shape {
	if i, known := s.findShape(name); known {
		return s.Shapes[i]
	}
	return Shape{Name: name, Allowance: FirstAllowance}
}

func (s *Site) findShape(name string) (int, bool) {
	return slices.BinarySearchFunc(s.Shapes, name, func(x Shape, name string) int { return strings.Compare(x.Name, name) })
}

// shape returns a shape for changing, nil where there is none. s is one for changing.
func (s *Site) shape(name string) *Shape {
	i, known := s.findShape(name)
	if !known {
		return nil
	}
	s.Shapes = slices.Clone(s.Shapes) // views share it
	return &s.Shapes[i]
}

// openShape makes a shape known. One that is not in use and was not for longest makes
// room for it; where all are in use it stays unknown.
func (m *Machine) openShape(s *Site, name string) {
	if x := s.shape(name); x != nil {
		x.Used = m.time
		return
	}
	if len(s.Shapes) == protocol.MaxShapes {
		oldest := -1
		for i := range s.Shapes {
			if s.Shapes[i].Unproven == 0 && (oldest < 0 || s.Shapes[i].Used < s.Shapes[oldest].Used) {
				oldest = i
			}
		}
		if oldest < 0 {
			return
		}
		s.Shapes = slices.Delete(slices.Clone(s.Shapes), oldest, oldest+1)
	}
	x := Shape{Name: name, Allowance: FirstAllowance, Used: m.time}
	m.launches.Scan(func(_ protocol.LaunchID, l *Launch) bool { // those of an older format
		if l.Site == s.ID && l.Shape == name && m.unproven(l) {
			x.Unproven++
		}
		return true
	})
	i, _ := s.findShape(name)
	s.Shapes = slices.Insert(slices.Clone(s.Shapes), i, x)
}

// unproven tells whether a launch lease has come to nothing so far: no pilot that
// enrolled with it was ever given a task.
func (r *Record) unproven(l *Launch) bool {
	p, known := r.pilots.Get(l.Pilot)
	return !known || p.Sequence == 0
}

// Unproven tells whether a launch lease is known that has come to nothing so far.
func (r *Record) Unproven(id protocol.LaunchID) bool {
	l, known := r.launches.Get(id)
	return known && r.unproven(l)
}

// allows refuses launch leases beyond what their shapes may have. Shapes that are new
// are known behind it.
func (m *Machine) allows(s *Site, launches []NewLaunch) *Answer {
	asked := make([]Shape, 0, 4)
	for i := range launches {
		n := &launches[i]
		if _, known := m.launches.Get(n.ID); known {
			continue
		}
		k := slices.IndexFunc(asked, func(x Shape) bool { return x.Name == n.Shape })
		if k < 0 {
			k, asked = len(asked), append(asked, Shape{Name: n.Shape})
		}
		asked[k].Launched++
		m.openShape(s, n.Shape)
	}
	for i := range asked {
		left := uint32(0)
		if k, known := s.findShape(asked[i].Name); known {
			left = s.Shapes[k].Left(m.time)
		}
		if asked[i].Launched > uint64(left) {
			a := refuse(protocol.CodeConflict, fmt.Sprintf("%d pilot jobs of shape %s at site %s are asked for, %d more may be tried now", asked[i].Launched, asked[i].Name, s.ID, left))
			return &a
		}
	}
	return nil
}

// launched notes a launch lease of a shape that is known.
func (m *Machine) launched(s *Site, name string) {
	x := s.shape(name)
	x.Launched++
	x.Unproven++
}

// proved notes that the pilot of a launch lease was given its first task.
func (m *Machine) proved(p *Pilot) {
	l, known := m.launches.Get(p.Launch)
	if !known || m.format < formatAllowance {
		return
	}
	x := m.site(l.Site).shape(l.Shape)
	if x == nil {
		return
	}
	x.Unproven--
	x.Proven++
	x.Allowance = min(x.Allowance+1, MaxAllowance)
	x.Probes, x.Next = 0, 0
}

// cameToNothing notes that an unproven launch lease has ended.
func (m *Machine) cameToNothing(l *Launch, cause EndCause, reason string) {
	if m.format < formatAllowance {
		return
	}
	x := m.site(l.Site).shape(l.Shape)
	if x == nil {
		return
	}
	x.Unproven--
	switch cause {
	case EndDied:
		x.Died++
	case EndRefused:
		x.Refused++
	case EndVain:
		x.Vain++
	default:
		return
	}
	probe := x.Allowance == 1
	x.Allowance = max(1, x.Allowance/2)
	x.Wall, x.Reason = m.wall, reason
	if l.Granted < x.Cut {
		return
	}
	x.Cut = m.time
	if probe {
		x.Next = m.time + min(MinProbe<<min(x.Probes, 10), MaxProbe)
		x.Probes++
	}
}

// inVain tells whether a pilot that ends was launched for nothing: tasks wait that
// its pilot job was launched for, and it was given none.
func (m *Machine) inVain(p *Pilot, l *Launch, verdict protocol.Verdict) bool {
	s := m.site(p.Site)
	if p.Sequence > 0 || unserved(p, s, m.time) != "" || verdict == protocol.VerdictWithdrawn {
		return false
	}
	offer := l.Offer
	s.limit(&offer, m.time)
	return slices.ContainsFunc(m.ready.active, func(c *readyClass) bool {
		lack, _ := s.fits(&c.requirements, &c.sites, &offer, m.time)
		return lack == LackNothing && m.permitted(c, s) > 0
	})
}
