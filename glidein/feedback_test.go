package glidein_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func TestHowPilotJobsEndedIsToldUntilItIsHeard(t *testing.T) {
	p, b, c := newPass(t, 9, 9)
	c.want = 4
	run(t, p)
	say := func(launch, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(p.Config.Directory, "jobs", "floe-"+launch, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	say("l1", "output", "starting\nenrol: no route to \x1b[31mhost\n\n")
	say("l2", "batch-output", "slurmstepd: error: no such directory\n")
	delete(b.jobs, "l1")
	delete(b.jobs, "l2")
	c.want, c.err = 0, errors.New("connection refused")
	if _, err := p.Run(t.Context()); err == nil {
		t.Error("no coordinator answers, and the pass does not say so")
	}
	delete(b.jobs, "l3")
	c.err = nil
	run(t, p)
	want := []protocol.EndedLaunch{
		{Launch: "l1", Reason: "enrol: no route to [31mhost"}, {Launch: "l2", Reason: "slurmstepd: error: no such directory"}, {Launch: "l3"},
	}
	if d := cmp.Diff(want, c.asked[2].Ended); d != "" {
		t.Errorf("told after it was not heard (-want +got):\n%s", d)
	}
	run(t, p)
	if told := c.asked[3].Ended; len(told) != 0 {
		t.Errorf("told again %+v, want each once", told)
	}
}

func TestAJobThatAPassRemovedIsHeldAgainstNobody(t *testing.T) {
	p, b, c := newPass(t, 9, 9)
	c.want = 2
	run(t, p)
	c.want, c.remove = 0, []protocol.LaunchID{"l1"}
	run(t, p)
	b.submitErr = fmt.Errorf("%w: no answer", batch.ErrTransient)
	c.want, c.remove = 1, nil
	if _, err := p.Run(t.Context()); !errors.Is(err, batch.ErrTransient) {
		t.Errorf("a submission without an answer: %v", err)
	}
	delete(b.jobs, "l1")
	c.want = 0
	run(t, p)
	var got []protocol.LaunchEnd
	for _, e := range c.asked[3].Ended {
		got = append(got, e.How)
	}
	if d := cmp.Diff([]protocol.LaunchEnd{protocol.LaunchRemoved, protocol.LaunchUnknown}, got); d != "" {
		t.Errorf("how those ended that were removed and never answered for (-want +got):\n%s", d)
	}
}

func TestStraysAreRemovedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b, c := newPass(t, 9, 9)
		c.want = 0
		b.jobs["stray"], b.jobs["other"] = batch.Running, batch.Running
		c.strays = []protocol.LaunchID{"stray", "other"}
		run(t, p)
		<-time.After(50 * time.Minute)
		if run(t, p); len(b.removed) != 0 || c.asked[1].Known[0].For < 3000 {
			t.Errorf("after 50 minutes %v are removed, known is %+v; want none, and for how long they run", b.removed, c.asked[1].Known)
		}
		c.strays = []protocol.LaunchID{"stray"} // the other's pilot came back
		run(t, p)
		<-time.After(10 * time.Minute)
		c.strays = []protocol.LaunchID{"stray", "other"}
		r := run(t, p)
		if !slices.Equal(b.removed, []batch.JobID{"id-stray"}) || !slices.Equal(r.Removed, []protocol.LaunchID{"stray"}) {
			t.Errorf("after an hour %v are removed, want the one that no coordinator knew all the time", b.removed)
		}
	})
}

func TestQueuesGrowByAPartOfWhatRuns(t *testing.T) {
	p, b, _ := newPass(t, 1000, 1000)
	p.Config.Queue.Ramp = 3
	var grown []int
	for range 8 {
		r := run(t, p)
		if r.Queues[0].Bound != "ramp" {
			t.Fatalf("room %d by %s, want by the ramp", r.Queues[0].Room, r.Queues[0].Bound)
		}
		grown = append(grown, len(r.Submitted))
		for l := range b.jobs {
			b.jobs[l] = batch.Running
		}
	}
	if d := cmp.Diff([]int{10, 10, 10, 10, 13, 17, 23, 31}, grown); d != "" {
		t.Errorf("pilot jobs submitted, pass by pass (-want +got):\n%s", d)
	}
}

func TestReportsGoAsFarAsTheyFit(t *testing.T) {
	p, _, c := newPass(t, 1, 1)
	big := make([]protocol.SignedReport, 9)
	for i := range big {
		big[i].Body = make([]byte, 200<<10)
	}
	p.Spool = fakeSpool(big)
	run(t, p)
	b, err := protocol.Marshal(c.asked[0])
	if err != nil || len(b) > protocol.MaxExchangeBytes || len(c.asked[0].Reports) != 4 {
		t.Errorf("a request of %d bytes with %d reports, %v; want at most %d bytes, with four", len(b), len(c.asked[0].Reports), err, protocol.MaxExchangeBytes)
	}
}

type fakeSpool []protocol.SignedReport

func (s fakeSpool) Pending(limit int) ([]protocol.SignedReport, error) {
	return s[:min(limit, len(s))], nil
}

func (fakeSpool) Delivered([]protocol.ReportAnswer) error { return nil }

var _ glidein.Spool = fakeSpool(nil)
