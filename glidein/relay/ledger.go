package relay

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"floe/protocol"
)

// Limits bound what clients can make a relay hold and carry. Zero fields take the default.
type Limits struct {
	// Strangers bounds connections that have shown no pass, and StrangersPerHost those
	// from one address; defaults 512 and 64. Handshake is how long one may take to show
	// it; default 10 s.
	Strangers, StrangersPerHost int
	Handshake                   time.Duration
	// Tunnels bounds those open at once, and TunnelsPerPilot those of one pilot job;
	// defaults 4,096 and 32: a pilot has one to the coordinators, or two while it changes,
	// and one for each file under way.
	Tunnels, TunnelsPerPilot int
	// Dial is how long the far side may take to answer; default 10 s.
	Dial time.Duration
	// Idle closes a tunnel through which nothing has passed; default 10 min, twice the
	// longest silence of a healthy pilot.
	Idle time.Duration
	// Bytes is what may pass for one pilot job, both ways together; default 1 TB.
	Bytes protocol.ByteSize
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	span := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.Strangers, 512)
	set(&l.StrangersPerHost, 64)
	set(&l.Tunnels, 4096)
	set(&l.TunnelsPerPilot, 32)
	span(&l.Handshake, 10*time.Second)
	span(&l.Dial, 10*time.Second)
	span(&l.Idle, 10*time.Minute)
	if l.Bytes == 0 {
		l.Bytes = 1000 * protocol.GB
	}
	return l
}

// ledger counts what everybody holds and has used.
type ledger struct {
	limits                         *Limits
	opened, refused, failed, bytes atomic.Uint64

	mu        sync.Mutex
	strangers map[string]int // by host
	waiting   int            // all strangers
	tunnels   int
	pilots    int                            // that hold tunnels
	accounts  map[protocol.LaunchID]*account // kept until the pass has ended
	swept     time.Time                      // when ended accounts were last looked for
}

// account is what one pilot job holds and has used.
type account struct {
	all     *ledger
	expires time.Time
	tunnels int // guarded by ledger.mu
	used    atomic.Int64
}

func newLedger(l *Limits) *ledger {
	return &ledger{limits: l, strangers: map[string]int{}, accounts: map[protocol.LaunchID]*account{}}
}

// arrive counts a stranger in, or says that there are too many.
func (l *ledger) arrive(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting >= l.limits.Strangers || l.strangers[host] >= l.limits.StrangersPerHost {
		l.refused.Add(1)
		return false
	}
	l.waiting++
	l.strangers[host]++
	return true
}

// depart counts a stranger out: it has shown who it is, or has gone.
func (l *ledger) depart(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
	if l.strangers[host]--; l.strangers[host] == 0 {
		delete(l.strangers, host)
	}
}

// open counts a tunnel in, or says why there may be none.
func (l *ledger) open(launch protocol.LaunchID, expires, now time.Time) (*account, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) > time.Hour {
		l.swept = now
		for id, a := range l.accounts {
			if a.tunnels == 0 && now.After(a.expires) {
				delete(l.accounts, id)
			}
		}
	}
	a := l.accounts[launch]
	if a == nil {
		a = &account{all: l}
		l.accounts[launch] = a
	}
	a.expires = expires
	switch {
	case l.tunnels >= l.limits.Tunnels:
		return nil, fmt.Errorf("%d tunnels are open, which is the limit", l.tunnels)
	case a.tunnels >= l.limits.TunnelsPerPilot:
		return nil, fmt.Errorf("pilot job %s has %d tunnels open, which is the limit", launch, a.tunnels)
	case a.used.Load() >= int64(l.limits.Bytes):
		return nil, fmt.Errorf("pilot job %s has used up its %v", launch, l.limits.Bytes)
	}
	l.tunnels++
	if a.tunnels++; a.tunnels == 1 {
		l.pilots++
	}
	return a, nil
}

func (l *ledger) close(a *account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tunnels--
	if a.tunnels--; a.tunnels == 0 {
		l.pilots--
	}
}

// spend counts bytes, and says whether there are some left.
func (a *account) spend(n int) bool {
	a.all.bytes.Add(uint64(n))
	return a.used.Add(int64(n)) < int64(a.all.limits.Bytes)
}

func (l *ledger) figures() Figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Figures{
		Tunnels: l.tunnels, Pilots: l.pilots, Opened: l.opened.Load(),
		Refused: l.refused.Load(), Failed: l.failed.Load(), Bytes: l.bytes.Load(),
	}
}
