package condor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"floe/glidein/batch"
)

// ad is what a pass asks of a job. Attributes that are undefined are absent.
type ad struct {
	Cluster *int   `json:"ClusterId"`
	Proc    *int   `json:"ProcId"`
	Status  int    `json:"JobStatus"`
	Last    int    `json:"LastJobStatus"` // before Status
	Name    string `json:"JobBatchName"`
	Entered int64  `json:"EnteredCurrentStatus"`
	Queued  int64  `json:"QDate"`
	Held    string `json:"HoldReason"`
	// Rejected is why no machine was found when it was looked for last.
	Rejected string `json:"LastRejMatchReason"`
}

const attributes = "ClusterId,ProcId,JobStatus,LastJobStatus,JobBatchName,EnteredCurrentStatus,QDate,HoldReason,LastRejMatchReason"

// ours picks the pilot jobs, so that a schedd of 100,000 others need not print them.
const ours = `regexp("^floe-", JobBatchName)`

// none is what the totals say of a query that finds nothing; versions before 8.7 do
// not say of what.
var none = regexp.MustCompile(`(?m)^(Total for query: )?0 jobs;`)

// Status implements batch.System.
func (s *System) Status(ctx context.Context, _ []batch.Known) ([]batch.Entry, error) {
	a, err := s.tool.Run(ctx, nil, "condor_q", append(s.at("-name"), "-json", "-attributes", attributes, "-constraint", ours)...)
	if err != nil {
		return nil, err
	}
	if a.Exit != 0 {
		return nil, a.Fail(batch.ErrTransient)
	}
	if len(bytes.TrimSpace(a.Stdout)) == 0 {
		a, err := s.tool.Run(ctx, nil, "condor_q", append(s.at("-name"), "-totals", "-constraint", ours)...)
		switch {
		case err != nil:
			return nil, err
		case a.Exit != 0:
			return nil, a.Fail(batch.ErrTransient)
		case !none.Match(a.Stdout):
			return nil, a.Garbled("the list of jobs was empty, and the totals say: " + a.Said())
		}
		return nil, nil
	}
	entries, err := parse(a.Stdout)
	if err != nil {
		return nil, a.Garbled(err.Error())
	}
	return entries, nil
}

// parse reads what condor_q -json prints.
func parse(out []byte) ([]batch.Entry, error) {
	var ads []ad
	if err := json.Unmarshal(out, &ads); err != nil {
		return nil, err
	}
	if ads == nil {
		return nil, errors.New("it is no list")
	}
	var entries []batch.Entry
	seen := map[batch.JobID]bool{}
	for i := range ads {
		j := &ads[i]
		launch, ours := batch.LaunchOf(j.Name)
		if !ours {
			continue
		}
		if j.Cluster == nil || j.Proc == nil || *j.Cluster < 0 || *j.Proc < 0 {
			return nil, fmt.Errorf("job %d of its list, %s, has no id", i+1, j.Name)
		}
		e := batch.Entry{ID: batch.JobID(fmt.Sprintf("%d.%d", *j.Cluster, *j.Proc)), Launch: launch, Index: *j.Proc}
		if e.State, e.Reason = stateOf(j); e.State == 0 {
			return nil, fmt.Errorf("job %s has the status %d, which is not known", e.ID, j.Status)
		}
		if since := max(j.Entered, j.Queued); since > 0 {
			e.Since = time.Unix(since, 0)
		}
		if !seen[e.ID] {
			seen[e.ID] = true
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Values of JobStatus. Source: HTCondor manual, job ClassAd attributes.
const (
	idle         = 1
	running      = 2
	removed      = 3
	completed    = 4
	held         = 5
	transferring = 6 // its output
	suspended    = 7
)

func stateOf(j *ad) (batch.State, string) {
	switch j.Status {
	case idle:
		return batch.Queued, words(j.Rejected)
	case running, transferring, suspended:
		return batch.Running, ""
	case removed: // gone when its machine says that it is
		if j.Last == running || j.Last == transferring || j.Last == suspended {
			return batch.Running, ""
		}
		return batch.Ended, ""
	case completed:
		return batch.Ended, ""
	case held:
		return batch.Held, words(j.Held)
	}
	return 0, ""
}

// words is a text on one line.
func words(s string) string { return strings.Join(strings.Fields(s), " ") }
