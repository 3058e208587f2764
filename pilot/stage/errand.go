package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"floe/protocol"
	"floe/protocol/errand"
)

// Errands are how files are moved by a process that has a way out, where this one has
// none.
type Errands struct {
	Desk errand.Desk
	// Wanted tells whether there is no better way now.
	Wanted func() bool
}

// errandScheme has others move the files of any scheme.
type errandScheme struct{ desk errand.Desk }

func (e errandScheme) ask(ctx context.Context, r errand.Request, body io.Reader) (*os.File, error) {
	f, a, err := e.desk.Ask(ctx, r, body)
	switch {
	case err != nil:
		return nil, fault(ErrStorage, err)
	case a.Error != "":
		return nil, fmt.Errorf("%w: by the site's relay: %s", faultNamed(a.Class), a.Error)
	}
	return f, nil
}

func (e errandScheme) open(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	f, err := e.ask(ctx, errand.Request{Verb: errand.Get, URL: u.String()}, nil)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fault(ErrStorage, err)
	}
	return sized{f, info.Size()}, nil
}

func (e errandScheme) put(ctx context.Context, u *url.URL, body io.Reader, size protocol.ByteSize) error {
	_, err := e.ask(ctx, errand.Request{Verb: errand.Put, URL: u.String(), Size: int64(size)}, body)
	return err
}

func (e errandScheme) move(ctx context.Context, from, to *url.URL) error {
	_, err := e.ask(ctx, errand.Request{Verb: errand.Move, URL: from.String(), To: to.String()}, nil)
	return err
}

func (e errandScheme) remove(ctx context.Context, u *url.URL) error {
	_, err := e.ask(ctx, errand.Request{Verb: errand.Remove, URL: u.String()}, nil)
	return err
}

// faultNames are the classes of errors as answers to errands name them.
var faultNames = map[string]error{"input": ErrInput, "storage": ErrStorage, "unsupported": ErrUnsupported}

func faultNamed(name string) error {
	if err := faultNames[name]; err != nil {
		return err
	}
	return ErrStorage
}

// RunErrand moves a file for a process without a way out. allowed tells whether a URL
// may be reached.
func (m *Mover) RunErrand(ctx context.Context, r errand.Request, in io.Reader, out io.Writer, allowed func(*url.URL) error) errand.Answer {
	err := m.runErrand(ctx, r, in, out, allowed)
	if err == nil {
		return errand.Answer{}
	}
	a := errand.Answer{Error: err.Error()}
	for name, class := range faultNames {
		if errors.Is(err, class) {
			a.Class = name
		}
	}
	return a
}

func (m *Mover) runErrand(ctx context.Context, r errand.Request, in io.Reader, out io.Writer, allowed func(*url.URL) error) error {
	s, u, err := m.errandScheme(r.URL, allowed)
	if err != nil {
		return err
	}
	switch r.Verb {
	case errand.Get:
		body, err := s.open(ctx, u)
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = io.Copy(out, body)
		return fault(ErrStorage, err)
	case errand.Put:
		return s.put(ctx, u, io.LimitReader(in, r.Size), protocol.ByteSize(r.Size))
	case errand.Move:
		_, to, err := m.errandScheme(r.To, allowed)
		if err != nil {
			return err
		}
		return s.move(ctx, u, to)
	case errand.Remove:
		return s.remove(ctx, u)
	}
	return fmt.Errorf("%w: errand %q", ErrUnsupported, r.Verb)
}

// errandScheme finds the scheme of an address that may be reached. Files of the machine
// itself are nobody's errand.
func (m *Mover) errandScheme(address string, allowed func(*url.URL) error) (scheme, *url.URL, error) {
	s, u, err := m.scheme(address)
	if err != nil {
		return nil, nil, err
	}
	if _, local := s.(fileScheme); local {
		return nil, nil, fmt.Errorf("%w: errand for %s", ErrUnsupported, redact(address))
	}
	if err := allowed(u); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return s, u, nil
}

// AddressOf is where a URL leads, host:port in small letters.
func AddressOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "gsiftp": "2811"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// Listed tells whether an address is in a list that people wrote.
func Listed(list []string, address string) bool {
	return slices.ContainsFunc(list, func(a string) bool { return strings.EqualFold(a, address) })
}
