package glidein

import (
	"math"

	"floe/protocol"
)

// budget is what the policy's caps leave for pilot jobs that are not there yet.
type budget struct {
	caps    protocol.SiteCaps
	cores   int
	gpus    int
	scratch protocol.ByteSize
}

// budget counts every pilot job with all that it asks for: its tasks may take that.
func (p *Pass) budget(stations []*station) *budget {
	b := &budget{caps: p.policy.Caps}
	b.cores, b.gpus, b.scratch = b.caps.Cores, b.caps.GPUs, b.caps.Scratch
	for _, s := range stations {
		for _, l := range s.lines {
			b.take(l, l.result.total())
		}
	}
	return b
}

func (b *budget) take(l *line, jobs int) {
	b.cores -= jobs * l.Cores
	b.gpus -= jobs * l.GPUs
	b.scratch -= protocol.ByteSize(jobs) * protocol.ByteSize(l.Disk)
}

// room is how many more pilot jobs of a queue there may be, and by which cap.
func (b *budget) room(l *line) (room int, bound string) {
	room = math.MaxInt32
	if b.caps.Cores > 0 {
		room, bound = max(0, b.cores/l.Cores), "policy.max_cores"
	}
	if n := l.GPUs; b.caps.GPUs > 0 && n > 0 && b.gpus/n < room {
		room, bound = max(0, b.gpus/n), "policy.max_gpus"
	}
	if n := protocol.ByteSize(l.Disk); b.caps.Scratch > 0 && n > 0 && int64(b.scratch/n) < int64(room) {
		room, bound = int(max(0, b.scratch/n)), "policy.max_scratch"
	}
	return room, bound
}

// networkShare is what each pilot may move of the site's cap: as many as there may be
// at most have the same, so that all together keep to it without asking each other.
func (p *Pass) networkShare() protocol.ByteSize {
	if p.policy.Caps.Network == 0 {
		return 0
	}
	pilots := 0
	for _, q := range p.Config.InUse() {
		pilots += q.MaxPilots
	}
	if most := p.Config.Site.MaxPilots; most > 0 {
		pilots = min(pilots, most)
	}
	return max(1, p.policy.Caps.Network/protocol.ByteSize(max(1, pilots)))
}
