package fetch

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"

	"floe/protocol/steering"
)

// subversion is a file or folder of an svn repository at one revision, by the WebDAV
// that Apache speaks: OPTIONS tells the newest revision and where trees of a revision
// are, PROPFIND lists folders, GET gives files.
type subversion struct {
	session   *Session
	reference steering.External
	pinned    steering.External
	// tree is the address of the file or folder in the revision.
	tree *url.URL
	dir  string // holds the file or folder; empty until loaded
	name string // of the file, empty for a folder
}

var digits = regexp.MustCompile(`^[0-9]{1,10}$`)

// resolve implements origin.
func (v *subversion) resolve(ctx context.Context) (steering.External, error) {
	if v.tree != nil {
		return v.pinned, nil
	}
	const ask = `<?xml version="1.0" encoding="utf-8"?><D:options xmlns:D="DAV:"><D:activity-collection-set/></D:options>`
	resp, err := v.do(ctx, "OPTIONS", v.reference.URL, ask, "")
	if err != nil {
		return v.reference, err
	}
	resp.Body.Close()
	newest, stub, root := resp.Header.Get("SVN-Youngest-Rev"), resp.Header.Get("SVN-Rev-Root-Stub"), resp.Header.Get("SVN-Repository-Root")
	if !digits.MatchString(newest) || stub == "" || root == "" {
		return v.reference, fmt.Errorf("%w: %s does not answer as an svn repository (1.7 or later) does", ErrNotThere, resp.Request.URL.Host)
	}
	revision := v.reference.Revision
	if revision == "" {
		revision = newest
	}
	at := resp.Request.URL
	below, ok := strings.CutPrefix(at.EscapedPath(), strings.TrimSuffix(root, "/"))
	tree := *at
	tree.Path, err = url.PathUnescape(strings.TrimSuffix(stub, "/") + "/" + revision + below)
	if !ok || err != nil || !strings.HasPrefix(tree.Path, "/") {
		return v.reference, fmt.Errorf("%w: %s names a repository that the address is not in", ErrRefused, at.Host)
	}
	tree.RawPath = ""
	v.tree, v.pinned = &tree, v.reference
	v.pinned.Revision = revision
	return v.pinned, nil
}

// do sends one request of WebDAV.
func (v *subversion) do(ctx context.Context, method, address, body, depth string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "text/xml")
	}
	if depth != "" {
		r.Header.Set("Depth", depth)
	}
	resp, err := v.session.fetcher.client.Do(r)
	if err != nil {
		return nil, unwrapURL(err)
	}
	return resp, statusError(resp)
}

// load implements origin.
func (v *subversion) load(ctx context.Context) (steering.External, error) {
	pinned, err := v.resolve(ctx)
	if err != nil || v.dir != "" {
		return pinned, err
	}
	dir, err := v.session.tempDir()
	if err != nil {
		return pinned, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return pinned, err
	}
	defer root.Close()
	down := download{subversion: v, root: root, files: v.session.fetcher.limits.Files, left: int64(v.session.fetcher.limits.Module)}
	entries, self, err := down.list(ctx, v.tree)
	if err != nil {
		return pinned, err
	}
	if self.folder {
		err = down.folder(ctx, v.tree, ".", entries, 0)
	} else {
		v.name = path.Base(v.tree.Path)
		err = down.file(ctx, v.tree, v.name)
	}
	if err == nil {
		v.dir = dir
	}
	return pinned, err
}

// pick implements origin.
func (v *subversion) pick(ctx context.Context, _ string, into *os.Root) (string, error) {
	from, err := os.OpenRoot(v.dir)
	if err != nil {
		return "", err
	}
	defer from.Close()
	return copyInto(ctx, from, v.name, into)
}

// download brings a folder, file by file.
type download struct {
	*subversion
	root  *os.Root
	files int
	left  int64
}

// listed is one name in a folder.
type listed struct {
	name   string
	folder bool
}

type multistatus struct {
	Responses []struct {
		Href string `xml:"DAV: href"`
		Prop []struct {
			Type struct {
				Collection *struct{} `xml:"DAV: collection"`
			} `xml:"DAV: prop>resourcetype"`
		} `xml:"DAV: propstat"`
	} `xml:"DAV: response"`
}

// maxListing bounds the answer about one folder.
const maxListing = 16 << 20

// list asks for the names in a folder; self is the folder, or a file.
func (d *download) list(ctx context.Context, at *url.URL) (entries []listed, self listed, err error) {
	const ask = `<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:resourcetype/></D:prop></D:propfind>`
	resp, err := d.do(ctx, "PROPFIND", at.String(), ask, "1")
	if err != nil {
		return nil, self, err
	}
	defer resp.Body.Close()
	var answer multistatus
	if err := xml.NewDecoder(io.LimitReader(resp.Body, maxListing)).Decode(&answer); err != nil {
		return nil, self, fmt.Errorf("%w: the list of a folder: %w", ErrRefused, err)
	}
	own := strings.TrimSuffix(at.Path, "/")
	found := false
	for _, r := range answer.Responses {
		u, err := url.Parse(r.Href)
		if err != nil {
			return nil, self, fmt.Errorf("%w: the list of a folder names %.80q", ErrRefused, r.Href)
		}
		l := listed{}
		for _, p := range r.Prop {
			l.folder = l.folder || p.Type.Collection != nil
		}
		name, below := strings.CutPrefix(strings.TrimSuffix(u.Path, "/"), own)
		if below && name == "" {
			self, found = l, true
			continue
		}
		l.name = strings.TrimPrefix(name, "/")
		if !below || !fs.ValidPath(l.name) || strings.Contains(l.name, "/") {
			return nil, self, fmt.Errorf("%w: the list of a folder names %.80q, which is not in it", ErrRefused, r.Href)
		}
		entries = append(entries, l)
	}
	if !found {
		return nil, self, fmt.Errorf("%w: the list of a folder lacks the folder", ErrRefused)
	}
	return entries, self, nil
}

func (d *download) folder(ctx context.Context, at *url.URL, name string, entries []listed, depth int) error {
	if depth > 40 {
		return fmt.Errorf("%w: folders more than 40 deep", ErrTooLarge)
	}
	for _, e := range entries {
		below, local := *at, path.Join(name, e.name)
		below.Path = strings.TrimSuffix(at.Path, "/") + "/" + e.name
		if d.files--; d.files < 0 {
			return fmt.Errorf("%w: more than %d files", ErrTooLarge, d.session.fetcher.limits.Files)
		}
		if !e.folder {
			if err := d.file(ctx, &below, local); err != nil {
				return err
			}
			continue
		}
		inner, _, err := d.list(ctx, &below)
		if err == nil {
			err = d.root.Mkdir(local, 0o700)
		}
		if err == nil {
			err = d.folder(ctx, &below, local, inner, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *download) file(ctx context.Context, at *url.URL, local string) error {
	resp, err := d.session.get(ctx, at.String())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out, err := d.root.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, resp.Body)
	if closed := out.Close(); err == nil {
		err = closed
	}
	if d.left -= n; err == nil && d.left < 0 {
		err = fmt.Errorf("%w: a module may have %v", ErrTooLarge, d.session.fetcher.limits.Module)
	}
	return err
}
