package state

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"floe/protocol"
)

// TestScenarios runs the scripts of testdata/scenarios. Each command becomes one
// entry of the log and prints its answer and events. After a change of what is
// printed, go test -run Scenarios -rewrite writes the scripts anew: read the diff.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		s := &scenario{rig: newRig(t), leases: map[string]protocol.LeaseID{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t = t
			s.ledger.t = t
			s.line = d
			return s.run()
		})
	})
}

// scenario is one script.
type scenario struct {
	*rig
	line   *datadriven.TestData
	leases map[string]protocol.LeaseID // by pilot and task: the last that the pilot had
	last   []Command
}

func (s *scenario) run() string {
	d := s.line
	switch d.Cmd {
	case "tick":
		elapsed, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			s.t.Fatalf("tick: %v", err)
		}
		return s.send(RecordTime(elapsed), &Tick{})
	case "table":
		return table(s.m)
	case "nodes":
		return standings(s.m)
	case "shapes":
		return shapes(s.m, protocol.SiteID(d.CmdArgs[0].Key))
	case "pressure":
		return s.pressure()
	case "catalog":
		return catalog(s.m)
	case "restore":
		digest := s.m.Snapshot().Digest()
		s.m = restored(s.t, s.m.Snapshot())
		if s.m.Snapshot().Digest() != digest {
			return "another record\n"
		}
		return "the same record\n"
	case "again":
		before := persisted(s.t, s.m.Snapshot())
		out := s.send(0, s.last...)
		if bytes.Equal(headless(s.t, before), headless(s.t, persisted(s.t, s.m.Snapshot()))) {
			return out + "nothing changed\n"
		}
		return out + "the record changed\n"
	case "leader":
		s.term++
		e := s.entry(0, &Tick{})
		e.First = true
		e.Wall += UnixMillis(s.number("ahead"))
		return s.print(s.applyEntry(EncodeEntry(e), s.term))
	case "ghost": // an entry proposed by a leader that lost its term before it was committed
		e := EncodeEntry(s.entry(0, s.last...))
		s.term++
		return s.print(s.applyEntry(e, s.term))
	case "explain":
		e, _ := s.m.Explain(s.task())
		return explanation(&e)
	case "preview":
		d.Cmd = d.CmdArgs[0].Key
		return fmt.Sprintf("%+v\n", s.m.Preview(s.command()))
	}
	c := s.command()
	if c == nil {
		s.t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	if err := c.Validate(); err != nil {
		return "refused: " + err.Error() + "\n"
	}
	return s.send(0, c)
}

// headless cuts off the first frame of a persisted record: the log index, which
// always differs.
func headless(t failer, record []byte) []byte {
	t.Helper()
	rest := bytes.NewReader(record[len(magic):])
	b := bufio.NewReader(rest)
	if _, _, err := readFrame(b); err != nil {
		t.Fatalf("persisted record: %v", err)
	}
	return record[len(record)-rest.Len()-b.Buffered():]
}

func (s *scenario) send(elapsed RecordTime, commands ...Command) string {
	s.last = commands
	return s.print(s.apply(elapsed, commands...))
}

func (s *scenario) print(answers []Answer, events []Event) string {
	var b strings.Builder
	for i := range answers {
		b.WriteString(answerLines(&answers[i]))
		for _, g := range answers[i].Grants {
			s.leases[string(g.Lease.Pilot)+" "+g.Lease.Task.String()] = g.Lease.ID
		}
	}
	for i := range events {
		if line := eventLine(events[i].Body); !s.line.HasArg("quiet") {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// word returns an argument, or the empty text.
func (s *scenario) word(key string) string {
	for _, a := range s.line.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return ""
}

func (s *scenario) words(key string) []string {
	for _, a := range s.line.CmdArgs {
		if a.Key == key {
			return a.Vals
		}
	}
	return nil
}

func (s *scenario) number(key string) int64 {
	if w := s.word(key); w != "" {
		n, err := strconv.ParseInt(w, 10, 64)
		if err != nil {
			s.t.Fatalf("%s: %s: %v", s.line.Pos, key, err)
		}
		return n
	}
	return 0
}

// dataset is the argument of that name, 1 where it is missing.
func (s *scenario) dataset() protocol.DatasetID {
	return protocol.DatasetID(max(1, s.number("dataset")))
}

func (s *scenario) size(key string) protocol.ByteSize {
	return protocol.ByteSize(s.number(key)) * protocol.GB
}

// first is the first argument, which has no name.
func (s *scenario) first() string { return s.line.CmdArgs[0].Key }

func (s *scenario) task() protocol.TaskID {
	w := s.word("task")
	if w == "" {
		w = s.first()
	}
	id, err := protocol.ParseTaskID(w)
	if err != nil {
		s.t.Fatalf("%s: %v", s.line.Pos, err)
	}
	return id
}

// lease is the argument of that name, or the last the pilot had of the task.
func (s *scenario) lease() protocol.LeaseID {
	if w := s.word("lease"); w != "" {
		id, err := protocol.ParseLeaseID(w)
		if err != nil {
			s.t.Fatalf("%s: %v", s.line.Pos, err)
		}
		return id
	}
	if p := s.word("pilot"); p != "" {
		return s.leases[p+" "+s.task().String()]
	}
	l, _ := s.m.Lease(s.task())
	return l.ID
}

func (s *scenario) selection() Selection {
	sel := Selection{Dataset: s.dataset()}
	if w := s.word("jobs"); w != "" {
		jobs, err := protocol.ParseJobs(w, protocol.MaxJobs)
		if err != nil {
			s.t.Fatalf("%s: %v", s.line.Pos, err)
		}
		sel.Jobs = jobs
	}
	for _, w := range s.words("tasks") {
		n, _ := strconv.Atoi(w)
		sel.Tasks = append(sel.Tasks, protocol.TaskIndex(n))
	}
	for _, w := range s.words("states") {
		var state protocol.TaskState
		if err := state.UnmarshalText([]byte(w)); err != nil {
			s.t.Fatalf("%s: %v", s.line.Pos, err)
		}
		sel.States = append(sel.States, state)
	}
	return sel
}

func explanation(e *Explanation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "task %v %s: %v, attempt %d", e.Task, e.Name, e.State, e.Attempt)
	if e.Held {
		b.WriteString(", the dataset is held")
	}
	fmt.Fprintf(&b, "\n  asks for cores %d, memory %v, disk %v, walltime %d\n", e.Asked.Cores, e.Asked.Memory, e.Asked.Disk, e.Asked.Walltime)
	for _, p := range e.Unfinished {
		fmt.Fprintf(&b, "  waits for %s, which is %v\n", p.Name, p.State)
	}
	for _, u := range e.Budgets {
		what := "all failures"
		if u.Verdict != 0 {
			what = u.Verdict.String()
		}
		fmt.Fprintf(&b, "  used %d of %d: %s\n", u.Used, u.Limit, what)
	}
	if len(e.Avoided) > 0 {
		fmt.Fprintf(&b, "  avoids %v\n", e.Avoided)
	}
	if len(e.LostAt) > 0 {
		fmt.Fprintf(&b, "  lost on %v", e.LostAt)
		if e.Crashes {
			b.WriteString(": held for it")
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "  %d of %d pilots fit\n", e.Fit, e.Pilots)
	for l, n := range e.Lacks {
		if n > 0 {
			fmt.Fprintf(&b, "  %d lack %v\n", n, Lack(l))
		}
	}
	for _, r := range e.Refusals {
		fmt.Fprintf(&b, "  %s, with %d pilots\n", r.Reason, r.Pilots)
	}
	return b.String()
}
