package unmonitored

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"floe/protocol"
)

// Result is how a job went. The batch job writes it as the last line of its output,
// which is all that comes back from systems without a shared file system.
type Result struct {
	OK bool `json:"ok"`
	// Task, Verdict and Evidence are those of the first task that was not ok, or why
	// there was none to run.
	Task     string            `json:"task,omitempty"`
	Verdict  *protocol.Verdict `json:"verdict,omitempty"`
	Evidence string            `json:"evidence,omitempty"`
	Host     string            `json:"host,omitempty"`
	// Tasks is how many tasks this attempt has begun, CPU and Memory what they used.
	Tasks   int               `json:"tasks"`
	Started time.Time         `json:"started"`
	Ended   time.Time         `json:"ended"`
	CPU     int64             `json:"cpu_ms"`
	Memory  protocol.ByteSize `json:"peak_memory"`
}

// maxEvidence keeps the line short.
const maxEvidence = 2000

// mark begins the line of a result.
func mark(l protocol.LaunchID) string { return "floe: result of " + string(l) + ": " }

// Write writes the line, on a line of its own whatever was printed before.
func (r Result) Write(w io.Writer, l protocol.LaunchID) error {
	if len(r.Evidence) > maxEvidence {
		r.Evidence = r.Evidence[:maxEvidence]
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s%s\n", mark(l), b)
	return err
}

// maxTail is how much of an output's end is read for the result.
const maxTail = 64 << 10

// readResult finds the result of a launch in an output; nil if it has none.
func readResult(file string, l protocol.LaunchID) (*Result, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // it did not come as far as that
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-maxTail), maxTail))
	if err != nil {
		return nil, err
	}
	return parseResult(b, l), nil
}

// parseResult reads the last line of a launch's result among others.
func parseResult(output []byte, l protocol.LaunchID) *Result {
	var found *Result
	for line := range bytes.Lines(output) {
		text, ours := bytes.CutPrefix(line, []byte(mark(l)))
		if !ours || !bytes.HasSuffix(text, []byte("\n")) {
			continue // a line that was cut says nothing
		}
		r := new(Result)
		if json.Unmarshal(text, r) == nil {
			found = r
		}
	}
	return found
}
