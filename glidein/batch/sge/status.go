package sge

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"time"

	"floe/glidein/batch"
)

// Status implements batch.System.
func (s *System) Status(ctx context.Context, _ []batch.Known) ([]batch.Entry, error) {
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("sge: %w: who am I: %w", batch.ErrTransient, err)
	}
	// -r: with full names.
	a, err := s.tool.Run(ctx, nil, "qstat", "-xml", "-r", "-u", me.Username)
	if err != nil {
		return nil, err
	}
	if a.Exit != 0 {
		return nil, a.Fail(batch.ErrTransient)
	}
	entries, err := parse(a.Stdout)
	if err != nil {
		return nil, a.Garbled(err.Error())
	}
	s.explain(ctx, entries)
	return entries, nil
}

// listed is a job, or tasks of one that are in the same state, as qstat -xml has them.
type listed struct {
	Number    string `xml:"JB_job_number"`
	Name      string `xml:"JB_name"`
	FullName  string `xml:"full_job_name"`
	State     string `xml:"state"`
	Submitted string `xml:"JB_submission_time"`
	Started   string `xml:"JAT_start_time"`
	Tasks     string `xml:"tasks"`
	Kind      string `xml:"state,attr"` // running or pending
}

// maxTasks is how many tasks one entry may stand for. Source: sge_conf(5),
// max_aj_tasks, whose default is 75,000.
const maxTasks = 100_000

// parse reads the document of qstat -xml.
func parse(out []byte) ([]batch.Entry, error) {
	if at := bytes.Index(out, []byte("<?xml")); at > 0 {
		out = out[at:] // what a login prints
	}
	var entries []batch.Entry
	seen := map[batch.JobID]bool{}
	d := xml.NewDecoder(bytes.NewReader(bytes.ToValidUTF8(out, []byte("?"))))
	root := ""
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		start, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		if root == "" {
			if root = start.Name.Local; root != "job_info" {
				return nil, fmt.Errorf("a document of the type %s, not job_info", root)
			}
		}
		if start.Name.Local != "job_list" {
			continue
		}
		var l listed
		if err := d.DecodeElement(&l, &start); err != nil {
			return nil, err
		}
		some, err := l.entries()
		if err != nil {
			return nil, err
		}
		for _, e := range some {
			if !seen[e.ID] {
				seen[e.ID] = true
				entries = append(entries, e)
			}
		}
	}
	if root == "" {
		return nil, errors.New("no document")
	}
	return entries, nil
}

// entries are ours of what is listed.
func (l *listed) entries() ([]batch.Entry, error) {
	name := l.FullName
	if name == "" {
		name = l.Name
	}
	launch, ours := batch.LaunchOf(strings.TrimSpace(name))
	if !ours {
		return nil, nil
	}
	number := strings.TrimSpace(l.Number)
	if !jobNumber.MatchString(number) {
		return nil, fmt.Errorf("job id %q", number)
	}
	e := batch.Entry{ID: batch.JobID(number), Launch: launch, State: stateOf(l.State, l.Kind)}
	switch e.State {
	case 0:
		return nil, fmt.Errorf("job %s has the state %q, which is not known", number, l.State)
	case batch.Running:
		e.Since = clock(l.Started)
	default:
		e.Since = clock(l.Submitted)
	}
	if e.State == batch.Held {
		e.Reason = l.State
	}
	if strings.TrimSpace(l.Tasks) == "" {
		return []batch.Entry{e}, nil
	}
	tasks, err := expand(strings.TrimSpace(l.Tasks))
	if err != nil {
		return nil, fmt.Errorf("job %s: tasks %q: %w", number, l.Tasks, err)
	}
	all := make([]batch.Entry, len(tasks))
	for i, task := range tasks {
		all[i] = e
		all[i].ID, all[i].Index = taskID(number, task), task-1
	}
	return all, nil
}

var jobNumber = regexp.MustCompile(`^[0-9]+$`)

// expand reads a list of tasks such as 1-4:1 or 3,5,7-9:2.
func expand(s string) ([]int, error) {
	var tasks []int
	for part := range strings.SplitSeq(s, ",") {
		span, text, stepped := strings.Cut(part, ":")
		first, last, many := strings.Cut(span, "-")
		if !many {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		step, err3 := 1, error(nil)
		if stepped {
			step, err3 = strconv.Atoi(text)
		}
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, err
		}
		if from < 1 || to < from || step < 1 || (to-from)/step >= maxTasks-len(tasks) {
			return nil, fmt.Errorf("%s is no range of tasks", part)
		}
		for ; from <= to; from += step {
			tasks = append(tasks, from)
		}
	}
	return tasks, nil
}

// stateOf reads the letters of a state. Source: qstat(1).
func stateOf(letters, kind string) batch.State {
	letters = strings.TrimSpace(letters)
	switch {
	case strings.ContainsRune(letters, 'z'):
		return batch.Ended
	case strings.ContainsAny(letters, "rtsST"): // also dr, being removed
		return batch.Running
	case strings.ContainsAny(letters, "Eh"):
		return batch.Held
	case strings.ContainsAny(letters, "qw"):
		return batch.Queued
	case letters != "" && kind == "running":
		return batch.Running
	}
	return 0
}

func clock(s string) time.Time {
	t, err := time.ParseInLocation("2006-01-02T15:04:05", strings.TrimSpace(s), time.Local)
	if err != nil {
		return time.Time{}
	}
	return t
}

// explain asks why jobs do not start: of those in error for the reason of the first,
// of those that wait whether any queue could take the one that has waited longest.
// What cannot be asked stays as it is.
func (s *System) explain(ctx context.Context, entries []batch.Entry) {
	wrong, oldest := -1, -1
	for i, e := range entries {
		switch {
		case e.State == batch.Held && wrong < 0 && strings.Contains(e.Reason, "E"):
			wrong = i
		case e.State == batch.Queued && (oldest < 0 || e.Since.Before(entries[oldest].Since)):
			oldest = i
		}
	}
	if wrong >= 0 {
		if a, err := s.tool.Run(ctx, nil, "qstat", "-j", number(entries[wrong].ID)); err == nil {
			hold(entries, entries[wrong], errorReason(a))
		}
	}
	if oldest >= 0 {
		if a, err := s.tool.Run(ctx, nil, "qalter", "-w", "v", number(entries[oldest].ID)); err == nil {
			hold(entries, entries[oldest], impossible(a))
		}
	}
}

// number is the job that a task belongs to.
func number(id batch.JobID) string {
	job, _, _ := strings.Cut(string(id), ".")
	return job
}

// hold gives the tasks of a job that are in the same state as one of them a reason
// for not starting, if there is one.
func hold(entries []batch.Entry, like batch.Entry, reason string) {
	if reason == "" {
		return
	}
	for i := range entries {
		e := &entries[i]
		if number(e.ID) == number(like.ID) && e.State == like.State && e.Reason == like.Reason {
			e.State, e.Reason = batch.Held, reason
		}
	}
}

// errorReason is what qstat -j says of a job in error.
func errorReason(a *batch.Answer) string {
	for line := range strings.Lines(string(a.Stdout)) {
		if rest, ok := strings.CutPrefix(line, "error reason"); ok {
			_, why, _ := strings.Cut(rest, ":")
			return strings.TrimSpace(why)
		}
	}
	return ""
}

// impossible is why no queue will ever take a job, as qalter -w v has it; empty
// when one may. A queue that is too small for what nodes report of their load (hl:,
// gl:), or of which there is no such report, may have it tomorrow.
func impossible(a *batch.Answer) string {
	if a.Exit == 0 || !a.Mentions("no suitable queues") || a.Mentions("offers only hl:", "offers only gl:", "unknown resource") {
		return ""
	}
	for line := range strings.Lines(string(a.Stdout) + "\n" + string(a.Stderr)) {
		if strings.Contains(line, " cannot run ") {
			return strings.TrimSpace(line)
		}
	}
	return "no suitable queues"
}
