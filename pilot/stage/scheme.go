package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"floe/protocol"
)

// scheme reads and writes the files of one kind of URL. Errors carry their class.
type scheme interface {
	open(ctx context.Context, u *url.URL) (io.ReadCloser, error)
	// put writes size bytes (known beforehand) and has them on stable storage when it returns.
	put(ctx context.Context, u *url.URL, body io.Reader, size protocol.ByteSize) error
	// move gives a file its final name, replacing what stood there.
	move(ctx context.Context, from, to *url.URL) error
	remove(ctx context.Context, u *url.URL) error
}

// fileScheme is file:///absolute/path.
type fileScheme struct{}

func filePath(u *url.URL) (string, error) {
	if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
		return "", fmt.Errorf("%w: %s: want file:///absolute/path", ErrUnsupported, u)
	}
	return filepath.Clean(u.Path), nil
}

func (fileScheme) open(_ context.Context, u *url.URL) (io.ReadCloser, error) {
	path, err := filePath(u)
	if err != nil {
		return nil, err
	}
	// O_NONBLOCK, so that a FIFO in the file's place does not hold the pilot up.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStorage, err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrInput, path)
	}
	return f, nil
}

func (fileScheme) put(_ context.Context, u *url.URL, body io.Reader, _ protocol.ByteSize) error {
	path, err := filePath(u)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	defer f.Close()
	if _, err := io.Copy(f, body); err != nil {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	if err := errors.Join(f.Sync(), f.Close(), syncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	return nil
}

func (fileScheme) move(_ context.Context, from, to *url.URL) error {
	a, err := filePath(from)
	if err != nil {
		return err
	}
	b, err := filePath(to)
	if err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	return fault(ErrStorage, syncDir(filepath.Dir(b)))
}

func (fileScheme) remove(_ context.Context, u *url.URL) error {
	path, err := filePath(u)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// httpScheme is http and https, with WebDAV's MOVE and MKCOL where the server has them.
type httpScheme struct{ client *http.Client }

func (h httpScheme) do(ctx context.Context, method string, u *url.URL, body io.Reader, size protocol.ByteSize, header map[string]string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if body != nil {
		r.ContentLength = int64(size)
		if size == 0 {
			r.Body = http.NoBody
		}
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := h.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStorage, err)
	}
	return resp, nil
}

// resumeTimes is how often a download that breaks off is gone on with.
const resumeTimes = 3

// open goes on where a connection breaks off, if the server says by a strong ETag that
// the file is still the same.
func (h httpScheme) open(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	var etag string
	return Resume(ctx, resumeTimes, func(from int64) (io.ReadCloser, int64, error) {
		header := map[string]string{}
		if from > 0 {
			if !strings.HasPrefix(etag, `"`) {
				return nil, 0, errNotResumed
			}
			header["Range"], header["If-Range"] = fmt.Sprintf("bytes=%d-", from), etag
		}
		resp, err := h.do(ctx, http.MethodGet, u, nil, 0, header)
		switch {
		case err != nil && from > 0:
			return nil, 0, errNotResumed
		case err != nil:
			return nil, 0, err
		case from > 0 && (resp.StatusCode != http.StatusPartialContent || !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", from))):
			resp.Body.Close()
			return nil, 0, errNotResumed
		case from > 0:
			return resp.Body, 0, nil
		}
		etag = resp.Header.Get("ETag")
		body, err := h.opened(resp, u)
		size := resp.ContentLength
		if resp.Uncompressed {
			size, etag = -1, "" // neither speaks of the bytes that are read
		}
		return body, size, err
	})
}

// opened is the body of an answer that has one.
func (httpScheme) opened(resp *http.Response, u *url.URL) (body io.ReadCloser, err error) {
	switch {
	case resp.StatusCode == http.StatusOK && resp.ContentLength >= 0 && !resp.Uncompressed:
		return sized{resp.Body, resp.ContentLength}, nil
	case resp.StatusCode == http.StatusOK:
		return resp.Body, nil
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		err = fmt.Errorf("%w: GET %s: %s", ErrInput, u.Redacted(), resp.Status)
	default:
		err = fmt.Errorf("%w: GET %s: %s", ErrStorage, u.Redacted(), resp.Status)
	}
	resp.Body.Close()
	return nil, err
}

// accept turns any status but 2xx into an error and closes the body.
func accept(resp *http.Response) error {
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%w: %s %s: %s", ErrStorage, resp.Request.Method, resp.Request.URL.Redacted(), resp.Status)
	}
	return nil
}

func (h httpScheme) put(ctx context.Context, u *url.URL, body io.Reader, size protocol.ByteSize) error {
	resp, err := h.do(ctx, http.MethodPut, u, body, size, nil)
	if err != nil {
		return err
	}
	return accept(resp)
}

// move asks for WebDAV's MOVE and copies where the server does not know it.
func (h httpScheme) move(ctx context.Context, from, to *url.URL) error {
	resp, err := h.do(ctx, "MOVE", from, nil, 0, map[string]string{"Destination": to.String(), "Overwrite": "T"})
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest:
		resp.Body.Close()
	default:
		return accept(resp)
	}
	in, err := h.do(ctx, http.MethodGet, from, nil, 0, nil)
	if err != nil {
		return err
	}
	defer in.Body.Close()
	if in.StatusCode != http.StatusOK || in.ContentLength < 0 {
		return fmt.Errorf("%w: GET %s: %s, length %d", ErrStorage, from.Redacted(), in.Status, in.ContentLength)
	}
	if err := h.put(ctx, to, in.Body, protocol.ByteSize(in.ContentLength)); err != nil {
		return err
	}
	return h.remove(ctx, from)
}

func (h httpScheme) remove(ctx context.Context, u *url.URL) error {
	resp, err := h.do(ctx, http.MethodDelete, u, nil, 0, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusNotFound {
		resp.Body.Close()
		return nil
	}
	return accept(resp)
}
