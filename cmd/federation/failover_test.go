package federation

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"floe/coordinator/replica"
	"floe/protocol"
	"floe/protocol/transport"
)

// TestWritesResume ends the leader again and again while people and pilots write, and
// measures in virtual time how long nothing is acknowledged (I-27).
func TestWritesResume(t *testing.T) {
	if testing.Short() {
		t.Skip("a seed is enough")
	}
	t.Parallel()
	run(t, 1, func(f *federation) {
		f.timing = replica.LANTiming()
		f.open(1, 8)
		for _, s := range f.sites {
			s.start()
		}
		f.submit(200)
		f.pause(3 * time.Minute)
		var killed, stopped []time.Duration
		for i := range 8 {
			n := f.leader()
			if n == nil {
				f.t.Fatal("nobody leads")
			}
			kill := i%4 != 3
			f.archive.gather()
			f.settle()
			begin := f.now()
			if kill {
				n.kill(i%2 == 0)
			} else {
				// Its pilots' parked exchanges are drained behind the hand-over.
				f.ask(func() error { n.stop(); return nil })
			}
			took := f.acknowledged() - begin
			f.trace.Info("writes resumed", "ended", begin, "took", took)
			if kill {
				killed = append(killed, took)
			} else {
				stopped = append(stopped, took)
			}
			f.pause(30 * time.Second)
			n.start()
			f.pause(2 * time.Minute)
		}
		slices.Sort(killed)
		slices.Sort(stopped)
		f.t.Logf("writes resumed after a kill in %v, after a stop in %v", killed, stopped)
		// One vote in some dozens is split, and then takes another round.
		if slow := killed[len(killed)-2]; slow > 10*time.Second {
			f.t.Errorf("I-27: writes resumed after %v", slow)
		}
		if slow := stopped[len(stopped)-1]; slow > 2*time.Second {
			f.t.Errorf("I-27: writes resumed after a planned stop in %v", slow)
		}
		f.finish()
	})
}

// acknowledged writes until that is acknowledged, and returns when it was.
func (f *federation) acknowledged() time.Duration {
	for {
		// A person who starts a program anew, as scripts do: it knows all addresses.
		c := f.client(f.outside, transport.ClientConfig{Addresses: f.addresses(), Bearer: f.admin.Credential})
		ctx, cancel := context.WithTimeout(f.ctx, time.Minute)
		request := &protocol.ActionRequest{Action: "priority", Value: 1, Reason: "still there?"}
		err := c.CallJSON(ctx, "POST", fmt.Sprintf("/v1/datasets/%d/actions", f.known()[0].id), request, new(protocol.ActionReply), transport.Idempotent())
		cancel()
		c.Close()
		if err == nil {
			return f.now()
		}
		f.trace.Info("not acknowledged", "at", f.now(), "err", err)
	}
}

// TestASiteCutOffBeyondTheFence cuts a site off for longer than a payload may go on
// without any coordinator: it is killed at the fence, the task is done elsewhere, and
// counts once (I-10).
func TestASiteCutOffBeyondTheFence(t *testing.T) {
	if testing.Short() {
		t.Skip("a seed is enough")
	}
	t.Parallel()
	run(t, 2, func(f *federation) {
		f.long = 2 * time.Hour
		f.open(2, 4)
		f.sites[0].start()
		f.submit(4)
		f.pause(5 * time.Minute)
		cut, hosts := f.now(), f.sites[0].hosts()
		coordinators, _ := f.everybody()
		f.network.set(fault{cut: true}, coordinators, hosts)
		f.network.set(fault{cut: true}, hosts, coordinators)
		f.long = 0
		f.sites[1].start()
		f.pause(time.Hour)
		f.mu.Lock()
		ends := slices.Clone(f.fenced)
		f.mu.Unlock()
		if len(ends) == 0 {
			f.t.Error("I-10: no payload was fenced")
		}
		for _, at := range ends {
			// A pilot looks at its fence between two exchanges that nobody answers.
			if at < cut+40*time.Minute-time.Minute || at > cut+40*time.Minute+3*time.Minute {
				f.t.Errorf("I-10: a payload was fenced %v after its last coordinator", at-cut)
			}
		}
		f.finish()
	})
}
