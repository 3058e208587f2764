package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"floe/protocol"
)

// body is the answer of a people's verb.
type body[T any] struct{ Body T }

// Page is the part of a list's input that all lists share.
type Page struct {
	Limit  int    `query:"limit" minimum:"0" maximum:"1000" doc:"rows at most; 0 is 100"`
	Cursor string `query:"cursor" maxLength:"64" doc:"Next of the page before"`
}

const defaultLimit = 100

func (p *Page) limit() int {
	if p.Limit == 0 {
		return defaultLimit
	}
	return p.Limit
}

// after reads a numeric cursor; start without one.
func (p *Page) after(start int64) (int64, error) {
	if p.Cursor == "" {
		return start, nil
	}
	n, err := strconv.ParseUint(p.Cursor, 10, 32)
	if err != nil {
		return 0, protocol.Errorf(protocol.CodeBadRequest, "cursor %q: not one that a page named", p.Cursor)
	}
	return int64(n), nil
}

// number reads an optional number that is not negative.
func number(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 62)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return int64(n), nil
}

// pathOf reads a task's address off a plain handler's request, as far as its
// pattern has one.
func pathOf(r *http.Request) (*TaskPath, error) {
	in := &TaskPath{Task: r.PathValue("task")}
	dataset, err := strconv.ParseUint(r.PathValue("dataset"), 10, 32)
	if err != nil {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "dataset %q: want its number", r.PathValue("dataset"))
	}
	in.Dataset = uint32(dataset)
	if text := r.PathValue("job"); text != "" {
		job, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, protocol.Errorf(protocol.CodeBadRequest, "job %q: want its number", text)
		}
		in.Job = uint32(job)
	}
	return in, nil
}

// copyFrom copies what is behind offset.
func copyFrom(w io.Writer, r io.Reader, offset int64) error {
	if _, err := io.CopyN(io.Discard, r, offset); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err := io.Copy(w, r)
	return err
}

// documentText reads a stored steering document.
func (s *Server) documentText(ctx context.Context, d protocol.Digest) ([]byte, error) {
	r, _, err := s.openBlob(ctx, d, true)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read document %v: %w", d, err)
	}
	if protocol.DigestOf(text) != d {
		return nil, fmt.Errorf("document %v: its bytes have another digest", d)
	}
	return text, nil
}
