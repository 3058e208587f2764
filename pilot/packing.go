package pilot

import (
	"slices"
	"time"

	"floe/protocol"
)

// packing is what the node has and what running attempts take of it. It is owned
// by the pilot's conversation.
type packing struct {
	all protocol.Resources
	end time.Time // of the batch slot; zero is not known
	// closes is when the site does; zero is not known.
	closes time.Time
	used   map[protocol.LeaseID]share
}

// share is what one attempt takes.
type share struct {
	cores  int
	memory protocol.ByteSize
	disk   protocol.ByteSize
	gpus   []string // ids
}

func newPacking(all protocol.Resources, end time.Time) *packing {
	return &packing{all: all, end: end, used: map[protocol.LeaseID]share{}}
}

// take reserves what a lease was granted and chooses its cards.
func (p *packing) take(l *protocol.Lease) share {
	s := share{cores: max(1, l.Granted.Cores), memory: l.Granted.Memory, disk: l.Granted.Disk}
	for _, g := range p.cards() {
		if len(s.gpus) < l.Granted.GPUs && fitsCard(l, &g) {
			s.gpus = append(s.gpus, g.ID)
		}
	}
	p.used[l.ID] = s
	return s
}

// hasRoom tells whether what a lease was granted is free; also where nothing is taken
// at all: it will not be more.
func (p *packing) hasRoom(l *protocol.Lease) bool {
	f := p.free(time.Time{})
	cards := 0
	for _, g := range f.GPUs {
		if fitsCard(l, &g) {
			cards++
		}
	}
	return len(p.used) == 0 ||
		max(1, l.Granted.Cores) <= f.Cores && l.Granted.Memory <= f.Memory && l.Granted.Disk <= f.Disk && l.Granted.GPUs <= cards
}

// fitsCard tells whether a card is sound, and one of those that a lease was granted.
func fitsCard(l *protocol.Lease, g *protocol.GPU) bool {
	return g.Tested && g.Memory >= l.Granted.GPUMemory && g.Capability >= l.Granted.GPUCapability
}

// finish gives back what an attempt ran on; its disk stays until it has cleaned up.
func (p *packing) finish(id protocol.LeaseID) {
	if s, taken := p.used[id]; taken {
		p.used[id] = share{disk: s.disk}
	}
}

func (p *packing) release(id protocol.LeaseID) { delete(p.used, id) }

// retire takes cards out of use. They stay in the list, for the coordinators to see.
func (p *packing) retire(ids []string) {
	p.all.GPUs = slices.Clone(p.all.GPUs)
	for i := range p.all.GPUs {
		if slices.Contains(ids, p.all.GPUs[i].ID) {
			p.all.GPUs[i].Tested = false
		}
	}
}

// cards are the GPUs that are left.
func (p *packing) cards() []protocol.GPU {
	return slices.DeleteFunc(slices.Clone(p.all.GPUs), func(g protocol.GPU) bool {
		for _, s := range p.used {
			if slices.Contains(s.gpus, g.ID) {
				return true
			}
		}
		return false
	})
}

// free is what is left, with the time that remains of the slot.
func (p *packing) free(now time.Time) protocol.Resources {
	f := p.all
	f.GPUs = p.cards()
	for _, s := range p.used {
		f.Cores -= s.cores
		f.Memory -= s.memory
		f.Disk -= s.disk
	}
	f.Cores, f.Memory, f.Disk = max(0, f.Cores), max(0, f.Memory), max(0, f.Disk)
	end := p.end
	if !p.closes.IsZero() && (end.IsZero() || p.closes.Before(end)) {
		end = p.closes
	}
	if !end.IsZero() {
		f.Remaining = max(1, protocol.Seconds(end.Sub(now)/time.Second)) // 0 would say that no end is known
	}
	return f
}
