package coordinator

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"floe/coordinator/replica"
	"floe/protocol"
)

func TestDiskLimits(t *testing.T) {
	const gib = 1 << 30
	for _, test := range []struct {
		name        string
		config      Disk
		total       protocol.ByteSize
		free        []protocol.ByteSize // measured one after the other
		low         []bool
		full        bool // the last measurement ends the coordinator
		lowAt, stop protocol.ByteSize
	}{
		{"small", Disk{}, 5 * gib, []protocol.ByteSize{2 * gib, gib, gib - 1, gib / 10}, []bool{false, false, true, true}, false, gib, 5 * gib / 50},
		{"middling", Disk{}, 50 * gib, []protocol.ByteSize{6 * gib, 4 * gib, 5 * gib, 7 * gib}, []bool{false, true, true, false}, false, 5 * gib, gib},
		{"large", Disk{}, 2000 * gib, []protocol.ByteSize{11 * gib, 9 * gib, 2*gib - 1}, []bool{false, true, true}, true, 10 * gib, 2 * gib},
		{"set", Disk{Low: 100, Stop: 7}, 1000, []protocol.ByteSize{100, 99, 124, 125, 7, 6}, []bool{false, true, true, false, true, true}, true, 100, 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			if low, stop := test.config.limits(test.total); low != test.lowAt || stop != test.stop {
				t.Errorf("limits = %v, %v; want %v, %v", low, stop, test.lowAt, test.stop)
			}
			var free protocol.ByteSize
			test.config.Measure = func() (protocol.ByteSize, protocol.ByteSize, error) { return free, test.total, nil }
			w := newDiskWatch(test.config, "dir", nil)
			for i := range test.free {
				free = test.free[i]
				err := w.look()
				if last := i == len(test.free)-1; errors.Is(err, replica.ErrDiskFull) != (last && test.full) {
					t.Errorf("with %v free: %v", free, err)
				}
				if w.now().Low != test.low[i] || w.now().Free != free {
					t.Errorf("with %v free: %+v, want low %v", free, w.now(), test.low[i])
				}
			}
		})
	}
}

// A leader whose disk is nearly full hands over to one that has room, and goes on
// where none has; where nothing is left it ends by name (I-24).
func TestAFullDiskDoesNotLead(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three coordinators")
	}
	t.Parallel()
	c := newTrio(t, replica.Limits{}, 3)
	free := map[protocol.NodeID]*atomic.Int64{}
	for id, config := range c.configs {
		level := new(atomic.Int64)
		level.Store(900)
		free[id] = level
		config.Disk = Disk{Low: 100, Stop: 20, Every: 20 * time.Millisecond, Measure: func() (protocol.ByteSize, protocol.ByteSize, error) {
			return protocol.ByteSize(level.Load()), 1000, nil
		}}
		c.running[id].end()
		c.start(id)
	}
	c.settle(3)
	first := c.leader().cluster.Node()
	free[first].Store(50)
	c.await("leadership to move to a disk with room", func() bool {
		l := c.leader()
		return l != nil && l.cluster.Node() != first
	})
	if !c.running[first].disk.now().Low {
		t.Error("the disk that was filled is not known to be low")
	}
	for _, level := range free {
		level.Store(50)
	}
	c.await("all to be low", func() bool {
		l := c.leader()
		return l != nil && l.disk.now().Low
	})
	leader := c.leader()
	free[leader.cluster.Node()].Store(10)
	<-leader.ended
	if !errors.Is(leader.err, replica.ErrDiskFull) || replica.ExitCode(leader.err) != 74 {
		t.Errorf("with nothing free it ended with %v, code %d; want ErrDiskFull, 74", leader.err, replica.ExitCode(leader.err))
	}
	delete(c.running, leader.cluster.Node())
	if err := c.refused(leader.cluster.Node()); !errors.Is(err, replica.ErrDiskFull) {
		t.Errorf("started again with nothing free: %v, want ErrDiskFull", err)
	}
}
