// Package wiretest has the recorded messages of machines, for the tests that show
// that this build still speaks with pilots and sites of earlier versions.
//
// testdata/VERSION/MESSAGE.hex in this folder is one message as that minor version
// wrote it, every field of it set. Those of the version that is being worked on are
// written anew with its changes; a release keeps its own for good, and the first
// change after it adds a folder (docs/testing.md).
package wiretest

import (
	"cmp"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"

	"floe/protocol"
)

// Kept is how many minor versions before this one are spoken with.
// Source: docs/protocol.md.
const Kept = 2

//go:embed testdata
var samples embed.FS

// Minor is the minor version of a version: 0.1 of 0.1.0-dev.
func Minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// Versions are the minor versions that this build must understand, oldest first; the
// last one is its own.
func Versions(t testing.TB) []string {
	t.Helper()
	entries, err := samples.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	slices.SortFunc(all, func(a, b string) int { return slices.Compare(numbers(t, a), numbers(t, b)) })
	own := Minor(protocol.Version)
	at := slices.Index(all, own)
	if at < 0 {
		t.Fatalf("no samples of %s: go test ./protocol -run TestWireSamples -update", own)
	}
	return all[max(0, at-Kept) : at+1]
}

func numbers(t testing.TB, version string) []int {
	t.Helper()
	var out []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			t.Fatalf("testdata/%s: want a folder for each minor version, such as 0.1", version)
		}
		out = append(out, n)
	}
	return out
}

// Messages are the names of what a version's folder has.
func Messages(t testing.TB, version string) (names []string) {
	t.Helper()
	files, err := samples.ReadDir("testdata/" + version)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".hex"))
	}
	return names
}

// Sample is one message as a version wrote it; nil where that version had none.
func Sample(t testing.TB, version, message string) []byte {
	t.Helper()
	text, err := samples.ReadFile("testdata/" + version + "/" + message + ".hex")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	data, decodeErr := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err := cmp.Or(err, decodeErr); err != nil {
		t.Fatalf("%s of %s: %v", message, version, err)
	}
	return data
}
