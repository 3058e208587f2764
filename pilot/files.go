package pilot

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"floe/pilot/stage"
	"floe/protocol"
	"floe/protocol/steering"
)

// around moves the files of trays and modules (payload.Around).
type around Attempt

// Before implements payload.Around.
func (r *around) Before(ctx context.Context, tray, module int) error {
	a := (*Attempt)(r)
	t := &a.task.Trays[tray]
	files := &t.ExpandedFiles
	if module >= 0 {
		files = &t.Modules[module].ExpandedFiles
	}
	begun := time.Now()
	defer func() { a.staged += time.Since(begun) }()
	if err := a.fetchResources(ctx, files.Resources, files.Projects, files.Classes); err != nil {
		return a.judged(ctx, err)
	}
	return a.judged(ctx, a.fetch(ctx, files.Data))
}

// After implements payload.Around.
func (r *around) After(ctx context.Context, tray, module int) error {
	a := (*Attempt)(r)
	t := &a.task.Trays[tray]
	data := t.Data
	if module >= 0 {
		data = t.Modules[module].Data
	}
	begun := time.Now()
	defer func() { a.copied += time.Since(begun) }()
	return a.judged(ctx, a.store(ctx, data))
}

// judgedError carries its verdict to the payload runner.
type judgedError struct {
	error
	verdict protocol.Verdict
}

func (j *judgedError) Verdict() protocol.Verdict { return j.verdict }
func (j *judgedError) Unwrap() error             { return j.error }

func (a *Attempt) judged(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var bad *badInput
	if errors.As(err, &bad) {
		a.report.BadInput = bad.name
	}
	return &judgedError{err, verdictOf(ctx, err)}
}

// badInput names an ancestor's output that is missing or damaged.
type badInput struct {
	name string
	err  error
}

func (b *badInput) Error() string { return b.err.Error() }
func (b *badInput) Unwrap() error { return b.err }

// fetchResources brings the plain files among resources into the working directory.
func (a *Attempt) fetchResources(ctx context.Context, resources []steering.ExpandedResource, projects []steering.ExpandedProject, classes []steering.ExpandedClass) error {
	for i := range resources {
		r := &resources[i]
		if r.Transfer == steering.TransferNo || a.isSoftware(r, projects, classes) {
			continue
		}
		if _, err := a.Mover.Fetch(ctx, resourceInput(r), a.dir.Work()); err != nil {
			return err
		}
	}
	return nil
}

// fetch brings the inputs among data into the working directory.
func (a *Attempt) fetch(ctx context.Context, data []steering.ExpandedData) error {
	for i := range data {
		d := &data[i]
		if d.Movement == steering.MovementOutput || d.Transfer == steering.TransferNo || a.isLocal(d) {
			continue
		}
		in, made, err := a.input(d)
		if err != nil {
			return err
		}
		if _, err := a.Mover.Fetch(ctx, in, a.dir.Work()); err != nil {
			if made {
				err = &badInput{fileName(d), err}
			}
			return err
		}
	}
	return nil
}

// input finds where an input is: the record of the ancestor that made it, or the
// place the document gives. The second result says that an ancestor made it.
func (a *Attempt) input(d *steering.ExpandedData) (stage.Input, bool, error) {
	in := stage.Input{
		Local: localName(d), Checksum: d.Checksum, Compression: stage.Compression(d.Compression),
		Cached: d.Cache.Or(strings.HasPrefix(d.Checksum, "sha256:")), Optional: d.Transfer == steering.TransferMaybe,
	}
	name := fileName(d)
	// The newest ancestor that left a file of the name: later in the DAG, later in the list.
	for i := len(a.Lease.Inputs) - 1; i >= 0; i-- {
		if f := &a.Lease.Inputs[i]; f.Name == name && f.Type == fileType(d.Type) {
			in.URL, in.Fallback, in.Checksum = f.URL, f.Published, f.Digest.String()
			return in, true, nil
		}
	}
	if isURL(d.Remote) {
		in.URL = d.Remote
		return in, false, nil
	}
	if d.Type == steering.DataDatasetTemp && a.Lease.TempArea != "" {
		in.URL = strings.TrimSuffix(a.Lease.TempArea, "/") + "/" + name
		return in, false, nil
	}
	if in.Optional {
		in.URL = "file:///nonexistent/" + name // no ancestor left it, which is allowed
		return in, false, nil
	}
	return in, false, &badInput{name, fmt.Errorf("%w: no ancestor of %s left a %s file %q, and its remote is no URL", stage.ErrInput, a.task.Name, d.Type, name)}
}

// store sends the outputs among data to their places and records them.
func (a *Attempt) store(ctx context.Context, data []steering.ExpandedData) error {
	for i := range data {
		d := &data[i]
		if d.Movement == steering.MovementInput || d.Transfer == steering.TransferNo || a.isLocal(d) {
			continue
		}
		out := stage.Output{
			Type: fileType(d.Type), Name: fileName(d), Local: localName(d), Compression: stage.Compression(d.Compression),
			Optional: d.Transfer == steering.TransferMaybe, MaxSize: d.MaxSize, Budget: a.budget,
		}
		switch area := strings.TrimSuffix(a.Lease.TempArea, "/"); {
		case isURL(d.Remote):
			out.URL = d.Remote
		case d.Type == steering.DataPermanent:
			return fmt.Errorf("%w: output %s: its remote %q is no URL, and permanent files are not kept by coordinators", errDocument, out.Local, d.Remote)
		case area != "":
			// Attempt-unique by itself: nothing is to be published.
			out.URL = fmt.Sprintf("%s/%d/%d/%s.%s", area, a.Lease.Task.Dataset, a.Lease.Task.Job, out.Name, a.Lease.ID)
			out.Final = true
		case d.Type == steering.DataDatasetTemp || d.Type == steering.DataSiteTemp:
			return fmt.Errorf("%w: output %s: %s files need a storage area or a remote URL", errDocument, out.Local, d.Type)
		}
		record, err := a.Mover.Store(ctx, out, a.dir.Work(), a.Lease.ID)
		if errors.Is(err, stage.ErrSkipped) {
			continue
		}
		if err != nil {
			return err
		}
		a.report.Outputs = append(a.report.Outputs, record)
	}
	return nil
}

// isLocal tells whether a file never leaves the attempt: what one tray or module
// leaves for the next one of the same task.
func (a *Attempt) isLocal(d *steering.ExpandedData) bool {
	return d.Type == steering.DataTrayTemp || d.Type == steering.DataTaskTemp
}

// fileName is what consumers ask for: the remote name, or the local one.
func fileName(d *steering.ExpandedData) string {
	if d.Remote != "" {
		return d.Remote
	}
	return d.Local
}

// localName is the name below the working directory.
func localName(d *steering.ExpandedData) string {
	if d.Local != "" {
		return d.Local
	}
	return path.Base(d.Remote)
}

func isURL(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	return ok && scheme != "" && strings.HasPrefix(rest, "//")
}

func fileType(t steering.DataType) protocol.FileType {
	var f protocol.FileType
	_ = f.UnmarshalText([]byte(t)) // the words are the same; an empty one is permanent
	if f == 0 {
		f = protocol.FilePermanent
	}
	return f
}
