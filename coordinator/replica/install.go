package replica

import "fmt"

// maxInstalls is how often the same snapshot may be restored without one entry
// applied in between. Source: research E1.4 (raft#697).
const maxInstalls = 3

// installGuard notices that a leader installs the same snapshot over and over: it
// cannot find common ground with this node's log (raft#697) and never will.
type installGuard struct {
	index uint64 // of the last snapshot restored
	times int    // it was, since the last entry
}

// saw counts a restore.
func (g *installGuard) saw(index uint64) error {
	if g.times++; index != g.index {
		g.index, g.times = index, 1
	}
	if g.times < maxInstalls {
		return nil
	}
	return fmt.Errorf("%w: %d times at index %d; this member must join again under a new id", ErrInstallLoop, g.times, index)
}

// progress starts the count anew.
func (g *installGuard) progress() { g.times = 0 }
