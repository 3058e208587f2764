package history

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"floe/protocol"
)

// BenchmarkAppend measures whole reports of 20 statistics into a synced journal,
// sealing included.
func BenchmarkAppend(b *testing.B) {
	l, err := Open(Config{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	statistics := make([]protocol.Statistic, 20)
	for i := range statistics {
		statistics[i].Name = fmt.Sprintf("statistic_%d", i)
	}
	const perEntry = 64
	index := uint64(0)
	for n := 0; b.Loop(); n++ {
		if n%perEntry != 0 {
			continue
		}
		index++
		events := entry(index)
		for j := range uint64(perEntry) {
			lease := index*perEntry + j
			s := append([]protocol.Statistic(nil), statistics...)
			for k := range s {
				s[k].Value = float64(lease) / float64(k+1)
			}
			e := entry(index, ended(lease, protocol.DatasetID(1+index%50), 0, protocol.JobIndex(lease), true, s...))[0]
			e.Ordinal = uint32(j)
			events = append(events, e)
		}
		l.Append(index, events)
	}
	if err := l.SyncTo(ctx, index); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	_ = l.Close()
}

// BenchmarkFirstPage measures the first 100 attempts of one dataset among many in a
// sealed history.
func BenchmarkFirstPage(b *testing.B) {
	l, err := Open(Config{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler), JournalLimit: 20_000})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	const entries = 1000
	for i := uint64(1); i <= entries; i++ {
		events := entry(i)
		for j := range uint64(100) {
			e := entry(i, ended(i*100+j, protocol.DatasetID(1+j%50), 0, protocol.JobIndex(i*2+j/50), true, protocol.Statistic{Name: "v", Value: 1}))[0]
			e.Ordinal = uint32(j)
			events = append(events, e)
		}
		l.Append(i, events)
	}
	if err := l.SyncTo(ctx, entries); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := l.AttemptsPage(ctx, AttemptQuery{Dataset: 17})
		if err != nil || len(p.Attempts) != 100 {
			b.Fatal(len(p.Attempts), err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	_ = l.Close()
}
