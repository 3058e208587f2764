package main

import (
	"bytes"
	"strings"
	"testing"

	"floe/protocol"
)

// What cards did is shown where it is known, nothing as nothing.
func TestWhatCardsDidIsShown(t *testing.T) {
	show := func(print func(*printer) error) string {
		var out bytes.Buffer
		if err := print(&printer{out: &out, tty: true}); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out.String()), " ")
	}
	none, some, peak := int64(0), int64(90_000), 2*protocol.GB
	statistics := show(func(p *printer) error {
		return printStatistics(p, &protocol.StatisticsReply{
			Used:   protocol.UsageTotal{Attempts: 3, CPUMillis: 60_000, GPUMillis: &some},
			Wasted: protocol.UsageTotal{Attempts: 1, CPUMillis: 60_000},
		})
	})
	for _, want := range []string{"used 1m0s of CPU and 1m30s of GPU in 3 attempts", "wasted 1m0s of CPU in 1 attempts"} {
		if !strings.Contains(statistics, want) {
			t.Errorf("statistics: %s\nwant %q", statistics, want)
		}
	}
	for want, used := range map[string]protocol.Usage{
		"1m0s 0B 1m30s 2GB": {CPUMillis: 60_000, GPUMillis: &some, PeakGPUMemory: &peak},
		"1m0s 0B 0s -":      {CPUMillis: 60_000, GPUMillis: &none},
		"1m0s 0B - -":       {CPUMillis: 60_000},
	} {
		task := show(func(p *printer) error {
			return printTask(p, &protocol.Task{Attempts: []protocol.Attempt{{Usage: used}}})
		})
		if !strings.Contains(task, want) {
			t.Errorf("task: %s\nwant %q", task, want)
		}
	}
}
