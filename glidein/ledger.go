package glidein

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
}

// Launched is one pilot job.
type Launched struct {
	// BatchID is empty until the batch system has answered the submission.
	BatchID   batch.JobID `json:"batch_id,omitempty"`
	Shape     string      `json:"shape"`
	Submitted time.Time   `json:"submitted"`
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
