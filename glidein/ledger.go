package glidein

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/glidein/batch"
	"floe/protocol"

	"github.com/google/renameio/v2"
)

// Ledger is what the site knows of its pilot jobs: launch lease to batch job.
// It is one JSON file, replaced as a whole.
type Ledger struct {
	path string
	// Jobs are the pilot jobs that may exist.
	Jobs map[protocol.LaunchID]*Launched `json:"jobs"`
	// Ended are those that are gone, until a coordinator has been told.
	Ended []protocol.EndedLaunch `json:"ended,omitempty"`
}

// Launched is one pilot job.
type Launched struct {
	// BatchID is empty until the batch system has answered the submission.
	BatchID batch.JobID `json:"batch_id,omitempty"`
	Shape   string      `json:"shape"`
	// System is the batch system that has it (Queue.Where).
	System string `json:"system,omitempty"`
	// Leader and Index say which job of which array it is; no leader, no array.
	Leader    protocol.LaunchID `json:"leader,omitempty"`
	Index     int               `json:"index,omitempty"`
	Submitted time.Time         `json:"submitted"`
	// Running is since when passes see it running, Stray since when no coordinator knows
	// its launch lease.
	Running time.Time `json:"running,omitzero"`
	Stray   time.Time `json:"stray,omitzero"`
	// Removed says that a pass has asked the batch system to end it, Refused why the batch
	// system did not take it.
	Removed bool   `json:"removed,omitempty"`
	Refused string `json:"refused,omitempty"`

	seen batch.State // in this pass; zero for one that no batch system has
}

// runs is how long passes have seen it run.
func (j *Launched) runs() protocol.Seconds {
	if j.seen != batch.Running || j.Running.IsZero() {
		return 0
	}
	return protocol.SecondsOf(time.Since(j.Running))
}

// openLedger reads the ledger; a missing file is an empty one.
func openLedger(path string) (*Ledger, error) {
	l := &Ledger{path: path, Jobs: map[protocol.LaunchID]*Launched{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(b, l)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w; move it away, and the next pass adopts what the batch system has", path, err)
	}
	if l.Jobs == nil {
		l.Jobs = map[protocol.LaunchID]*Launched{}
	}
	return l, nil
}

// place is where a job stands in the batch system's list: the launch lease in its
// name, and its index.
type place struct {
	launch protocol.LaunchID
	index  int
}

func (l *Ledger) place(launch protocol.LaunchID) place {
	if j := l.Jobs[launch]; j != nil && j.Leader != "" {
		return place{j.Leader, j.Index}
	}
	return place{launch: launch}
}

// launches finds the launch lease of each place. A place that is not there is a
// stray: of a ledger that was lost, or of another pass.
func (l *Ledger) launches() map[place]protocol.LaunchID {
	m := make(map[place]protocol.LaunchID, len(l.Jobs))
	for launch := range l.Jobs {
		m[l.place(launch)] = launch
	}
	return m
}

// known are some of the jobs as a batch system is asked about them.
func (l *Ledger) known(which func(*Launched) bool) []batch.Known {
	all := make([]batch.Known, 0, len(l.Jobs))
	for launch, j := range l.Jobs {
		if !which(j) {
			continue
		}
		at := l.place(launch)
		all = append(all, batch.Known{ID: j.BatchID, Launch: at.launch, Index: at.index})
	}
	slices.SortFunc(all, func(a, b batch.Known) int {
		return cmp.Or(strings.Compare(string(a.Launch), string(b.Launch)), a.Index-b.Index)
	})
	return all
}

// save replaces the file and syncs it before the name changes.
func (l *Ledger) save() error {
	b, err := json.MarshalIndent(l, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	if err := renameio.WriteFile(l.path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}
