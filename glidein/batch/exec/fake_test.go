package exec

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
)

func TestMain(m *testing.M) { batchtest.Main(m, dialect) }

const pluginName = "floe-test-plugin"

// dialect is one tool: a plugin that speaks for the fake.
var dialect = batchtest.Dialect{
	Tools: map[string]batchtest.Tool{pluginName: func(f *batchtest.Fake, _ []string, in io.Reader, stdout, stderr io.Writer) int {
		return Serve(context.Background(), brain{f}, in, stdout, stderr)
	}},
	Submit: pluginName, Status: pluginName, Remove: pluginName,
	Down: func(string) (string, int) { return "cannot reach the server", ExitTransient },
}

// brain is a fake as a batch.System, for the inner side of the wire.
type brain struct{ *batchtest.Fake }

func (b brain) Properties() batch.Properties {
	return batch.Properties{Name: "brain", MaxArray: 100, Lists: true}
}

func (b brain) WriteSubmitFile(jobs []batch.Job) (string, error) {
	file := filepath.Join(jobs[0].Directory, "submit.sh")
	return file, os.WriteFile(file, []byte(batch.Body(jobs, "BRAIN_INDEX", 0)), 0o600)
}

func (b brain) Submit(_ context.Context, jobs []batch.Job, submitFile string) ([]batch.JobID, error) {
	if jobs[0].Queue == "nope" {
		return nil, fmt.Errorf("%w: there is no queue nope", batch.ErrRefused)
	}
	text, err := os.ReadFile(submitFile)
	if err != nil {
		return nil, err
	}
	j := batchtest.Job{Name: batch.JobName(jobs[0].Launch), Script: string(text), Dir: jobs[0].Directory, Output: batch.SystemOutput(jobs)}
	if len(jobs) > 1 {
		j.Array = len(jobs)
	}
	var ids []batch.JobID
	for _, one := range b.Find(b.Fake.Submit(j), -1) {
		one.Env = []string{fmt.Sprintf("BRAIN_INDEX=%d", one.Index)}
		ids = append(ids, b.id(one))
	}
	return ids, nil
}

func (b brain) id(j *batchtest.Job) batch.JobID {
	return batch.JobID(fmt.Sprintf("%d/%d", j.Number, j.Index))
}

func (b brain) Status(context.Context, []batch.Known) ([]batch.Entry, error) {
	var all []batch.Entry
	states := map[batchtest.JobState]batch.State{batchtest.Queued: batch.Queued, batchtest.Running: batch.Running, batchtest.Held: batch.Held}
	for _, j := range b.List() {
		launch, _ := batch.LaunchOf(j.Name)
		all = append(all, batch.Entry{ID: b.id(j), Launch: launch, Index: j.Index, State: states[j.State], Reason: j.Reason, Since: j.Submitted})
	}
	return all, nil
}

func (b brain) Remove(_ context.Context, id batch.JobID) error {
	for _, j := range b.Jobs {
		if b.id(j) == id {
			if j.State != batchtest.Ended {
				b.Fake.Remove(j)
			}
			return nil
		}
	}
	return fmt.Errorf("%w: %s", batch.ErrUnknownJob, id)
}

func (b brain) Clean(context.Context, batch.JobID, string) error { return nil }
