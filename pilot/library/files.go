package library

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// within is a name as it stands below the work directory. Absolute names are
// taken if they are inside.
func (s *step) within(name string) (string, error) {
	if filepath.IsAbs(name) {
		dir, err := filepath.Abs(s.dir)
		if err != nil {
			return "", err
		}
		inside, err := filepath.Rel(dir, name)
		if err != nil {
			return "", err
		}
		name = inside
	}
	clean := path.Clean(name)
	if !fs.ValidPath(clean) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%q is outside the work directory", name)
	}
	return clean, nil
}

// match returns the files and directories below dir that fit the patterns (*, ?
// and [a-z], within one level each), in the order of the patterns and of their
// names, none twice. A pattern that nothing fits is an error unless optional.
func (s *step) match(dir string, patterns []string, optional bool) ([]string, error) {
	root, err := s.root.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var out []string
	for _, pattern := range patterns {
		clean, err := s.within(pattern)
		if err != nil {
			return nil, err
		}
		var found []string
		if strings.ContainsAny(clean, `*?[\`) {
			if found, err = fs.Glob(root.FS(), clean); err != nil {
				return nil, fmt.Errorf("pattern %q: %w", pattern, err)
			}
		} else if _, err := root.Lstat(clean); err == nil { // a link to nowhere is there, too
			found = []string{clean}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if len(found) == 0 && !optional {
			return nil, fmt.Errorf("nothing fits %q; %s", pattern, s.there(path.Join(dir, path.Dir(clean))))
		}
		for _, name := range found {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out, nil
}

// there says what a directory has, for who looked for something else.
func (s *step) there(dir string) string {
	entries, err := fs.ReadDir(s.root.FS(), dir)
	if err != nil {
		return fmt.Sprintf("there is no directory %s", dir)
	}
	const most = 8
	var names []string
	for i, e := range entries {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(entries)-most))
			break
		}
		names = append(names, e.Name())
	}
	if len(names) == 0 {
		return fmt.Sprintf("%s is empty", dir)
	}
	return fmt.Sprintf("there are %s", strings.Join(names, ", "))
}

// create makes a file of what write writes. It has its name once it is whole.
func (s *step) create(name string, write func(io.Writer) error) error {
	name, err := s.within(name)
	if err != nil {
		return err
	}
	if err := s.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	part := name + ".floe-part"
	f, err := s.root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = s.root.Rename(part, name)
	}
	if err != nil {
		return errors.Join(err, s.root.Remove(part))
	}
	return nil
}

type deletion struct {
	Files                 []string
	Directories, Optional bool
}

func (s *step) delete(ctx context.Context, v deletion) error {
	names, err := s.match(".", v.Files, v.Optional)
	if err != nil {
		return err
	}
	// All is looked at before the first is gone.
	for _, name := range names {
		info, err := s.root.Lstat(name)
		switch {
		case name == ".":
			return errors.New("the work directory itself stays")
		case err != nil:
			return err
		case info.IsDir() && !v.Directories:
			return fmt.Errorf("%s is a directory; with directories: true it is deleted with all it holds", name)
		}
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.root.RemoveAll(name); err != nil {
			return err
		}
		s.say("deleted %s", name)
		s.files++
	}
	return nil
}
