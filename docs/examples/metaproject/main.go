// Command metaproject packs a software environment for floe: a gzipped tar
// that a node unpacks, whose bin/ goes on PATH and whose lib/python goes on
// PYTHONPATH. The same sources give the same bytes: entries are sorted and
// carry no times, owners or build paths.
//
//	go run ./docs/examples/metaproject -o DIR -name photon -version 1.0 \
//	    go:./docs/examples/photon/propagate=bin/photon-propagate \
//	    docs/examples/photon/python=lib/python
//
// Each argument is source=destination; a source beginning with go: is a main
// package, built static. Directories are packed whole, but for what Python
// caches and files whose names begin with a dot. It prints one JSON object with
// the file's path, size and digest.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

// packed is what the program prints.
type packed struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Path    string `json:"path"`
	Size    int    `json:"size"`
	Digest  string `json:"digest"`
}

// entry is one file of the archive.
type entry struct {
	mode    int64
	content []byte
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "metaproject:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	flags := flag.NewFlagSet("metaproject", flag.ContinueOnError)
	output := flags.String("o", ".", "directory for the archive")
	name := flags.String("name", "", "name of the metaproject")
	version := flags.String("version", "", "its version")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *name == "" || *version == "" || flags.NArg() == 0 {
		return fmt.Errorf("usage: metaproject -o DIR -name NAME -version VERSION SOURCE=DESTINATION [SOURCE=DESTINATION]")
	}
	entries := map[string]entry{}
	for _, argument := range flags.Args() {
		source, destination, ok := strings.Cut(argument, "=")
		if !ok {
			return fmt.Errorf("%q is not SOURCE=DESTINATION", argument)
		}
		if err := add(entries, source, path.Clean(destination)); err != nil {
			return err
		}
	}
	content, err := archive(entries)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*output, 0o755); err != nil {
		return err
	}
	file := filepath.Join(*output, *name+"-"+*version+".tar.gz")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(packed{
		Name: *name, Version: *version, Path: file, Size: len(content),
		Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(content)),
	})
}

// add puts a source under its destination.
func add(to map[string]entry, source, destination string) error {
	if pkg, ok := strings.CutPrefix(source, "go:"); ok {
		content, err := build(pkg)
		to[destination] = entry{0o755, content}
		return err
	}
	return filepath.WalkDir(source, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "__pycache__" {
			return fs.SkipDir
		}
		if d.IsDir() || strings.HasPrefix(d.Name(), ".") || strings.HasSuffix(d.Name(), ".pyc") {
			return nil
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no regular file: only those and directories are packed", file)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		inner, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		to[path.Join(destination, filepath.ToSlash(inner))] = entry{mode, content}
		return nil
	})
}

// build compiles a main package for this platform, the same bytes anywhere.
func build(pkg string) ([]byte, error) {
	folder, err := os.MkdirTemp("", "metaproject")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	binary := filepath.Join(folder, "binary")
	command := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", binary, pkg)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("build %s: %w", pkg, err)
	}
	return os.ReadFile(binary)
}

// archive writes the entries and the folders above them.
func archive(entries map[string]entry) ([]byte, error) {
	names := map[string]bool{}
	for name := range entries {
		names[name] = true
		for folder := path.Dir(name); folder != "."; folder = path.Dir(folder) {
			names[folder+"/"] = true
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	var content bytes.Buffer
	zipped := gzip.NewWriter(&content)
	out := tar.NewWriter(zipped)
	for _, name := range sorted {
		one := entries[name]
		header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: one.mode, Size: int64(len(one.content)), Format: tar.FormatUSTAR}
		if strings.HasSuffix(name, "/") {
			header.Typeflag, header.Mode = tar.TypeDir, 0o755
		}
		if err := out.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := out.Write(one.content); err != nil {
			return nil, err
		}
	}
	if err := out.Close(); err != nil {
		return nil, err
	}
	if err := zipped.Close(); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}
