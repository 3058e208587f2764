package state

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"floe/protocol"
)

const benchPilots = 128

// bench returns a rig with datasets of one task, or of a chain, and pilots.
func bench(b *testing.B, datasets int, jobs uint32, tasks int) *rig {
	b.Helper()
	r := newRig(b)
	r.quick = true
	for d := range datasets {
		r.do(protocol.CodeOK, submission(protocol.DatasetID(d+1), jobs, chain(tasks)))
	}
	for p := range benchPilots {
		r.enrol(pilotName(p), "mill", big)
	}
	return r
}

func pilotName(p int) protocol.PilotID { return protocol.PilotID(fmt.Sprintf("p%d", p)) }

// round is one task's life for each pilot: an entry of acquires and one of reports.
func (r *rig) round(verdict protocol.Verdict) {
	commands := make([]Command, benchPilots)
	for p := range benchPilots {
		commands[p] = &Acquire{Pilot: pilotName(p), Free: big, Want: 1}
	}
	answers, _ := r.apply(Second/1000, commands...)
	for p := range benchPilots {
		if len(answers[p].Grants) == 0 {
			r.t.Fatalf("nothing granted to pilot %d: %s", p, answers[p].Reason)
		}
		l := &answers[p].Grants[0].Lease
		c := success(l)
		c.Statistics = []protocol.Statistic{{Name: "events", Value: 17}}
		if verdict != protocol.VerdictOK {
			c = failure(l, verdict)
		}
		commands[p] = c
	}
	r.apply(Second/1000, commands...)
}

// BenchmarkApply replays a log of acquires and reports, as restarting nodes and
// followers do: decoded from CBOR, in entries of 128 commands.
func BenchmarkApply(b *testing.B) {
	for _, tasks := range []int{1, 4} {
		b.Run(fmt.Sprintf("tasks=%d", tasks), func(b *testing.B) {
			r := bench(b, 10, 1_000_000, tasks)
			setup := len(r.log)
			for range 200 {
				r.round(protocol.VerdictOK)
			}
			log, term := r.log, r.term
			commands, events := 0, 0
			var spent time.Duration
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				m := New()
				for i, entry := range log[:setup] {
					if _, _, err := m.Apply(uint64(i+1), term, entry); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				begin := time.Now()
				for i, entry := range log[setup:] {
					answers, happened, err := m.Apply(uint64(setup+i+1), term, entry)
					if err != nil {
						b.Fatal(err)
					}
					commands += len(answers)
					events += len(happened)
				}
				spent += time.Since(begin)
			}
			b.ReportMetric(float64(commands)/spent.Seconds(), "commands/s")
			b.ReportMetric(float64(events)/float64(commands), "events/command")
		})
	}
}

// BenchmarkAcquireBacklog is one pull and the end of it, by how much is queued.
// The task is preempted, so that the backlog stays.
func BenchmarkAcquireBacklog(b *testing.B) {
	for _, jobs := range []uint32{1_000, 100_000, 10_000_000} {
		b.Run(fmt.Sprintf("queued=%d", jobs), func(b *testing.B) {
			r := bench(b, 1, jobs, 1)
			rounds := 0
			b.ResetTimer()
			for b.Loop() {
				r.log = nil
				r.round(protocol.VerdictPreempted)
				rounds++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rounds*benchPilots), "ns/task")
		})
	}
}

// BenchmarkHundredMillionTasks measures what the record of 1,000 datasets of
// 100,000 jobs takes in memory, and how long a snapshot holds up the log.
func BenchmarkHundredMillionTasks(b *testing.B) {
	r := bench(b, 1000, 100_000, 1)
	r.log = nil
	var heap runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&heap)
	var pause, persist, restore time.Duration
	var size, n int
	for b.Loop() {
		begin := time.Now()
		f := r.m.Snapshot()
		pause += time.Since(begin)
		begin = time.Now()
		record := persisted(b, f)
		persist += time.Since(begin)
		begin = time.Now()
		if err := New().Restore(bytes.NewReader(record)); err != nil {
			b.Fatal(err)
		}
		restore += time.Since(begin)
		size = len(record)
		n++
	}
	b.ReportMetric(float64(heap.HeapAlloc)/(1<<20), "heap-MiB")
	b.ReportMetric(float64(size)/(1<<20), "record-MiB")
	b.ReportMetric(float64(pause.Microseconds())/float64(n), "pause-µs")
	b.ReportMetric(persist.Seconds()*1000/float64(n), "persist-ms")
	b.ReportMetric(restore.Seconds()*1000/float64(n), "restore-ms")
}
