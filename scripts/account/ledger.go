package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

// ledger is what was found of one dataset.
type ledger struct {
	api     *transport.Client
	token   protocol.Token
	dataset protocol.DatasetID

	jobs, tasks, attempts int
	sites                 map[protocol.SiteID]*work
	outputs               map[string]bool // paths
	entries               uint64
	wrong                 []string
}

// work is what one site did.
type work struct {
	tasks  int // that count
	cpu    time.Duration
	pilots map[protocol.PilotID]bool
	fates  map[protocol.Verdict]int // of attempts that do not count
}

// others are the attempts that did not count, by verdict.
func (w *work) others() string {
	var words []string
	for v, n := range w.fates {
		words = append(words, fmt.Sprintf("%d %v", n, v))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

func (l *ledger) fail(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

func (l *ledger) at(s protocol.SiteID) *work {
	if l.sites[s] == nil {
		l.sites[s] = &work{pilots: map[protocol.PilotID]bool{}, fates: map[protocol.Verdict]int{}}
	}
	return l.sites[s]
}

func (l *ledger) get(ctx context.Context, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := l.api.CallJSON(ctx, http.MethodGet, path, nil, out); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// read goes through the tasks, outputs and statistics of the dataset.
func (l *ledger) read(ctx context.Context, files string) error {
	path := fmt.Sprintf("/v1/datasets/%d", l.dataset)
	var d protocol.Dataset
	if err := l.get(ctx, path, &d); err != nil {
		return err
	}
	l.jobs = int(d.Jobs)
	if d.State != protocol.DatasetComplete {
		l.fail("dataset %d is %v", d.ID, d.State)
	}
	made := map[string]protocol.Digest{} // by the attempts that count
	for job := range d.Jobs {
		for i := range d.Tasks {
			var t protocol.Task
			if err := l.get(ctx, fmt.Sprintf("%s/jobs/%d/tasks/%s", path, job, url.PathEscape(d.Tasks[i].Name)), &t); err != nil {
				return err
			}
			l.task(&t, made)
		}
	}
	if err := l.compareOutputs(ctx, path, made); err != nil {
		return err
	}
	if files != "" {
		if err := l.compareFiles(files); err != nil {
			return err
		}
	}
	var s protocol.StatisticsReply
	if err := l.get(ctx, path+"/statistics", &s); err != nil {
		return err
	}
	if s.Used.Attempts != uint64(l.tasks) || s.Wasted.Attempts != uint64(l.attempts-l.tasks) {
		l.fail("statistics are of %d attempts, and %d wasted; the tasks list %d and %d", s.Used.Attempts, s.Wasted.Attempts, l.tasks, l.attempts-l.tasks)
	}
	return nil
}

// task books the attempts of one task.
func (l *ledger) task(t *protocol.Task, made map[string]protocol.Digest) {
	if t.State != protocol.TaskOK {
		l.fail("task %v %s is %v", t.ID, t.Name, t.State)
	}
	count := 0
	for i := range t.Attempts {
		a := &t.Attempts[i]
		l.attempts++
		site := l.at(a.Site)
		site.pilots[a.Pilot] = true
		site.cpu += time.Duration(a.Usage.CPUMillis) * time.Millisecond
		if !a.Accepted || a.Withdrawn {
			site.fates[a.Verdict]++
			continue
		}
		count++
		site.tasks++
		for j := range a.Outputs {
			made[outputKey(t.ID.Job, t.Name, a.Outputs[j].Name)] = a.Outputs[j].Digest
		}
	}
	if count != 1 {
		l.fail("task %v %s has %d attempts that count, of %d", t.ID, t.Name, count, len(t.Attempts))
	}
	l.tasks += count
}

func outputKey(job protocol.JobIndex, task, name string) string {
	return fmt.Sprintf("job %d, %s, %s", job, task, name)
}

// compareOutputs compares the dataset's outputs with what attempts left, and both
// with the files.
func (l *ledger) compareOutputs(ctx context.Context, path string, made map[string]protocol.Digest) error {
	ofJob := make([]int, l.jobs)
	err := pages(ctx, l, path+"/outputs", func(page *protocol.OutputPage) string {
		for i := range page.Outputs {
			o := &page.Outputs[i]
			key := outputKey(o.Job, o.Task, o.Name)
			if made[key] != o.Digest {
				l.fail("output of %s: %v is recorded, the attempt that counts left %v", key, o.Digest, made[key])
			}
			ofJob[o.Job]++
			l.file(key, o)
		}
		return page.Next
	})
	for job, n := range ofJob {
		if n != ofJob[0] || n == 0 {
			l.fail("job %d has %d outputs, job 0 has %d", job, n, ofJob[0])
		}
	}
	return err
}

// file reads one output where it is.
func (l *ledger) file(key string, o *protocol.Output) {
	place := strings.TrimPrefix(o.URL, "file://")
	content, err := os.ReadFile(place)
	if errors.Is(err, fs.ErrNotExist) && o.Intended != "" { // its pilot died before it could tell the final name
		place = strings.TrimPrefix(o.Intended, "file://")
		content, err = os.ReadFile(place)
	}
	switch {
	case err != nil:
		l.fail("output of %s: %v", key, err)
	case protocol.DigestOf(content) != o.Digest:
		l.fail("output of %s: %s has digest %v, %v is recorded", key, place, protocol.DigestOf(content), o.Digest)
	case l.outputs[place]:
		l.fail("output of %s: %s is another's, too", key, place)
	}
	l.outputs[place] = true
}

// compareFiles looks for files that are no outputs.
func (l *ledger) compareFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !l.outputs[path] {
			l.fail("%s is no output of the dataset", path)
		}
		return err
	})
}
