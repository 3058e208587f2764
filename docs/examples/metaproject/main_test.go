package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The digest of a metaproject is its identity: packing twice, or packing a copy
// with other file times, must not change it.
func TestSameSourcesSameBytes(t *testing.T) {
	var archives [2][]byte
	for i := range archives {
		source := t.TempDir()
		if err := os.MkdirAll(filepath.Join(source, "pkg", "__pycache__"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, mode := range map[string]os.FileMode{
			"pkg/b.py": 0o644, "pkg/a.py": 0o600, "tool": 0o755, ".hidden": 0o644,
			"pkg/__pycache__/a.pyc": 0o644,
		} {
			content := []byte(name)
			if filepath.Ext(name) == ".pyc" {
				content = append(content, byte(i))
			}
			if err := os.WriteFile(filepath.Join(source, name), content, mode); err != nil {
				t.Fatal(err)
			}
		}
		entries := map[string]entry{}
		if err := add(entries, source, "lib/python"); err != nil {
			t.Fatal(err)
		}
		if len(entries) != 3 || entries["lib/python/tool"].mode != 0o755 || entries["lib/python/pkg/a.py"].mode != 0o644 {
			t.Fatalf("entries = %v, want pkg/a.py and pkg/b.py as 0644 and tool as 0755", entries)
		}
		var err error
		if archives[i], err = archive(entries); err != nil {
			t.Fatal(err)
		}
	}
	if string(archives[0]) != string(archives[1]) {
		t.Error("two archives of the same sources differ")
	}
}

// What cannot be packed is said, not left out: a program would miss it on the node.
func TestLinkIsRefused(t *testing.T) {
	source := t.TempDir()
	if err := os.Symlink("libx.so.1", filepath.Join(source, "libx.so")); err != nil {
		t.Fatal(err)
	}
	if err := add(map[string]entry{}, source, "lib"); err == nil || !strings.Contains(err.Error(), "libx.so is no regular file") {
		t.Errorf("add of a link = %v, want an error that names it", err)
	}
}
