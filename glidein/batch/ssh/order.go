package ssh

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"floe/glidein/batch"

	"github.com/google/renameio/v2"
)

// order is what the agent reads: one JSON object.
type order struct {
	// Directory is that of the site there. All names are below it.
	Directory string `json:"directory"`
	// Queue is the batch system there, as open reads it.
	Queue json.RawMessage `json:"queue"`
	// Place are files to be written first.
	Place []file `json:"place,omitempty"`
	// Request is one of package exec; none asks for nothing.
	Request json.RawMessage `json:"request,omitempty"`
	// Fetch are files wanted back, after the request; those that do not exist are left
	// out. Drop are files and directories to be removed, after that.
	Fetch []string `json:"fetch,omitempty"`
	Drop  []string `json:"drop,omitempty"`
	// Spool wants reports back that lie in this directory.
	Spool string `json:"spool,omitempty"`
}

// outcome is what the agent answers, on one line after the mark.
type outcome struct {
	// Exit, Answer and Said are those of exec.Serve.
	Exit   int             `json:"exit"`
	Answer json.RawMessage `json:"answer,omitempty"`
	Said   string          `json:"said,omitempty"`
	Files  []file          `json:"files,omitempty"`
	Spool  []file          `json:"spool,omitempty"`
}

// mark begins the line of an outcome. What a login prints is before it.
const mark = "floe-outcome: "

// file is a file below a directory.
type file struct {
	Name string      `json:"name"`
	Mode fs.FileMode `json:"mode"`
	Data []byte      `json:"data"`
	// Cut is how many bytes are missing at its beginning.
	Cut int64 `json:"cut,omitempty"`
}

// Limits: what is fetched of one file, and of the reports that are fetched at once.
const (
	maxFetched = 1 << 20
	maxSpool   = 8 << 20
)

// below is a file below a directory, whatever its name is.
func below(dir, name string) (string, error) {
	if name == "" || !filepath.IsLocal(name) {
		return "", fmt.Errorf("file %q: not below the site's directory", name)
	}
	return filepath.Join(dir, name), nil
}

// put writes a file below dir, whole or not at all.
func put(dir string, f *file) error {
	path, err := below(dir, f.Name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(path, f.Data, f.Mode&0o700, renameio.IgnoreUmask())
}

// fetch reads a file below dir, only the end of one that is long; nil when there is none.
func fetch(dir, name string) (*file, error) {
	path, err := below(dir, name)
	if err != nil {
		return nil, err
	}
	// What is no plain file could be without end.
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	f := &file{Name: name, Mode: 0o600, Cut: max(0, info.Size()-maxFetched)}
	if _, err := in.Seek(f.Cut, io.SeekStart); err != nil {
		return nil, err
	}
	f.Data, err = io.ReadAll(io.LimitReader(in, maxFetched))
	return f, err
}

// parse finds the outcome in what ssh printed.
func parse(out []byte) (*outcome, error) {
	at := bytes.LastIndex(out, []byte("\n"+mark))
	switch {
	case at >= 0:
		out = out[at+1:]
	case !bytes.HasPrefix(out, []byte(mark)):
		return nil, errors.New("no outcome in it")
	}
	line, _, whole := bytes.Cut(out[len(mark):], []byte("\n"))
	if !whole {
		return nil, errors.New("its outcome is cut")
	}
	o := new(outcome)
	if err := json.Unmarshal(line, o); err != nil {
		return nil, err
	}
	return o, nil
}

// there says what a login node is, and what it has.
type there struct {
	directory string // absolute
	machine   string // as uname -sm has it
	has       map[string]bool
}

// parseProbe reads the lines of the probe, among what a login prints.
func parseProbe(out []byte) (*there, error) {
	t := &there{has: map[string]bool{}}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "floe-directory":
			t.directory = value
		case "floe-machine":
			t.machine = value
		case "floe-has":
			t.has[value] = true
		}
	}
	if !filepath.IsAbs(t.directory) || t.machine == "" {
		return nil, errors.New("it does not say where it is")
	}
	return t, nil
}

// jobName is the directory of a job, below that of the site here and there.
func jobName(directory string) string { return filepath.Join("jobs", filepath.Base(directory)) }

// inside are a job's files as they are to be placed.
func inside(j *batch.Job) ([]file, error) {
	var all []file
	for _, name := range append([]string{filepath.Base(j.Script)}, j.Files...) {
		path, err := below(j.Directory, name)
		if err != nil {
			return nil, err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		all = append(all, file{Name: filepath.Join(jobName(j.Directory), name), Mode: info.Mode().Perm(), Data: b})
	}
	return all, nil
}
