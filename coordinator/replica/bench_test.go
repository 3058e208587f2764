package replica

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// tcp is a plain layer on loopback, for the benchmark alone.
type tcp struct{ net.Listener }

func (tcp) Dial(address string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", address, timeout)
}

// BenchmarkPropose measures acknowledged commands with fsync: one node and three, by
// size of the command and number of callers that each wait for their receipt.
func BenchmarkPropose(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		for _, size := range []int{64, 4096, 64 << 10} {
			for _, callers := range []int{1, 64, 1024} {
				b.Run(fmt.Sprintf("nodes=%d/bytes=%d/callers=%d", nodes, size, callers), func(b *testing.B) {
					benchmarkPropose(b, nodes, size, callers)
				})
			}
		}
	}
}

func benchmarkPropose(b *testing.B, nodes, size, callers int) {
	c := &cluster{t: b}
	var founders []Member
	for i := range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		n := &node{config: testConfig(b, b.TempDir(), i), machine: &record{}}
		n.config.Address, n.config.Stream, n.config.Machine = l.Addr().String(), tcp{l}, discard{}
		n.config.Timing = LANTiming()
		n.Replica, err = Open(n.config)
		if err != nil {
			b.Fatal(err)
		}
		n.run(b)
		c.nodes = append(c.nodes, n)
		founders = append(founders, Member{ID: n.config.ID, Address: n.config.Address})
	}
	for _, n := range c.nodes {
		if err := n.Bootstrap(b.Context(), founders...); err != nil {
			b.Fatal(err)
		}
	}
	l := c.leader()
	command := make([]byte, size)
	rand.Read(command)
	var left atomic.Int64
	left.Store(int64(b.N))
	before := l.Stats()
	b.SetBytes(int64(size))
	b.ResetTimer()
	done := make(chan error, callers)
	for range callers {
		go func() {
			for left.Add(-1) >= 0 {
				if _, err := l.Propose(b.Context(), command); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	s := l.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
	b.ReportMetric(float64(s.Commands-before.Commands)/float64(s.Entries-before.Entries), "commands/entry")
}

// discard is a machine that answers and keeps nothing.
type discard struct{ Machine }

func (discard) Apply(_, _ uint64, entry []byte) ([]any, error) {
	var answers []any
	for len(entry) > 0 {
		n, k := binary.Uvarint(entry)
		entry = entry[k+int(n):]
		answers = append(answers, nil)
	}
	return answers, nil
}
