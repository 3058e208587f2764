package fetch

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

	"floe/protocol/steering"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// repository is one commit of a git repository, spoken to by git's smart HTTP.
type repository struct {
	session    *Session
	reference  steering.External
	connection transport.UploadPackSession
	refs       *packp.AdvRefs
	commit     plumbing.Hash
	tree       *object.Tree // nil until loaded
}

// resolve implements origin: it asks what the repository's names mean now.
func (r *repository) resolve(ctx context.Context) (steering.External, error) {
	if r.commit.IsZero() && steering.IsCommit(r.reference.Revision) {
		r.commit = plumbing.NewHash(r.reference.Revision)
	}
	if r.commit.IsZero() {
		if err := r.connect(ctx); err != nil {
			return r.reference, err
		}
		commit, err := r.find(r.reference.Revision)
		if err != nil {
			return r.reference, err
		}
		r.commit = commit
	}
	pinned := r.reference
	pinned.Revision = r.commit.String()
	return pinned, nil
}

// connect reads the names that the repository advertises.
func (r *repository) connect(ctx context.Context) error {
	if r.refs != nil {
		return nil
	}
	endpoint, err := transport.NewEndpoint(r.reference.URL)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	r.connection, err = githttp.NewClient(r.session.fetcher.client).NewUploadPackSession(endpoint, nil)
	if err != nil {
		return gitError(err)
	}
	r.refs, err = r.connection.AdvertisedReferencesContext(ctx)
	return gitError(err)
}

// find looks a name up: as a tag, as a branch, as a whole name of a reference.
func (r *repository) find(name string) (plumbing.Hash, error) {
	if name == "" {
		if r.refs.Head == nil {
			return plumbing.ZeroHash, fmt.Errorf("%w: the repository has no default branch; name a tag, a branch or a commit behind an @", ErrNotThere)
		}
		return *r.refs.Head, nil
	}
	for _, full := range []string{"refs/tags/" + name, "refs/heads/" + name, name} {
		// Of an annotated tag, the commit and not the tag itself.
		if hash, ok := r.refs.Peeled[full]; ok {
			return hash, nil
		}
		if hash, ok := r.refs.References[full]; ok && strings.HasPrefix(full, "refs/") {
			return hash, nil
		}
	}
	var names []string
	for full := range r.refs.References {
		for _, prefix := range []string{"refs/tags/", "refs/heads/"} {
			if short, ok := strings.CutPrefix(full, prefix); ok {
				names = append(names, short)
			}
		}
	}
	return plumbing.ZeroHash, fmt.Errorf("%w: the repository has no tag or branch %s%s", ErrNotThere, name, there("", slices.Compact(slices.Sorted(slices.Values(names)))))
}

// load implements origin: it brings the one commit, and verifies it by its name.
func (r *repository) load(ctx context.Context) (steering.External, error) {
	pinned, err := r.resolve(ctx)
	if err != nil || r.tree != nil {
		return pinned, err
	}
	if err := r.connect(ctx); err != nil {
		return pinned, err
	}
	request, err := r.request()
	if err != nil {
		return pinned, err
	}
	dir, err := r.session.tempDir()
	if err != nil {
		return pinned, err
	}
	pack, err := os.Create(filepath.Join(dir, "incoming"))
	if err != nil {
		return pinned, err
	}
	defer pack.Close()
	if err := r.receive(ctx, request, pack); err != nil {
		return pinned, err
	}
	limits := r.session.fetcher.limits
	if err := measurePack(ctx, pack, limits.Files, int64(limits.Unpacked)); err != nil {
		return pinned, err
	}
	if _, err := pack.Seek(0, io.SeekStart); err != nil {
		return pinned, err
	}
	store := filesystem.NewStorage(osfs.New(filepath.Join(dir, "git"), osfs.WithBoundOS()), cache.NewObjectLRU(cache.DefaultMaxSize))
	if err := packfile.UpdateObjectStorage(store, pack); err != nil {
		return pinned, fmt.Errorf("%w: pack: %w", ErrRefused, err)
	}
	// Objects are stored under the hash of what came: who is found under the name has it.
	commit, err := object.GetCommit(store, r.commit)
	if err != nil {
		return pinned, fmt.Errorf("%w: the pack lacks commit %v: %w", ErrRefused, r.commit, err)
	}
	if r.tree, err = commit.Tree(); err != nil {
		return pinned, fmt.Errorf("%w: commit %v: %w", ErrRefused, r.commit, err)
	}
	return pinned, nil
}

// request asks for the commit without its history.
func (r *repository) request() (*packp.UploadPackRequest, error) {
	have := r.refs.Capabilities
	if !r.advertises(r.commit) && !have.Supports(capability.AllowReachableSHA1InWant) && !have.Supports("allow-any-sha1-in-want") {
		return nil, fmt.Errorf("%w: this server gives only commits that a tag or branch names, and none names %v", ErrNotThere, r.commit)
	}
	if !have.Supports(capability.Shallow) {
		return nil, fmt.Errorf("%w: this server gives whole histories only; use a tarball of the release", ErrRefused)
	}
	request := packp.NewUploadPackRequest()
	request.Wants = []plumbing.Hash{r.commit}
	request.Depth = packp.DepthCommits(1)
	for _, c := range []capability.Capability{capability.Shallow, capability.OFSDelta, capability.Sideband64k, capability.NoProgress} {
		if have.Supports(c) {
			if err := request.Capabilities.Set(c); err != nil {
				return nil, err
			}
		}
	}
	return request, nil
}

func (r *repository) advertises(commit plumbing.Hash) bool {
	for _, all := range []map[string]plumbing.Hash{r.refs.References, r.refs.Peeled} {
		for _, hash := range all {
			if hash == commit {
				return true
			}
		}
	}
	return r.refs.Head != nil && *r.refs.Head == commit
}

func (r *repository) receive(ctx context.Context, request *packp.UploadPackRequest, to io.Writer) error {
	reply, err := r.connection.UploadPack(ctx, request)
	if err != nil {
		return gitError(err)
	}
	defer reply.Close()
	var from io.Reader = reply
	if request.Capabilities.Supports(capability.Sideband64k) {
		from = sideband.NewDemuxer(sideband.Sideband64k, reply)
	}
	if _, err := io.Copy(to, from); err != nil {
		return gitError(err)
	}
	return nil
}

// gitError gives errors of the git library the words of this package.
func gitError(err error) error {
	var unexpected *plumbing.UnexpectedError
	var permanent *plumbing.PermanentError
	for errors.As(err, &unexpected) || errors.As(err, &permanent) {
		if unexpected != nil {
			err = unexpected.Err
		} else {
			err = permanent.Err
		}
		unexpected, permanent = nil, nil
	}
	err = unwrapURL(err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return fmt.Errorf("%w: no such git repository, or none that anybody may read", ErrNotThere)
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return fmt.Errorf("%w: no such git repository, or none that anybody may read; only what anybody may read is fetched", ErrNotThere)
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return fmt.Errorf("%w: the git repository is empty", ErrNotThere)
	}
	return err
}

// measurePack inflates every object of a pack into nothing, to know before anything
// is built of it how large it is: a small pack can hold a huge object, and a small
// difference can make one.
func measurePack(ctx context.Context, pack io.ReadSeeker, objects int, bytes int64) error {
	if _, err := pack.Seek(0, io.SeekStart); err != nil {
		return err
	}
	scanner := packfile.NewScanner(pack)
	_, n, err := scanner.Header()
	if err != nil {
		return fmt.Errorf("%w: pack: %w", ErrRefused, err)
	}
	if int64(n) > int64(objects) {
		return fmt.Errorf("%w: the repository has %d files and folders, at most %d are fetched", ErrTooLarge, n, objects)
	}
	left := bytes
	for range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		header, err := scanner.NextObjectHeader()
		if err != nil {
			return fmt.Errorf("%w: pack: %w", ErrRefused, err)
		}
		if left -= header.Length; header.Length < 0 || left < 0 {
			return tooManyBytes(bytes)
		}
		head := &deltaHead{}
		if _, _, err := scanner.NextObject(head); err != nil {
			return fmt.Errorf("%w: pack: %w", ErrRefused, err)
		}
		if header.Type.IsDelta() {
			size, ok := head.result()
			if !ok {
				return fmt.Errorf("%w: pack: a difference without its sizes", ErrRefused)
			}
			if left -= size; size < 0 || left < 0 {
				return tooManyBytes(bytes)
			}
		}
	}
	return nil
}

func tooManyBytes(limit int64) error {
	return fmt.Errorf("%w: the repository holds more than %d bytes; use a tarball of the release, or the raw file", ErrTooLarge, limit)
}

// deltaHead keeps the first bytes of a difference, which are two sizes: of what it
// starts from, and of what it makes.
type deltaHead struct{ kept []byte }

// Write implements io.Writer.
func (d *deltaHead) Write(p []byte) (int, error) {
	if room := 20 - len(d.kept); room > 0 {
		d.kept = append(d.kept, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// result is the size of what the difference makes.
func (d *deltaHead) result() (int64, bool) {
	rest := d.kept
	var size uint64
	for range 2 {
		size = 0
		for shift := 0; ; shift += 7 {
			if len(rest) == 0 || shift > 56 {
				return 0, false
			}
			b := rest[0]
			rest = rest[1:]
			size |= uint64(b&0x7f) << shift
			if b&0x80 == 0 {
				break
			}
		}
	}
	return int64(size), size <= 1<<62
}

// pick implements origin.
func (r *repository) pick(ctx context.Context, inside string, into *os.Root) (string, error) {
	tree := r.tree
	if inside != "" {
		entry, err := tree.FindEntry(inside)
		if err != nil {
			return "", fmt.Errorf("%w: no %s in the commit%s", ErrNotThere, inside, r.besides(inside))
		}
		if entry.Mode != filemode.Dir {
			name := path.Base(inside)
			if entry.Mode == filemode.Symlink || entry.Mode == filemode.Submodule {
				return "", fmt.Errorf("%w: %s is a link; name what it leads to", ErrRefused, inside)
			}
			return name, r.lay(into, name, entry)
		}
		if tree, err = tree.Tree(inside); err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrRefused, inside, err)
		}
	}
	walker := object.NewTreeWalker(tree, true, nil)
	defer walker.Close()
	left := int64(r.session.fetcher.limits.Module)
	for files := 0; ; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		name, entry, err := walker.Next()
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrRefused, err)
		}
		if !fs.ValidPath(name) || strings.Count(name, "/") > 40 {
			return "", fmt.Errorf("%w: a file %.80q in the commit", ErrRefused, name)
		}
		switch entry.Mode {
		case filemode.Dir:
			err = into.Mkdir(name, 0o700)
		case filemode.Submodule: // another repository, which is not part of this one
		default:
			if files++; files > r.session.fetcher.limits.Files {
				return "", fmt.Errorf("%w: more than %d files", ErrTooLarge, r.session.fetcher.limits.Files)
			}
			var size int64
			if size, err = tree.Size(name); err == nil {
				if left -= size; left < 0 {
					return "", fmt.Errorf("%w: a module may have %v; name the file or folder that is needed behind a #", ErrTooLarge, r.session.fetcher.limits.Module)
				}
				err = r.lay(into, name, &entry)
			}
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
}

// lay writes one file or link of the commit.
func (r *repository) lay(into *os.Root, name string, entry *object.TreeEntry) error {
	f, err := r.tree.TreeEntryFile(entry)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	in, err := f.Reader()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	defer in.Close()
	if entry.Mode == filemode.Symlink {
		target, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return err
		}
		return into.Symlink(string(target), name)
	}
	mode := fs.FileMode(0o600)
	if entry.Mode == filemode.Executable {
		mode = 0o700
	}
	out, err := into.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// besides lists what the commit holds instead of a name.
func (r *repository) besides(name string) string {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		tree, err := r.tree, error(nil)
		if dir != "." {
			tree, err = r.tree.Tree(dir)
		}
		if err == nil {
			names := make([]string, 0, len(tree.Entries))
			for _, e := range tree.Entries {
				names = append(names, e.Name)
			}
			return there(dir, names)
		}
		if dir == "." {
			return ""
		}
	}
}
