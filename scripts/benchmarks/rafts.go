package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"floe/coordinator/replica"
	"floe/protocol"
)

// rawEntries measures how many log entries a second three replicas agree on with
// fsync when every command is an entry of its own and nothing is applied: the rate
// that floe would have without gathering commands.
func rawEntries(ctx context.Context, r *run, d time.Duration) (perSecond float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var members []replica.Member
	var all []*replica.Replica
	var running sync.WaitGroup
	defer func() {
		cancel()
		running.Wait()
		for _, x := range all {
			err = errors.Join(err, x.Close())
		}
	}()
	for i := range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		id := protocol.NodeID(fmt.Sprintf("raw%d", i+1))
		x, err := replica.Open(replica.Config{
			ID: id, Address: listener.Addr().String(), Dir: filepath.Join(r.dir, string(id)), Stream: tcpLayer{listener},
			Machine: nothing{}, Stamp: stampRaw, Logger: quiet, Timing: replica.LANTiming(),
			Limits: replica.Limits{BatchBytes: 1, InFlight: rawCallers},
		})
		if err != nil {
			return 0, errors.Join(err, listener.Close())
		}
		all = append(all, x)
		members = append(members, replica.Member{ID: id, Address: listener.Addr().String()})
		running.Go(func() { _ = x.Run(ctx) }) // what ended it, its proposals say
	}
	for _, x := range all {
		if err := x.Bootstrap(ctx, members...); err != nil {
			return 0, err
		}
	}
	leader, err := awaitLeader(ctx, all)
	if err != nil {
		return 0, err
	}
	command := make([]byte, 64)
	var done atomic.Int64
	working, stop := context.WithTimeout(ctx, d)
	defer stop()
	began := time.Now()
	var callers sync.WaitGroup
	for range rawCallers {
		callers.Go(func() {
			for working.Err() == nil {
				if _, err := leader.Propose(ctx, command); err == nil {
					done.Add(1)
				}
			}
		})
	}
	callers.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), ctx.Err()
}

// rawCallers is how many entries are in flight at most.
const rawCallers = 256

func awaitLeader(ctx context.Context, all []*replica.Replica) (*replica.Replica, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		for _, x := range all {
			if x.IsLeader() {
				return x, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tcpLayer is plain TCP between replicas of one process.
type tcpLayer struct{ net.Listener }

func (tcpLayer) Dial(address string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", address, timeout)
}

func stampRaw(s replica.Stamping) ([]byte, error) {
	var b []byte
	for _, c := range s.Commands {
		b = append(binary.AppendUvarint(b, uint64(len(c))), c...)
	}
	return b, nil
}

// nothing answers every command and keeps nothing.
type nothing struct{}

func (nothing) Apply(_, _ uint64, entry []byte) ([]any, error) {
	var answers []any
	for len(entry) > 0 {
		n, k := binary.Uvarint(entry)
		entry = entry[k+int(n):]
		answers = append(answers, nil)
	}
	return answers, nil
}

func (nothing) Snapshot() (replica.Snapshot, error) { return nothing{}, nil }
func (nothing) Restore(io.Reader) error             { return nil }
func (nothing) Persist(io.Writer) error             { return nil }
func (nothing) Release()                            {}
