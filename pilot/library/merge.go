package library

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"floe/cache/pack"
)

type merge struct {
	Files    []string
	Output   string
	Header   int
	Optional bool
}

// maxHeader bounds the lines that files have in common.
const maxHeader = 1 << 20

func (s *step) merge(ctx context.Context, v merge) error {
	output, err := s.within(v.Output)
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	names, err := s.match(".", v.Files, v.Optional)
	if err != nil {
		return err
	}
	// A pattern that fits the output of an earlier run does not mean it.
	names = slices.DeleteFunc(names, func(name string) bool { return name == output })
	return s.create(output, func(w io.Writer) error {
		out := &counted{w: w}
		var common []byte
		for i, name := range names {
			header, err := s.append(ctx, out, name, v.Header, i > 0)
			if err != nil {
				return err
			}
			if i == 0 {
				common = header
			} else if !bytes.Equal(header, common) {
				return fmt.Errorf("%s begins with other lines than %s; header: %d says that they are the same", name, names[0], v.Header)
			}
			s.files++
		}
		s.bytes = out.n
		s.say("merged %d files into %s, %d bytes", s.files, output, s.bytes)
		return nil
	})
}

// append copies a file to out, without its header lines if skip is set, and
// returns these lines. Where files have headers they are text: each then ends with
// a line end.
func (s *step) append(ctx context.Context, out *counted, name string, lines int, skip bool) ([]byte, error) {
	f, _, err := pack.OpenFile(s.root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(pack.Until(ctx, f), 64<<10)
	var header []byte
	for range lines {
		line, err := readLine(in, maxHeader-len(header))
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s ends within its %d header lines", name, lines)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		header = append(header, line...)
	}
	if !skip {
		if _, err := out.Write(header); err != nil {
			return nil, err
		}
	}
	if _, err := io.Copy(out, in); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if lines > 0 && out.n > 0 && out.last != '\n' {
		_, err = out.Write([]byte{'\n'})
	}
	return header, err
}

// readLine reads a line with its end, of at most limit bytes.
func readLine(in *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if line = append(line, part...); len(line) > limit {
			return nil, fmt.Errorf("its header is longer than %d bytes", maxHeader)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// counted counts what is written, and keeps the last byte.
type counted struct {
	w    io.Writer
	n    int64
	last byte
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	if c.n += int64(n); n > 0 {
		c.last = b[n-1]
	}
	return n, err
}
