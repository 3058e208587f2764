package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"floe/cache"
	"floe/protocol"
)

// Blobs is the coordinators' blob store as an attempt may use it.
type Blobs interface {
	GetBlob(ctx context.Context, d protocol.Digest) (io.ReadCloser, error)
	PutBlob(ctx context.Context, d protocol.Digest, size protocol.ByteSize, body io.Reader) error
}

// Mover moves files for the attempts of one pilot. It may be used concurrently.
type Mover struct {
	// HTTP is the client for http and https; nil is http.DefaultClient.
	HTTP *http.Client
	// Errands, where they are wanted, move all files but those of the machine and the blob
	// store; nil does without.
	Errands *Errands
	// Blobs is nil without a coordinator: then blob: URLs are not supported.
	Blobs Blobs
	// Cache is nil without one.
	Cache *cache.Store
	// Pace bounds what is carried over the network; nil does not.
	Pace *Pace
	// Temp is a directory for files that command-line clients bring or take; empty is
	// the system's for temporary files.
	Temp   string
	Logger *slog.Logger
}

// Input is a file an attempt needs.
type Input struct {
	// URL is where the bytes are; Fallback is tried when it has none (a file that
	// was published meanwhile).
	URL, Fallback string
	// Local is the name below the attempt's working directory.
	Local string
	// Checksum is sha256:…, sha512:…, md5:… or adler32:… of the bytes at URL, or empty.
	Checksum    string
	Compression Compression
	// Cached asks for the node's cache; it needs a SHA-256.
	Cached bool
	// Optional says that a missing file is no failure.
	Optional bool
}

// Fetch brings an input into dir and returns its size as it was transferred.
func (m *Mover) Fetch(ctx context.Context, in Input, dir string) (protocol.ByteSize, error) {
	size, err := m.fetch(ctx, in, in.URL, dir)
	if err != nil && in.Fallback != "" && errors.Is(err, ErrInput) {
		size, err = m.fetch(ctx, in, in.Fallback, dir)
	}
	if err != nil && in.Optional && errors.Is(err, ErrInput) {
		m.Logger.Info("optional input is not there", "local", in.Local, "err", err)
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("fetch %s from %s: %w", in.Local, redact(in.URL), err)
	}
	return size, nil
}

func (m *Mover) fetch(ctx context.Context, in Input, address, dir string) (protocol.ByteSize, error) {
	root, err := openWork(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	kind, err := in.Compression.resolve(address)
	if err != nil {
		return 0, err
	}
	source, err := m.source(ctx, in, address)
	if err != nil {
		return 0, err
	}
	defer source.Close()
	if err := root.MkdirAll(filepath.Dir(in.Local), 0o700); err != nil {
		return 0, fault(ErrNode, err)
	}
	// Written beside and renamed: a payload never sees half an input.
	part := in.Local + ".floe-part"
	f, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, fault(ErrNode, err)
	}
	defer f.Close()
	check, err := newChecker(io.Discard, in.Checksum)
	if err != nil {
		return 0, err
	}
	tee := &classed{r: io.TeeReader(source, check), class: ErrStorage}
	if err := kind.Unpack(ctx, localWriter{f}, tee); err != nil {
		return 0, errors.Join(fault(ErrInput, err), root.Remove(part))
	}
	// What follows the compressed stream counts for the checksum, too.
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return 0, errors.Join(err, root.Remove(part))
	}
	if err := check.compare(); err != nil {
		return 0, errors.Join(err, root.Remove(part))
	}
	if err := errors.Join(f.Close(), root.Rename(part, in.Local)); err != nil {
		return 0, fault(ErrNode, err)
	}
	return check.size, nil
}

// source opens the bytes at address, through the cache where that was asked for.
func (m *Mover) source(ctx context.Context, in Input, address string) (io.ReadCloser, error) {
	if m.Cache == nil || !in.Cached {
		return m.Open(ctx, address)
	}
	var e *cache.Entry
	d, err := protocol.ParseDigest(in.Checksum)
	if err == nil {
		e, err = m.Cache.Blob(ctx, d, []cache.Source{m.Source(address)})
	} else {
		e, err = m.named(ctx, address)
	}
	switch {
	case err == nil && e == nil:
		return m.Open(ctx, address)
	case errors.Is(err, cache.ErrNoSpace):
		m.Logger.Warn("cache is full; fetching past it", "from", redact(address), "err", err)
		return m.Open(ctx, address)
	case errors.Is(err, cache.ErrMismatch):
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	case err != nil:
		return nil, fault(ErrStorage, err)
	}
	f, err := os.Open(e.Path)
	if err != nil {
		e.Release()
		return nil, fault(ErrNode, err)
	}
	return &inUse{f, e}, nil
}

// named is the cached file that stands at address, if its origin says that it still
// is what it was; else it is fetched anew. Without a digest the origin's word is all
// there is: nil where it gives none, and then nothing is kept.
func (m *Mover) named(ctx context.Context, address string) (*cache.Entry, error) {
	s, u, err := m.scheme(address)
	if err != nil {
		return nil, err
	}
	teller, ok := s.(tagged)
	if !ok {
		return nil, nil
	}
	old, d := m.Cache.Named(address)
	body, tag, err := teller.openTagged(ctx, u, old)
	if err != nil {
		return nil, err
	}
	if body == nil { // as it was
		e, err := m.Cache.Blob(ctx, d, nil)
		if !errors.Is(err, cache.ErrNoSource) {
			return e, err
		}
		if body, tag, err = teller.openTagged(ctx, u, ""); err != nil { // the cache has lost it
			return nil, err
		}
	}
	defer body.Close()
	if tag == "" {
		return nil, nil
	}
	return m.Cache.Add(ctx, address, tag, &classed{r: body, class: ErrStorage})
}

// inUse is a cached file that is released when closed.
type inUse struct {
	*os.File
	entry *cache.Entry
}

func (i *inUse) Close() error {
	defer i.entry.Release()
	return i.File.Close()
}

// Source is address as a source of the cache.
func (m *Mover) Source(address string) cache.Source {
	s := cache.Source{Name: redact(address), Open: func(ctx context.Context) (io.ReadCloser, error) { return m.Open(ctx, address) }}
	if strings.HasPrefix(address, "https://") || strings.HasPrefix(address, "http://") {
		s.URL = address
	}
	return s
}

// Sources are the coordinators, if they hold the digest, and then address.
func (m *Mover) Sources(d protocol.Digest, address string) []cache.Source {
	if m.Blobs == nil || strings.HasPrefix(address, "blob:") {
		return []cache.Source{m.Source(address)}
	}
	coordinators := cache.Source{Name: "coordinators", Open: func(ctx context.Context) (io.ReadCloser, error) {
		r, err := m.Blobs.GetBlob(ctx, d)
		if protocol.CodeOf(err) == protocol.CodeNotFound {
			return nil, fmt.Errorf("%w: %w", cache.ErrNoSource, err)
		}
		return m.Pace.opened(ctx, r, fault(ErrStorage, err))
	}}
	return []cache.Source{coordinators, m.Source(address)}
}

// Open opens the bytes at a URL.
func (m *Mover) Open(ctx context.Context, address string) (io.ReadCloser, error) {
	if text, ok := strings.CutPrefix(address, "blob:"); ok {
		d, err := protocol.ParseDigest(text)
		if err != nil || m.Blobs == nil {
			return nil, fmt.Errorf("%w: %s: no blob store here", ErrUnsupported, address)
		}
		r, err := m.Blobs.GetBlob(ctx, d)
		if protocol.CodeOf(err) == protocol.CodeNotFound {
			return nil, fmt.Errorf("%w: %w", ErrInput, err)
		}
		return m.Pace.opened(ctx, r, fault(ErrStorage, err))
	}
	s, u, err := m.scheme(address)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, u)
}

func (m *Mover) scheme(address string) (scheme, *url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	var s scheme
	switch u.Scheme {
	case "file":
		return fileScheme{}, u, nil
	case "http", "https":
		client := m.HTTP
		if client == nil {
			client = http.DefaultClient
		}
		s = httpScheme{client}
	case "gsiftp":
		s = gridScheme{m.Temp}
	default:
		return nil, nil, fmt.Errorf("%w: %s: want a file, http, https or gsiftp URL", ErrUnsupported, redact(address))
	}
	if m.Errands != nil && m.Errands.Wanted() {
		s = errandScheme{m.Errands.Desk}
	}
	if m.Pace != nil && strings.HasPrefix(u.Scheme, "http") {
		s = pacedScheme{s, m.Pace}
	}
	return s, u, nil
}

// Output is a file an attempt leaves.
type Output struct {
	Type protocol.FileType
	// Name is what consumers ask for.
	Name string
	// Local is the name below the attempt's working directory.
	Local string
	// URL is the final place; empty is the blob store.
	URL string
	// Final says that URL is attempt-unique already and nothing is to be published.
	Final       bool
	Compression Compression
	// Optional says that a missing file is no failure.
	Optional bool
	// MaxSize is how large the file may be before it is packed; 0 is without bound.
	MaxSize protocol.ByteSize
	// Budget is for all outputs of an attempt together; nil is without bound.
	Budget *Budget
}

// Budget is how much an attempt may bring out, before it is packed. It is used by one
// goroutine at a time.
type Budget struct {
	Limit protocol.ByteSize
	// Whose says who set the limit.
	Whose string
	used  protocol.ByteSize
}

// admit refuses a file that is too large, before a byte of it is sent.
func (o *Output) admit(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fault(ErrNode, err)
	}
	size := protocol.ByteSize(info.Size())
	if o.MaxSize > 0 && size > o.MaxSize {
		return fmt.Errorf("%w: %v, its max_size is %v", ErrTooLarge, size, o.MaxSize)
	}
	b := o.Budget
	if b == nil {
		return nil
	}
	if size > b.Limit-b.used {
		return fmt.Errorf("%w: %v after %v of outputs before, the limit of %s is %v", ErrTooLarge, size, b.used, b.Whose, b.Limit)
	}
	b.used += size
	return nil
}

// ErrSkipped is returned for an optional output that is not there.
var ErrSkipped = errors.New("optional output is not there")

// Store sends an output to its destination under a name unique to the lease,
// reads it back, and returns the record of what is there.
func (m *Mover) Store(ctx context.Context, out Output, dir string, lease protocol.LeaseID) (protocol.FileRecord, error) {
	record, err := m.store(ctx, out, dir, lease)
	if err != nil && !errors.Is(err, ErrSkipped) {
		err = fmt.Errorf("store %s to %s: %w", out.Local, redact(out.URL), err)
	}
	return record, err
}

func (m *Mover) store(ctx context.Context, out Output, dir string, lease protocol.LeaseID) (protocol.FileRecord, error) {
	record := protocol.FileRecord{Type: out.Type, Name: out.Name}
	kind, err := out.Compression.resolve(out.URL)
	if err != nil {
		return record, err
	}
	f, err := openLeft(dir, out.Local)
	if err != nil {
		if out.Optional {
			return record, ErrSkipped
		}
		return record, err
	}
	defer f.Close()
	if err := out.admit(f); err != nil {
		return record, err
	}
	body := f
	if kind != "" {
		packed, err := packed(ctx, kind, f, dir)
		if err != nil {
			return record, fault(ErrNode, err)
		}
		defer packed.Close()
		body = packed
	}
	check, err := newChecker(io.Discard, "")
	if err != nil {
		return record, err
	}
	if _, err := io.Copy(check, body); err != nil {
		return record, fault(ErrNode, err)
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return record, fault(ErrNode, err)
	}
	record.Size, record.Digest = check.size, check.digest()
	if out.URL == "" {
		record.URL = protocol.BlobURL(record.Digest)
		if m.Blobs == nil {
			return record, fmt.Errorf("%w: no blob store here and no place given", ErrUnsupported)
		}
		// The blob store hashes what it takes and refuses anything else.
		return record, fault(ErrStorage, m.Blobs.PutBlob(ctx, record.Digest, record.Size, m.Pace.over(ctx, body)))
	}
	record.URL = out.URL
	if !out.Final {
		record.URL, record.Published = out.URL+".floe-"+lease.String(), out.URL
	}
	s, u, err := m.scheme(record.URL)
	if err != nil {
		return record, err
	}
	if err := s.put(ctx, u, io.LimitReader(body, int64(record.Size)), record.Size); err != nil {
		return record, err
	}
	return record, m.verify(ctx, s, u, record)
}

// verify reads a stored file back.
func (m *Mover) verify(ctx context.Context, s scheme, u *url.URL, record protocol.FileRecord) error {
	r, err := s.open(ctx, u)
	if err != nil {
		return fmt.Errorf("%w: read back: %w", ErrStorage, err)
	}
	defer r.Close()
	check, err := newChecker(io.Discard, "")
	if err != nil {
		return err
	}
	if _, err := io.Copy(check, r); err != nil {
		return fmt.Errorf("%w: read back: %w", ErrStorage, err)
	}
	if check.size != record.Size || check.digest() != record.Digest {
		return fmt.Errorf("%w: sent %d bytes with digest %v, %d with %v are there", ErrStorage, record.Size, record.Digest, check.size, check.digest())
	}
	return nil
}

// Publish moves an accepted attempt's file to its final name and checks it there.
// Publishing twice is no error.
func (m *Mover) Publish(ctx context.Context, record protocol.FileRecord) error {
	if record.Published == "" {
		return nil
	}
	s, from, err := m.scheme(record.URL)
	if err != nil {
		return err
	}
	to, err := url.Parse(record.Published)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	moved := s.move(ctx, from, to)
	if err := m.verify(ctx, s, to, record); err != nil {
		return fmt.Errorf("publish %s: %w", redact(record.Published), errors.Join(moved, err))
	}
	return nil
}

// Discard removes the files of an attempt that does not count.
func (m *Mover) Discard(ctx context.Context, records []protocol.FileRecord) error {
	var all []error
	for _, r := range records {
		if strings.HasPrefix(r.URL, "blob:") {
			continue // the coordinator drops the job's blobs when it is done
		}
		s, u, err := m.scheme(r.URL)
		if err == nil {
			err = s.remove(ctx, u)
		}
		if err != nil {
			all = append(all, fmt.Errorf("discard %s: %w", redact(r.URL), err))
		}
	}
	return errors.Join(all...)
}

// openWork opens a work directory. Its payload may have put a link in its place that
// leads out of the directory it is in, which is refused.
func openWork(dir string) (*os.Root, error) {
	above, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return nil, fault(ErrNode, err)
	}
	defer above.Close()
	root, err := above.OpenRoot(filepath.Base(dir))
	if err != nil {
		return nil, fmt.Errorf("%w: work directory: %w", ErrOutput, err)
	}
	return root, nil
}

// openLeft opens a file that the payload made: below dir, regular, one link.
func openLeft(dir, local string) (*os.File, error) {
	root, err := openWork(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// O_NONBLOCK, so that a FIFO in the file's place does not hold the pilot up.
	f, err := root.OpenFile(local, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	info, err := f.Stat()
	if err == nil {
		stat, ok := info.Sys().(*syscall.Stat_t)
		if info.Mode().IsRegular() && (!ok || stat.Nlink == 1) {
			return f, nil
		}
		err = fmt.Errorf("%s is not a regular file with one link", local)
	}
	f.Close()
	return nil, fmt.Errorf("%w: %w", ErrOutput, err)
}

// packed compresses a file into an unnamed one beside dir.
func packed(ctx context.Context, kind Compression, in io.Reader, dir string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(dir), "floe-packed-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	if err := kind.Pack(ctx, f, in); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// classed gives read errors of a source their class.
type classed struct {
	r     io.Reader
	class error
}

func (c *classed) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fault(c.class, err)
	}
	return n, err
}

// localWriter gives write errors the node's class.
type localWriter struct{ w io.Writer }

func (l localWriter) Write(b []byte) (int, error) {
	n, err := l.w.Write(b)
	return n, fault(ErrNode, err)
}

// redact hides passwords and query strings (presigned URLs) from messages.
func redact(address string) string {
	if address == "" {
		return "the blob store"
	}
	u, err := url.Parse(address)
	if err != nil {
		return "a malformed URL"
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.Redacted()
}
