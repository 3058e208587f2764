package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"floe/coordinator/history"
	"floe/coordinator/state"
	"floe/protocol"
)

// life makes log entries of whole task lives: pilots pull eight tasks at a time and
// report them in the next entry.
type life struct {
	b          *testing.B
	m          *state.Machine
	index      uint64
	pilots     int
	statistics int
	held       [][]state.Grant
}

func newLife(b *testing.B, pilots, statistics int) (l *life, setup [][]byte) {
	l = &life{b: b, m: state.New(), pilots: pilots, statistics: statistics, held: make([][]state.Grant, pilots)}
	add := func(commands ...state.Command) {
		entry := l.entry(commands...)
		l.apply(entry)
		setup = append(setup, entry)
	}
	for d := range 16 {
		add(&state.SubmitDataset{
			Dataset: protocol.DatasetID(d + 1), Jobs: 10_000_000,
			Facts: state.Facts{Owner: "ann", Steering: protocol.DigestOf([]byte("s")), LanguageVersion: 1},
			Tasks: []state.TaskSpec{{Name: "a", Classes: []state.Class{{Requirements: protocol.Requirements{Cores: 1 + d%2}}}}},
		})
	}
	add(&state.PutSite{Site: "mill"})
	for p := range pilots {
		ticket := protocol.DigestOf([]byte(l.pilot(p)))
		add(&state.PutTicket{Site: "mill", Hash: ticket, Uses: 1, Expires: state.Day},
			&state.EnrolPilot{Pilot: l.pilot(p), Site: "mill", TicketHash: ticket, PublicKey: make([]byte, 32), Host: "n1", Resources: l.free()})
	}
	return l, setup
}

func (l *life) pilot(p int) protocol.PilotID { return protocol.PilotID(fmt.Sprintf("pilot-%08d", p)) }

func (*life) free() protocol.Resources {
	return protocol.Resources{Cores: 64, Memory: 64 * protocol.GB, Disk: 64 * protocol.GB}
}

func (l *life) entry(commands ...state.Command) []byte {
	e := state.Entry{Term: 1, Elapsed: state.Second / 500, Wall: 1000}
	for _, c := range commands {
		b, err := state.EncodeCommand(c)
		if err != nil {
			l.b.Fatal(err)
		}
		e.Commands = append(e.Commands, b)
	}
	return state.EncodeEntry(&e)
}

func (l *life) apply(entry []byte) []state.Answer {
	l.index++
	answers, _, err := l.m.Apply(l.index, 1, entry)
	if err != nil {
		l.b.Fatal(err)
	}
	return answers
}

// round makes an entry in which some pilots report what they hold and pull anew,
// and tells how many tasks it ends.
func (l *life) round(from, to int) (entry []byte, ended int) {
	var commands []state.Command
	for p := from; p < to; p++ {
		for i := range l.held[p] {
			lease := &l.held[p][i].Lease
			r := &state.Report{
				Lease: lease.ID, Task: lease.Task, Pilot: lease.Pilot, Verdict: protocol.VerdictOK, Cleaned: true,
				Usage: protocol.Usage{WallMillis: 1000, CPUMillis: 900, PeakMemory: protocol.GB, Cores: 1},
			}
			for s := range l.statistics {
				r.Statistics = append(r.Statistics, protocol.Statistic{Name: fmt.Sprintf("statistic_%02d", s), Value: float64(l.index) / float64(s+1)})
			}
			commands = append(commands, r)
			ended++
		}
		commands = append(commands, &state.Acquire{Pilot: l.pilot(p), Free: l.free(), Want: 8})
	}
	entry = l.entry(commands...)
	answers := l.apply(entry)
	p := from
	for _, a := range answers {
		if len(a.Grants) > 0 {
			l.held[p] = a.Grants
			p++
		}
	}
	if p != to {
		l.b.Fatalf("%d pilots were given tasks, want %d", p-from, to-from)
	}
	return entry, ended
}

// BenchmarkLife is what one coordinator does for a task's life, beside Raft and the
// network: the record, the chain and the ledger, synced at the end.
func BenchmarkLife(b *testing.B) {
	for _, statistics := range []int{0, 20} {
		b.Run(fmt.Sprintf("statistics=%d", statistics), func(b *testing.B) {
			const pilots, perEntry, rounds = 256, 8, 1000
			l, log := newLife(b, pilots, statistics)
			tasks := 0
			for r := range rounds {
				from := r * perEntry % pilots
				entry, ended := l.round(from, from+perEntry)
				log = append(log, entry)
				tasks += ended
			}
			bytes := 0
			for _, e := range log {
				bytes += len(e)
			}
			b.ResetTimer()
			n := 0
			var spent time.Duration
			for b.Loop() {
				b.StopTimer()
				ledger, err := history.Open(history.Config{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- ledger.Run(ctx) }()
				m := &machine{state: state.New(), hashes: newHashes(), ledger: ledger, observe: func([]state.Event) {}}
				begin := cpuTime(b)
				b.StartTimer()
				for i, e := range log {
					if _, err := m.Apply(uint64(i+1), 1, e); err != nil {
						b.Fatal(err)
					}
				}
				if err := ledger.SyncTo(ctx, uint64(len(log))); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				spent += cpuTime(b) - begin
				n += tasks
				cancel()
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				_ = ledger.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/task")
			b.ReportMetric(float64(bytes)/float64(tasks), "log-B/task")
			b.ReportMetric(float64(spent.Nanoseconds())/float64(n), "cpu-ns/task")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpuTime is what the process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
