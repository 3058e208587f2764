package glidein

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"floe/glidein/batch"
)

// Bounds of what is read of an ended job, and told of it.
const (
	wordsRead = 4 << 10
	wordsTold = 200
)

// lastWords are the last line that a pilot job, or the batch system about it, has
// printed into its directory; empty where there is none.
func lastWords(dir string) string {
	for _, name := range []string{batch.Output, "batch-output"} {
		if line := lastLine(filepath.Join(dir, name)); line != "" {
			return line
		}
	}
	return ""
}

func lastLine(file string) string {
	info, err := os.Lstat(file)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info.Size() > wordsRead {
		_, _ = f.Seek(-wordsRead, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, wordsRead))
	lines := bytes.Split(b, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		line := strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || r == unicode.ReplacementChar {
				return -1
			}
			return r
		}, strings.ToValidUTF8(string(lines[i]), ""))
		if line = strings.TrimSpace(line); line != "" {
			return cut(line, wordsTold)
		}
	}
	return ""
}
