package library

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"floe/cache/pack"
	"floe/pilot/stage"
)

type checksum struct {
	Files     []string
	Manifest  string
	Algorithm string
	Verify    bool
}

func (s *step) checksum(ctx context.Context, v checksum) error {
	names, err := s.match(".", v.Files, false)
	if err != nil {
		return err
	}
	if v.Verify {
		return s.verify(ctx, v, names)
	}
	if len(names) == 0 {
		return errors.New("files is empty: there is nothing to sum")
	}
	var lines strings.Builder
	for _, name := range names {
		if strings.ContainsAny(name, "\n\r\\") {
			return fmt.Errorf("%q: such a name cannot stand in a manifest", name)
		}
		sum, err := s.sum(ctx, v.Algorithm, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%s  %s\n", sum, name)
	}
	s.say("%s", strings.TrimSuffix(lines.String(), "\n"))
	if v.Manifest == "" {
		return nil
	}
	return s.create(v.Manifest, func(w io.Writer) error {
		_, err := io.WriteString(w, lines.String())
		return err
	})
}

// sum is a file's checksum in hexadecimal.
func (s *step) sum(ctx context.Context, algorithm, name string) (string, error) {
	h, err := stage.NewHash(algorithm)
	if err != nil {
		return "", err
	}
	f, _, err := pack.OpenFile(s.root, name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	n, err := io.Copy(h, pack.Until(ctx, f))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	s.files++
	s.bytes += n
	return hex.EncodeToString(h.Sum(nil)), nil
}

// verify compares files with a manifest, which must name those in must.
func (s *step) verify(ctx context.Context, v checksum, must []string) error {
	if v.Manifest == "" {
		return errors.New("verify needs the parameter manifest")
	}
	name, err := s.within(v.Manifest)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	f, _, err := pack.OpenFile(s.root, name)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	defer f.Close()
	entries, err := readManifest(f, v.Algorithm)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", name, err)
	}
	named := make(map[string]bool, len(entries))
	var wrong []string
	for _, e := range entries {
		inside, err := s.within(e.name)
		if err != nil {
			return fmt.Errorf("manifest %s: line %d: %w", name, e.line, err)
		}
		named[inside] = true
		sum, err := s.sum(ctx, v.Algorithm, inside)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, inside+" is missing")
		case err != nil:
			return err
		case sum != e.sum:
			wrong = append(wrong, fmt.Sprintf("%s has %s, want %s", inside, sum, e.sum))
		}
	}
	for _, file := range must {
		if !named[file] {
			wrong = append(wrong, file+" is not in the manifest")
		}
	}
	for _, w := range wrong {
		s.say("%s", w)
	}
	const most = 3
	switch {
	case len(wrong) > most:
		return fmt.Errorf("%d files are not as %s says: %s, …", len(wrong), name, strings.Join(wrong[:most], "; "))
	case len(wrong) > 0:
		return fmt.Errorf("not as %s says: %s", name, strings.Join(wrong, "; "))
	}
	s.say("%d files are as %s says", len(entries), name)
	return nil
}

// entry is one line of a manifest.
type entry struct {
	sum, name string
	line      int
}

// Bounds of a manifest. A line holds a path of 4096 bytes, the kernel's longest.
const (
	maxManifestLine  = 8 << 10
	maxManifestFiles = 1_000_000
)

// readManifest reads what sha256sum and its kin write: digits, a blank, a blank or
// an asterisk, the name. Empty lines are skipped.
func readManifest(r io.Reader, algorithm string) ([]entry, error) {
	h, err := stage.NewHash(algorithm)
	if err != nil {
		return nil, err
	}
	var out []entry
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxManifestLine)
	for line := 1; in.Scan(); line++ {
		text := strings.TrimSuffix(in.Text(), "\r")
		if text == "" {
			continue
		}
		sum, name, ok := strings.Cut(text, " ")
		digits, err := hex.DecodeString(sum)
		switch {
		case !ok || err != nil || len(name) < 2 || name[0] != ' ' && name[0] != '*':
			return nil, fmt.Errorf("line %d: %.80q: want a checksum, two blanks and a name", line, text)
		case len(digits) != h.Size():
			return nil, fmt.Errorf("line %d: a checksum of %d digits; %s has %d", line, len(sum), algorithm, 2*h.Size())
		case len(out) == maxManifestFiles:
			return nil, fmt.Errorf("line %d: more than %d files", line, maxManifestFiles)
		}
		out = append(out, entry{strings.ToLower(sum), name[1:], line})
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("behind line %d: %w", len(out), err)
	}
	if len(out) == 0 {
		return nil, errors.New("is empty")
	}
	return out, nil
}
