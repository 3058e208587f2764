package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"floe/glidein/batch"
)

// maxRequest bounds what Serve reads. A request that lists 100,000 known jobs has
// some 10 MB.
const maxRequest = 64 << 20

// Serve reads one request, lets a system obey it, and writes the answer. It returns
// the exit status that a plugin ends with.
func Serve(ctx context.Context, system batch.System, in io.Reader, out, errout io.Writer) int {
	answer, err := serve(ctx, system, in)
	if err == nil {
		err = json.NewEncoder(out).Encode(answer)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(errout, err)
	switch {
	case errors.Is(err, batch.ErrTransient): // first: what may be wrong twice is not known
		return ExitTransient
	case errors.Is(err, batch.ErrUnknownJob):
		return ExitUnknownJob
	case errors.Is(err, batch.ErrRefused), errors.Is(err, errRequest):
		return ExitRefused
	}
	return ExitTransient
}

// errRequest: a request that no system can obey.
var errRequest = errors.New("wrong request")

func readRequest(in io.Reader) (*Request, []batch.Job, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxRequest+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read the request: %w", err)
	}
	if len(text) > maxRequest {
		return nil, nil, fmt.Errorf("%w: more than %d MiB", errRequest, maxRequest>>20)
	}
	r := new(Request)
	if err := decode(text, r); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errRequest, err)
	}
	if r.Version != Version {
		return nil, nil, fmt.Errorf("%w: version %d, and this floe speaks %d", errRequest, r.Version, Version)
	}
	jobs := make([]batch.Job, len(r.Jobs))
	for i := range r.Jobs {
		if jobs[i], err = r.Jobs[i].fromWire(); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errRequest, err)
		}
	}
	if len(jobs) == 0 && (r.Verb == VerbWrite || r.Verb == VerbSubmit) {
		return nil, nil, fmt.Errorf("%w: %s without jobs", errRequest, r.Verb)
	}
	return r, jobs, nil
}

func serve(ctx context.Context, system batch.System, in io.Reader) (*Answer, error) {
	r, jobs, err := readRequest(in)
	if err != nil {
		return nil, err
	}
	a := new(Answer)
	switch r.Verb {
	case VerbProperties:
		p := system.Properties()
		a.Properties = &Properties{Version: Version, Name: p.Name, MaxArray: p.MaxArray, Lists: p.Lists, GPUs: p.GPUs, Walltime: p.Walltime, Sends: p.Sends}
	case VerbWrite:
		a.SubmitFile, err = system.WriteSubmitFile(jobs)
	case VerbSubmit:
		a.IDs, err = system.Submit(ctx, jobs, r.SubmitFile)
	case VerbStatus:
		known := make([]batch.Known, len(r.Known))
		for i, k := range r.Known {
			launch, _ := batch.LaunchOf(k.Name)
			known[i] = batch.Known{ID: k.ID, Launch: launch, Index: k.Index}
		}
		var list []batch.Entry
		if list, err = system.Status(ctx, known); err == nil {
			jobs := make([]Entry, len(list))
			for i, e := range list {
				jobs[i] = Entry{ID: e.ID, Name: batch.JobName(e.Launch), Index: e.Index, State: e.State.String(), Reason: e.Reason}
				if !e.Since.IsZero() {
					jobs[i].Since = float64(e.Since.Unix())
				}
			}
			a.Jobs = &jobs
		}
	case VerbRemove:
		err = system.Remove(ctx, r.ID)
	case VerbClean:
		err = system.Clean(ctx, r.ID, r.Directory)
	default:
		err = fmt.Errorf("%w: there is no verb %q", errRequest, r.Verb)
	}
	return a, err
}
