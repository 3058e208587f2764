package server

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"floe/protocol/steering"
)

// maxLinted is how many modules of one submission are looked into, and how large a
// Python file may be.
const (
	maxLinted     = 50
	maxLintedFile = 1 << 20
)

// lintModules warns of parameters that the classes of external modules do not have,
// where that can be told from their text alone.
func (s *Server) lintModules(ctx context.Context, n *submission, uses []steering.ExternalUse) steering.Problems {
	if s.Describe == nil {
		return nil
	}
	var problems steering.Problems
	looked := 0
	for i := range uses {
		u := &uses[i]
		if u.Class == "" || len(u.Given) == 0 {
			continue
		}
		if looked++; looked > maxLinted {
			break
		}
		known, err := s.classParameters(ctx, n, u)
		if err != nil {
			s.Logger.Debug("parameters of an external module not checked", "module", u.Text, "err", err)
			continue
		}
		if known != nil {
			for _, p := range unknownParameters(u, known) {
				if !slices.Contains(problems, p) { // once, however many addresses one src has
					problems = append(problems, p)
				}
			}
		}
	}
	return problems
}

// classParameters are the parameters of a use's class; nil where its text does not
// tell all of them.
func (s *Server) classParameters(ctx context.Context, n *submission, u *steering.ExternalUse) ([]string, error) {
	n.mu.Lock()
	pin := n.pins[u.Text]
	file := n.files[pin.Digest]
	n.mu.Unlock()
	var from io.ReadCloser
	var err error
	if file != "" {
		from, err = os.Open(file)
	} else {
		from, _, err = s.openBlob(ctx, pin.Digest, true)
	}
	if err != nil {
		return nil, err
	}
	defer from.Close()
	dot := strings.LastIndexByte(u.Class, '.')
	name := pin.Path
	if name == "" { // a folder: package.module.Class is in package/module.py
		if dot < 0 {
			return nil, nil
		}
		name = strings.ReplaceAll(u.Class[:dot], ".", "/")
	}
	dir, err := os.MkdirTemp("", "floe-lint-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	text := filepath.Join(dir, "module.py")
	if err := takeMember(from, text, name, name+".py", path.Join(name, "__init__.py")); err != nil {
		return nil, err
	}
	classes, err := s.Describe(ctx, text)
	if err != nil {
		return nil, err
	}
	return classes[u.Class[dot+1:]], nil
}

// takeMember writes the one Python file of a tarball that has one of the names.
func takeMember(from io.Reader, to string, names ...string) error {
	r := tar.NewReader(from)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("no %s in it", names[0])
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !strings.HasSuffix(h.Name, ".py") || !slices.Contains(names, h.Name) {
			continue
		}
		if h.Size > maxLintedFile {
			return fmt.Errorf("%s has %d bytes", h.Name, h.Size)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o600)
	}
}

// unknownParameters warns by the rules of the pilot: a parameter that the class does
// not have ends the task, unless there are args beside it.
func unknownParameters(u *steering.ExternalUse, known []string) steering.Problems {
	var problems steering.Problems
	for _, g := range u.Given {
		if slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, g.Name) }) {
			continue
		}
		list := "it has " + strings.Join(known, ", ")
		if len(known) == 0 {
			list = "it has none"
		}
		problems = append(problems, steering.Problem{
			Line: g.Position.Line, Column: g.Position.Column, Severity: steering.SeverityWarning,
			Message:    fmt.Sprintf("%s: unknown parameter %s of the external class %s; %s", u.Where, g.Name, u.Class, list),
			Suggestion: steering.Nearest(g.Name, known),
		})
	}
	return problems
}
