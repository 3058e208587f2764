package main

import (
	"fmt"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// feed makes the log of a federation at work, as a leader would: pilots pull tasks
// and report them. It holds the record that the log leads to.
type feed struct {
	record *state.Machine
	// deliver, where there is one, takes each entry after the record has.
	deliver func(index uint64, entry []byte, events []state.Event) error

	pilots     int
	slots      int // tasks a pilot pulls at a time
	statistics int // with each report
	outputs    bool
	held       [][]state.Grant // by pilot
	names      []string        // of the statistics
}

func newFeed(pilots, slots, statistics int) *feed {
	f := &feed{record: state.New(), pilots: pilots, slots: slots, statistics: statistics, held: make([][]state.Grant, pilots)}
	for i := range statistics {
		f.names = append(f.names, fmt.Sprintf("statistic_%02d", i))
	}
	return f
}

// entryTime is the time between two entries.
const entryTime = state.Second / 500

// entry gives the record an entry of commands, all of which must be answered OK.
func (f *feed) entry(commands ...state.Command) ([]state.Answer, error) {
	e := state.Entry{Term: 1, First: f.record.Index() == 0, Elapsed: entryTime, Wall: 1_700_000_000_000 + state.UnixMillis(f.record.Time()/(state.Second/1000))}
	for _, c := range commands {
		b, err := state.EncodeCommand(c)
		if err != nil {
			return nil, err
		}
		e.Commands = append(e.Commands, b)
	}
	index, raw := f.record.Index()+1, state.EncodeEntry(&e)
	answers, events, err := f.record.Apply(index, e.Term, raw)
	if err != nil {
		return nil, err
	}
	for i := range answers {
		if err := answers[i].Err(); err != nil {
			return nil, fmt.Errorf("%T: %w", commands[i], err)
		}
	}
	if f.deliver == nil {
		return answers, nil
	}
	return answers, f.deliver(index, raw, events)
}

// begin makes a site, pilots, and datasets of jobs that are chains of tasks.
func (f *feed) begin(datasets int, jobs uint32, tasks int) error {
	if _, err := f.entry(&state.PutSite{Site: "mill"}); err != nil {
		return err
	}
	for p := range f.pilots {
		ticket := protocol.DigestOf([]byte(f.pilot(p)))
		_, err := f.entry(
			&state.PutTicket{Site: "mill", Hash: ticket, Uses: 1, Expires: f.record.Time() + state.Day},
			&state.EnrolPilot{
				Pilot: f.pilot(p), Site: "mill", TicketHash: ticket, PublicKey: make([]byte, 32), Host: fmt.Sprintf("node%04d", p/8), Resources: f.offer(),
			})
		if err != nil {
			return err
		}
	}
	for range datasets {
		if err := f.submit(jobs, tasks); err != nil {
			return err
		}
	}
	return nil
}

func (f *feed) submit(jobs uint32, tasks int) error {
	specs := make([]state.TaskSpec, tasks)
	for i := range specs {
		specs[i] = state.TaskSpec{
			Name:    fmt.Sprintf("task%d", i),
			Classes: []state.Class{{Requirements: protocol.Requirements{Cores: 1, Memory: protocol.GB, Disk: protocol.GB}}},
		}
		if i > 0 {
			specs[i].Parents = []protocol.TaskIndex{protocol.TaskIndex(i - 1)}
		}
	}
	id := f.record.NextDataset()
	_, err := f.entry(&state.SubmitDataset{
		Dataset: id, Jobs: jobs, Tasks: specs,
		Facts: state.Facts{Owner: "ann", Group: "ice", Title: "load", Steering: protocol.DigestOf([]byte("document")), LanguageVersion: 3},
	})
	return err
}

func (f *feed) pilot(p int) protocol.PilotID {
	return protocol.PilotID(fmt.Sprintf("p-%016d", p))
}

func (f *feed) offer() protocol.Resources {
	return protocol.Resources{Cores: f.slots, Memory: 1000 * protocol.GB, Disk: 1000 * protocol.GB, OS: "debian_12-x86_64-glibc2.36"}
}

// pull has some pilots pull tasks, each in a command of its own, and tells how many
// were granted.
func (f *feed) pull(from, to int) (granted int, err error) {
	commands := make([]state.Command, to-from)
	for p := range commands {
		commands[p] = &state.Acquire{Pilot: f.pilot(from + p), Free: f.offer(), Want: uint16(f.slots)}
	}
	answers, err := f.entry(commands...)
	if err != nil {
		return 0, err
	}
	for p := range answers {
		f.held[from+p] = answers[p].Grants
		granted += len(answers[p].Grants)
	}
	return granted, nil
}

// report has some pilots report all they hold.
func (f *feed) report(from, to int) error {
	var commands []state.Command
	for p := from; p < to; p++ {
		for i := range f.held[p] {
			commands = append(commands, f.success(p, &f.held[p][i].Lease))
		}
		f.held[p] = nil
	}
	_, err := f.entry(commands...)
	return err
}

func (f *feed) success(p int, l *state.Lease) *state.Report {
	at := 1_700_000_000 + int64(f.record.Time()/state.Second)
	r := &state.Report{
		Lease: l.ID, Task: l.Task, Pilot: l.Pilot, Verdict: protocol.VerdictOK, Cleaned: true, Host: fmt.Sprintf("node%04d", p/8),
		Usage:       protocol.Usage{WallMillis: 3_600_000 + int64(l.Task.Job)%1000, CPUMillis: 3_500_000, PeakMemory: protocol.GB, Cores: 1},
		StartedUnix: at - 3600, EndedUnix: at,
	}
	for i, name := range f.names {
		r.Statistics = append(r.Statistics, protocol.Statistic{Name: name, Value: float64(l.Task.Job) / float64(i+1)})
	}
	if f.outputs {
		name := fmt.Sprintf("file_%06d.i3", l.Task.Job)
		r.Outputs = []protocol.FileRecord{{
			Type: protocol.FilePermanent, Name: name, URL: "gsiftp://storage.example/data/" + name, Size: protocol.GB, Digest: protocol.DigestOf([]byte(name)),
		}}
	}
	return r
}

// perSecond is a rate.
func perSecond(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }
