package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"floe/protocol"
)

// gridScheme is gsiftp, GridFTP, through the command-line clients that grid sites
// have: the three of gfal, or globus-url-copy. They find their credentials
// themselves (X509_USER_PROXY). A file passes through the local disk on its way.
type gridScheme struct {
	// temp is where; empty is the system's directory for temporary files.
	temp string
}

// gridClient runs the programs that are here.
type gridClient struct {
	copy, rename, remove string // programs; only copy with globus-url-copy
	env                  []string
}

// distributionPython is for gfal's programs, whose modules are installed for the
// distribution's Python and not for the first one on PATH.
const distributionPython = "/usr/bin/python3"

// findGridClient looks for the programs. A node without them is no fault of a task.
func findGridClient() (gridClient, error) {
	var c gridClient
	var missing error
	for name, program := range map[string]*string{"gfal-copy": &c.copy, "gfal-rename": &c.rename, "gfal-rm": &c.remove} {
		path, err := exec.LookPath(name)
		*program, missing = path, errors.Join(missing, err)
	}
	if missing == nil {
		if _, err := os.Stat(distributionPython); err == nil && os.Getenv("GFAL_PYTHONBIN") == "" {
			c.env = append(os.Environ(), "GFAL_PYTHONBIN="+distributionPython)
		}
		return c, nil
	}
	path, err := exec.LookPath("globus-url-copy")
	if err != nil {
		return c, fmt.Errorf("%w: gsiftp: this node has neither gfal-copy, gfal-rename and gfal-rm nor globus-url-copy", ErrStorage)
	}
	return gridClient{copy: path}, nil
}

// run runs a program to its end. What it says on failure is the error.
func (c gridClient) run(ctx context.Context, program string, args ...string) error {
	p := exec.CommandContext(ctx, program, args...)
	p.Env = c.env
	var said bytes.Buffer
	p.Stderr = &said
	err := p.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	text := strings.Join(strings.Fields(said.String()), " ")
	if len(text) > maxClientWords {
		text = strings.ToValidUTF8(text[:maxClientWords], "") + "…"
	}
	class := ErrStorage
	// Both say so of the file; of a credential that is not there, too, by its name.
	if strings.Contains(text, "No such file") && !strings.Contains(text, "certificate") && !strings.Contains(text, "credential") {
		class = errGone
	}
	return fmt.Errorf("%w: %s: %w: %s", class, filepath.Base(program), err, text)
}

const maxClientWords = 500

// errGone: the file is not there.
var errGone = errors.New("no such file")

// transfer copies between a URL and a local file, or between two URLs.
func (c gridClient) transfer(ctx context.Context, from, to string) error {
	if c.rename != "" {
		return c.run(ctx, c.copy, "-f", "-p", from, to)
	}
	return c.run(ctx, c.copy, "-cd", from, to)
}

func local(path string) string { return (&url.URL{Scheme: "file", Path: path}).String() }

func (g gridScheme) open(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	c, err := findGridClient()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(g.temp, "grid-")
	if err != nil {
		return nil, fault(ErrNode, err)
	}
	defer os.RemoveAll(dir) // who has the file open keeps it
	file := filepath.Join(dir, "file")
	if err := c.transfer(ctx, u.String(), local(file)); err != nil {
		if errors.Is(err, errGone) {
			err = fmt.Errorf("%w: %w", ErrInput, err)
		}
		return nil, err
	}
	f, err := os.Open(file)
	return f, fault(ErrNode, err)
}

func (g gridScheme) put(ctx context.Context, u *url.URL, body io.Reader, _ protocol.ByteSize) error {
	c, err := findGridClient()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(g.temp, "grid-")
	if err != nil {
		return fault(ErrNode, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, body); err != nil {
		return fault(ErrNode, err)
	}
	if err := f.Close(); err != nil {
		return fault(ErrNode, err)
	}
	return fault(ErrStorage, c.transfer(ctx, local(f.Name()), u.String()))
}

// move renames, or copies on the server where globus-url-copy is all there is.
func (g gridScheme) move(ctx context.Context, from, to *url.URL) error {
	c, err := findGridClient()
	if err != nil {
		return err
	}
	if c.rename != "" {
		return fault(ErrStorage, c.run(ctx, c.rename, from.String(), to.String()))
	}
	// An empty file may be what an earlier move has left, and not the file.
	empty, err := g.isEmpty(ctx, c, from)
	if err != nil {
		return fault(ErrStorage, err)
	}
	if empty {
		if _, err := g.isEmpty(ctx, c, to); err == nil {
			return nil
		}
	}
	if err := c.transfer(ctx, from.String(), to.String()); err != nil {
		return fault(ErrStorage, err)
	}
	return g.remove(ctx, from)
}

// isEmpty looks at the first byte of a file with globus-url-copy.
func (g gridScheme) isEmpty(ctx context.Context, c gridClient, u *url.URL) (bool, error) {
	f, err := os.CreateTemp(g.temp, "grid-")
	if err != nil {
		return false, fault(ErrNode, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := c.run(ctx, c.copy, "-len", "1", u.String(), local(f.Name())); err != nil {
		return false, err
	}
	info, err := os.Stat(f.Name())
	return err == nil && info.Size() == 0, err
}

// remove removes a file. globus-url-copy cannot: it leaves an empty one.
func (g gridScheme) remove(ctx context.Context, u *url.URL) error {
	c, err := findGridClient()
	if err != nil {
		return err
	}
	if c.remove == "" {
		return g.put(ctx, u, strings.NewReader(""), 0)
	}
	if err := c.run(ctx, c.remove, u.String()); err != nil && !errors.Is(err, errGone) && !gone(err) {
		return fault(ErrStorage, err)
	}
	return nil
}

// gone reads gfal-rm's exit code, which is an errno, for a file that is not there.
func gone(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 2
}
