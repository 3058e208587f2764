package stage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"floe/protocol"
)

// tagged is a scheme whose files have a tag, which another content changes.
type tagged interface {
	// openTagged opens what stands at u and tells its tag, empty where there is none. A
	// nil reader says that it has the tag given.
	openTagged(ctx context.Context, u *url.URL, tag string) (io.ReadCloser, string, error)
}

// openTagged goes by inode, size and times.
func (s fileScheme) openTagged(ctx context.Context, u *url.URL, tag string) (io.ReadCloser, string, error) {
	r, err := s.open(ctx, u)
	if err != nil {
		return nil, "", err
	}
	f, ok := r.(*os.File)
	if !ok {
		return r, "", nil
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, "", fmt.Errorf("%w: %w", ErrStorage, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return f, "", nil
	}
	now := fmt.Sprintf("file %d %d %d.%09d %d.%09d", st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
	if now == tag {
		f.Close()
		return nil, tag, nil
	}
	return f, now, nil
}

// openTagged goes by a strong ETag, or by the time of the last change and the length.
func (h httpScheme) openTagged(ctx context.Context, u *url.URL, tag string) (io.ReadCloser, string, error) {
	header := map[string]string{}
	if etag, ok := strings.CutPrefix(tag, "etag "); ok {
		header["If-None-Match"] = etag
	} else if modified, ok := strings.CutPrefix(tag, "modified "); ok {
		header["If-Modified-Since"], _, _ = strings.Cut(modified, ", length ")
	}
	resp, err := h.do(ctx, http.MethodGet, u, nil, 0, header)
	if err != nil {
		return nil, "", err
	}
	if resp.StatusCode == http.StatusNotModified && tag != "" {
		resp.Body.Close()
		return nil, tag, nil
	}
	body, err := h.opened(resp, u)
	if err != nil {
		return nil, "", err
	}
	etag, modified := resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	switch {
	case strings.HasPrefix(etag, `"`):
		return body, "etag " + etag, nil
	case settled(resp.Header) && resp.ContentLength >= 0:
		return body, fmt.Sprintf("modified %s, length %d", modified, resp.ContentLength), nil
	}
	return body, "", nil
}

// settled tells whether the last change is so long ago that the next one will have
// another time, which counts seconds.
func settled(h http.Header) bool {
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	now, nowErr := http.ParseTime(h.Get("Date"))
	return err == nil && nowErr == nil && now.Sub(modified) > time.Minute
}

// sized is a body whose length its server announced.
type sized struct {
	io.ReadCloser
	size int64
}

// Size implements the promise of a cache.Source.
func (s sized) Size() protocol.ByteSize { return protocol.ByteSize(s.size) }
