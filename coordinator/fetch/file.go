package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"floe/cache"
	"floe/protocol"
	"floe/protocol/steering"
)

// file is one file, or an archive, behind an address.
type file struct {
	session   *Session
	reference steering.External
	dir       string // holds the file, or what was in the archive; empty until loaded
	pinned    steering.External
}

// resolve implements origin.
func (f *file) resolve(context.Context) (steering.External, error) { return f.reference, nil }

// archives are the suffixes of what is unpacked. A zip file stays one: Python
// imports from it.
var archives = []string{".tar", ".tar.gz", ".tgz", ".tar.zst"}

func isArchive(name string) bool {
	for _, suffix := range archives {
		if strings.HasSuffix(strings.ToLower(name), suffix) {
			return true
		}
	}
	return false
}

// load implements origin.
func (f *file) load(ctx context.Context) (steering.External, error) {
	if f.dir != "" {
		return f.pinned, nil
	}
	dir, err := f.session.tempDir()
	if err != nil {
		return f.pinned, err
	}
	resp, err := f.session.get(ctx, f.reference.URL)
	if err != nil {
		return f.pinned, err
	}
	defer resp.Body.Close()
	name, err := fileName(f.reference.URL)
	if err != nil {
		return f.pinned, err
	}
	part := filepath.Join(dir, name)
	got, err := receive(part, resp.Body)
	if err != nil {
		return f.pinned, err
	}
	if want := f.reference.SHA256; !want.IsZero() && got != want {
		return f.pinned, fmt.Errorf("%w: it has the digest sha256=%s", ErrChanged, got.Hex())
	}
	if isArchive(name) {
		if dir, err = f.unpack(part); err != nil {
			return f.pinned, err
		}
	} else if kind := resp.Header.Get("Content-Type"); strings.HasPrefix(kind, "text/html") && !strings.HasSuffix(name, ".html") {
		return f.pinned, fmt.Errorf("%w: %s answers with a web page and no file; use the address of the raw file%s", ErrNotThere, resp.Request.URL.Host, rawAddress(f.reference.URL))
	}
	f.dir, f.pinned = dir, f.reference
	f.pinned.SHA256 = got
	return f.pinned, nil
}

// fileName is the name of the file behind an address.
func fileName(address string) (string, error) {
	u, err := parseURL(address)
	if err != nil {
		return "", err
	}
	name := path.Base(u.Path)
	if name == "" || name == "." || name == "/" || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 200 {
		return "", fmt.Errorf("%w: the address names no file", ErrRefused)
	}
	return name, nil
}

// rawAddress knows where a web page about a file has the file itself.
func rawAddress(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	parts := strings.SplitN(strings.TrimPrefix(u.Path, "/"), "/", 5)
	if u.Host == "github.com" && len(parts) == 5 && parts[2] == "blob" {
		return fmt.Sprintf(": git+https://github.com/%s/%s@%s#%s", parts[0], parts[1], parts[3], parts[4])
	}
	return ""
}

// receive writes what comes to a file and returns its digest.
func receive(to string, from io.Reader) (protocol.Digest, error) {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return protocol.Digest{}, err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, hash), from)
	if err := errors.Join(err, out.Close()); err != nil {
		return protocol.Digest{}, err
	}
	return protocol.Digest(hash.Sum(nil)), nil
}

// unpack unpacks an archive by the rules of package cache.
func (f *file) unpack(archive string) (string, error) {
	in, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer in.Close()
	dir, err := f.session.tempDir()
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	limits := f.session.fetcher.limits
	got, err := cache.ExtractWithin(in, root, cache.ExtractLimits{Files: limits.Files, Bytes: limits.Unpacked})
	if errors.Is(err, cache.ErrArchive) {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return dir, errors.Join(err, f.session.spend(int64(got.Bytes)), os.Remove(archive))
}

// pick implements origin.
func (f *file) pick(ctx context.Context, inside string, into *os.Root) (string, error) {
	from, err := os.OpenRoot(f.dir)
	if err != nil {
		return "", err
	}
	defer from.Close()
	name, err := fileName(f.reference.URL)
	if err != nil {
		return "", err
	}
	if !isArchive(name) {
		if inside != "" {
			return "", fmt.Errorf("%w: #%s: %s is no archive (%s) that has an inside", ErrRefused, inside, name, strings.Join(archives, ", "))
		}
		return copyInto(ctx, from, name, into)
	}
	return copyInto(ctx, from, inside, into)
}
