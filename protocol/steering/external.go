package steering

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"floe/protocol"
)

// ExternalKind is how the code of an external module is fetched.
type ExternalKind string

// The kinds.
const (
	ExternalFile ExternalKind = "file" // one file or archive, by HTTP
	ExternalGit  ExternalKind = "git"  // a repository, by git's smart HTTP
	ExternalSVN  ExternalKind = "svn"  // a file or folder of a repository, by WebDAV
)

// External is a URL from which coordinators fetch the code of a module when a
// dataset is submitted:
//
//	https://HOST/PATH[#INSIDE][&sha256=DIGITS]
//	git+https://HOST/REPOSITORY[@COMMIT|@TAG|@BRANCH][#INSIDE]
//	svn+https://HOST/PATH[@REVISION]
//
// A URL whose path ends in .git is a git repository without git+, too. http:// needs
// a sha256. INSIDE is a file or folder of the archive or repository; all of it is
// taken where it is empty.
type External struct {
	Kind ExternalKind
	// URL is where the bytes are: without prefix, revision and fragment.
	URL string
	// Revision is a commit, tag or branch of git, a revision of svn; empty is the newest.
	Revision string
	// Inside is a clean path, empty for all.
	Inside string
	// SHA256 is what the bytes at a URL of the kind ExternalFile must have; zero is
	// not declared.
	SHA256 protocol.Digest
}

// String writes the canonical form, which ParseExternal reads as the same.
func (e External) String() string {
	var b strings.Builder
	if e.Kind != ExternalFile {
		b.WriteString(string(e.Kind) + "+")
	}
	b.WriteString(e.URL)
	if e.Revision != "" {
		b.WriteString("@" + e.Revision)
	}
	fragment := escapeInside.Replace(e.Inside)
	if !e.SHA256.IsZero() {
		if fragment != "" {
			fragment += "&"
		}
		fragment += "sha256=" + e.SHA256.Hex()
	}
	if fragment != "" {
		b.WriteString("#" + fragment)
	}
	return b.String()
}

var escapeInside = strings.NewReplacer("%", "%25", "&", "%26", "#", "%23", "=", "%3D")

// Host is the host, and the port where one is given.
func (e External) Host() string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

var (
	// address is what begins like a URL: a scheme, also one joined by +.
	address = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.+-]*://`)
	// scp is git's short form for ssh.
	scp = regexp.MustCompile(`^[A-Za-z0-9._-]+@([A-Za-z0-9.-]+):([^/].*)$`)
)

// isExternal reports whether a src names code to fetch when a dataset is submitted,
// or looks so much like it that a mistake in it should be told.
func isExternal(src string) bool {
	return address.MatchString(src) && !strings.HasPrefix(src, "file://") || scp.MatchString(src)
}

// MaxExternalURL is the longest URL of an external module.
const MaxExternalURL = 2048

// ParseExternal reads the URL of an external module. Errors say what would be right,
// and hold no password.
func ParseExternal(text string) (External, error) {
	if len(text) > MaxExternalURL {
		return External{}, fmt.Errorf("a URL of %d bytes; at most %d are taken", len(text), MaxExternalURL)
	}
	if found := scp.FindStringSubmatch(text); found != nil {
		return External{}, fmt.Errorf("ssh is not spoken; write git+https://%s/%s", found[1], found[2])
	}
	if at := strings.IndexFunc(text, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '\\' || c == '$' }); at >= 0 {
		if text[at] == '$' {
			return External{}, fmt.Errorf("%s stands for nothing here; an address must be known when a dataset is submitted (a plain $ is written %%24)", cut(text[at:], 60))
		}
		return External{}, fmt.Errorf("character %q in a URL; write %%%02X", text[at], text[at])
	}
	plain, fragment, _ := strings.Cut(text, "#")
	scheme, rest, _ := strings.Cut(plain, "://")
	e := External{Kind: ExternalFile}
	scheme = strings.ToLower(scheme)
	switch prefix, inner, joined := strings.Cut(scheme, "+"); {
	case joined && (prefix == "git" || prefix == "svn"):
		e.Kind, scheme = ExternalKind(prefix), inner
	case joined:
		return e, fmt.Errorf("%s:// is not known; want https, git+https or svn+https", scheme)
	}
	switch {
	case scheme == "git" || scheme == "ssh" && e.Kind != ExternalSVN:
		return e, fmt.Errorf("%s is not spoken; write git+https://…", scheme)
	case scheme == "svn" || scheme == "ssh":
		return e, errors.New("svn:// and svn+ssh:// are not spoken; write svn+https://… if the server speaks WebDAV, or export the module into a git repository or a tarball")
	case scheme != "https" && scheme != "http":
		return e, fmt.Errorf("%s:// is not fetched when a dataset is submitted; want https, git+https or svn+https, or a resource that brings the file to the node", scheme)
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return e, errors.New("no URL; want https://HOST/PATH") // the text may hold a password
	}
	if err := e.read(u, fragment); err != nil {
		return External{}, err
	}
	if scheme == "http" && (e.Kind != ExternalFile || e.SHA256.IsZero()) {
		if e.Kind != ExternalFile {
			return External{}, fmt.Errorf("http:// can be changed on its way; write %s+https://…", e.Kind)
		}
		return External{}, errors.New("http:// can be changed on its way; write https://…, or declare what it must be: …#sha256=DIGITS")
	}
	return e, nil
}

// read takes address, revision and fragment apart.
func (e *External) read(u *url.URL, fragment string) error {
	switch {
	case u.Hostname() == "":
		return errors.New("no host; want https://HOST/PATH")
	case u.User != nil:
		return errors.New("a user or password in a URL is seen by everybody who sees the dataset; only code that anybody may read is fetched")
	case strings.Trim(u.Path, "/") == "":
		return fmt.Errorf("%s names a host and no file", u.Host)
	}
	u.Host = strings.ToLower(u.Host)
	where := u.EscapedPath()
	if e.Kind == ExternalFile && (strings.HasSuffix(where, ".git") || strings.Contains(where, ".git@")) {
		e.Kind = ExternalGit
	}
	if e.Kind != ExternalFile {
		if u.RawQuery != "" || u.ForceQuery {
			return fmt.Errorf("a %s repository has no ?query", e.Kind)
		}
		if err := e.readRevision(&where); err != nil {
			return err
		}
		where = strings.TrimRight(where, "/")
		if where == "" {
			return fmt.Errorf("%s names a host and no repository", u.Host)
		}
	}
	e.URL = u.Scheme + "://" + u.Host + where
	if u.RawQuery != "" {
		e.URL += "?" + u.RawQuery
	}
	return e.readFragment(fragment)
}

var (
	revisionWords = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/+-]*$`)
	abbreviated   = regexp.MustCompile(`^[0-9a-f]{7,39}$`)
	// Commit is the name of a commit of git.
	commit   = regexp.MustCompile(`^[0-9a-f]{40}$`)
	revision = regexp.MustCompile(`^[0-9]{1,10}$`)
)

// IsCommit reports whether a git revision is the name of a commit, which never means
// anything else.
func IsCommit(name string) bool { return commit.MatchString(name) }

func (e *External) readRevision(where *string) error {
	at := strings.LastIndexByte(*where, '@')
	if at < 0 {
		return nil
	}
	name, err := url.PathUnescape((*where)[at+1:])
	*where = (*where)[:at]
	switch {
	case err != nil || name == "":
		return errors.New("nothing behind the @; want a tag, a branch or a commit, or no @")
	case e.Kind == ExternalSVN && !revision.MatchString(name):
		return fmt.Errorf("@%s: a revision of svn is a number; a tag is part of the path (…/tags/%s/…)", cut(name, 60), cut(name, 60))
	case e.Kind == ExternalSVN:
	case !revisionWords.MatchString(name) || strings.Contains(name, "..") || strings.HasSuffix(name, "/") || strings.HasSuffix(name, ".lock"):
		return fmt.Errorf("@%s: want a tag, a branch or a commit", cut(name, 60))
	case abbreviated.MatchString(name) && strings.ContainsAny(name, "0123456789"):
		return fmt.Errorf("@%s looks like the beginning of a commit, which may mean another one day; write all 40 digits, or refs/heads/%s if it is a branch", name, name)
	}
	e.Revision = name
	return nil
}

// readFragment reads INSIDE and sha256=, joined by &.
func (e *External) readFragment(fragment string) error {
	if fragment == "" {
		return nil
	}
	for part := range strings.SplitSeq(fragment, "&") {
		name, value, given := strings.Cut(part, "=")
		if !given {
			name, value, given = strings.Cut(part, ":")
			given = given && name == "sha256"
		}
		switch {
		case given && name == "sha256":
			b, err := hex.DecodeString(value)
			if err != nil || len(b) != len(e.SHA256) {
				return fmt.Errorf("sha256=%s: want 64 hexadecimal digits", cut(value, 70))
			}
			if e.Kind != ExternalFile {
				return fmt.Errorf("sha256= is for files and archives; a %s repository is pinned by what stands behind the @", e.Kind)
			}
			e.SHA256 = protocol.Digest(b)
		case given && name == "subdirectory":
			part = value
			fallthrough
		case !given:
			inside, err := url.PathUnescape(part)
			clean := path.Clean(inside)
			if err != nil || inside == "" || path.IsAbs(inside) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsAny(inside, "\x00\\") {
				return fmt.Errorf("#%s: want a path inside, such as #lib/module.py", cut(part, 60))
			}
			if e.Inside != "" {
				return fmt.Errorf("#%s: a second path inside", cut(part, 60))
			}
			if clean != "." {
				e.Inside = clean
			}
		default:
			return fmt.Errorf("#%s: want a path inside, or sha256=DIGITS", cut(part, 60))
		}
	}
	if e.Kind == ExternalSVN && e.Inside != "" {
		return fmt.Errorf("an svn URL has no # part; the path goes on: %s/%s", e.URL, e.Inside)
	}
	return nil
}
