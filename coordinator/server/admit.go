package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"floe/coordinator/auth"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

type principalKey struct{}

// principalOf is whom the table of rights judged in the request of ctx. Only a person
// is more than a kind of caller.
func principalOf(ctx context.Context) auth.Principal {
	if p, is := ctx.Value(principalKey{}).(auth.Principal); is {
		return p
	}
	return auth.Principal{Kind: transport.CallerOf(ctx).Kind}
}

// route is one verb as the mux knows it.
type route struct {
	pattern string // METHOD /path, as http.ServeMux takes it
	// anywhere says that every coordinator answers it itself; other verbs go to the leader.
	anywhere bool
	handle   handlerFunc
}

// admit wraps a verb in all that comes before it. Its frame is small: it lies on the
// stack of every exchange that is parked.
func (s *Server) admit(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		e := s.enter(&r, w, req)
		if e.end != nil {
			defer e.end()
		}
		if e.req == nil {
			return
		}
		err := r.handle(e.w, e.req)
		if err != nil && !r.anywhere {
			err = s.certain(e.req.Context(), e.term, err)
		}
		s.answer(e.w, e.req, err)
	})
}

// entered is a request that a verb is to handle.
type entered struct {
	w    http.ResponseWriter
	req  *http.Request // nil where it is answered already
	term uint64        // that was led when it came
	end  func()        // to be called in any case; nil where there is nothing to end
}

// enter finds out who speaks, what they may, and which coordinator answers. What is
// refused, or forwarded, is answered here.
func (s *Server) enter(r *route, w http.ResponseWriter, req *http.Request) (e entered) {
	caller, who, err := s.identify(req)
	term, _ := s.Record.Leading()
	elsewhere := term == 0 && !r.anywhere
	if err == nil {
		err = s.trusts(req, &caller, term != 0, r.anywhere)
	}
	switch {
	case err == nil:
		err = s.Policy.Allow(who, r.pattern)
	case elsewhere && errors.Is(err, errTokenNotHere):
		err = nil // the leader knows, and judges
	}
	if err != nil {
		if !elsewhere && !r.anywhere {
			err = s.certain(req.Context(), term, err)
		}
		s.answer(w, req, err)
		return e
	}
	if who.Kind == transport.User {
		ctx, end := s.revocations.begin(transport.WithCaller(req.Context(), caller), who.Token, caller.Remote)
		e.end = end
		req = req.WithContext(context.WithValue(ctx, principalKey{}, who))
	} else if caller != transport.CallerOf(req.Context()) { // another coordinator's word for it
		req = req.WithContext(transport.WithCaller(req.Context(), caller))
	}
	if elsewhere {
		s.answer(w, req, s.forward(w, req, caller, *r))
		return e
	}
	// People read what was acknowledged, and are told where that is not sure. Huma
	// answers refusals itself, so they are asked for first, too.
	if !r.anywhere && who.Kind == transport.User && !s.leads(req.Context(), term) {
		if req.Method != http.MethodGet {
			s.answer(w, req, errDeposed)
			return e
		}
		w = s.doubt(w, req)
	}
	e.w, e.req, e.term = w, req, term
	return e
}

// errTokenNotHere is a follower's answer about a token that may be good.
var errTokenNotHere = protocol.Errorf(protocol.CodeUnknown, "the token is not known here yet; repeat the request")

// headerCaller carries the verified identity from a follower to the leader.
const headerCaller = "Floe-Caller"

// forwarded is a caller on the wire between coordinators.
type forwarded struct {
	Kind      transport.Kind   `json:"kind"`
	Site      protocol.SiteID  `json:"site,omitempty"`
	Pilot     protocol.PilotID `json:"pilot,omitempty"`
	Node      protocol.NodeID  `json:"node,omitempty"`
	Key       protocol.Digest  `json:"key"`
	NotAfter  time.Time        `json:"not_after"`
	Remote    netip.AddrPort   `json:"remote"`
	Transport string           `json:"transport,omitempty"`
}

// identify finds out who speaks: the connection's certificate, another
// coordinator's word for it, or a person's token.
func (s *Server) identify(r *http.Request) (transport.Caller, auth.Principal, error) {
	caller := transport.CallerOf(r.Context())
	if text := r.Header.Get(headerCaller); text != "" {
		if caller.Kind != transport.Coordinator {
			return caller, auth.Principal{}, protocol.Errorf(protocol.CodeForbidden, "only coordinators forward requests")
		}
		var f forwarded
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			return caller, auth.Principal{}, protocol.Errorf(protocol.CodeBadRequest, "forwarded caller: %v", err)
		}
		caller = transport.Caller{
			Kind: f.Kind, Site: f.Site, Pilot: f.Pilot, Node: f.Node, KeyFingerprint: f.Key,
			NotAfter: f.NotAfter, Remote: f.Remote, Transport: f.Transport,
		}
	}
	if caller.Kind != transport.Anonymous {
		return caller, auth.Principal{Kind: caller.Kind}, nil
	}
	who, err := s.identifyPerson(r)
	if who.Kind == transport.User {
		caller.Kind, caller.User = transport.User, who.User
	}
	return caller, who, err
}

// identifyPerson finds out whose token a request shows; without one it is anonymous.
func (s *Server) identifyPerson(r *http.Request) (auth.Principal, error) {
	who := auth.Principal{Kind: transport.Anonymous}
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return who, nil
	}
	_, secret, err := protocol.ParseCredential(text)
	if err != nil {
		return who, protocol.Errorf(protocol.CodeUnauthorized, "authorization: %v", err)
	}
	hash := secret.Digest()
	var token state.Token
	var user state.User
	var known, founded bool
	s.Record.Read(func(m *state.Machine) {
		founded = m.Founded()
		if token, known = m.Token(hash); known {
			user, known = m.User(token.User)
		}
	})
	if term, _ := s.Record.Leading(); !known && term == 0 {
		// A follower that is behind, or a cluster without a leader, cannot say no.
		return who, errTokenNotHere
	}
	if !founded {
		return who, protocol.Errorf(protocol.CodeUnknown, "the cluster is being founded; repeat the request")
	}
	if !known || user.Disabled {
		return who, protocol.Errorf(protocol.CodeUnauthorized, "the token is unknown, revoked or expired")
	}
	return auth.Principal{Kind: transport.User, Role: token.Role, User: token.User, Groups: user.Groups, Token: hash}, nil
}

// doubt marks an answer as possibly old.
func (s *Server) doubt(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	w.Header().Set("Floe-Stale", "yes")
	return &doubtful{ResponseWriter: w, unknown: func() { s.answer(w, r, errNotHereYet) }}
}

// errNotHereYet is said instead of not found by who may be behind.
var errNotHereYet = protocol.Errorf(protocol.CodeUnknown, "it is not known here, and no leader can be asked; repeat the request")

// doubtful is the answer of a coordinator that may be behind. What it has it may
// show; what it lacks may have been made meanwhile, and was acknowledged then (I-17).
type doubtful struct {
	http.ResponseWriter
	unknown  func()
	replaced bool
}

// WriteHeader replaces not found by unknown.
func (d *doubtful) WriteHeader(status int) {
	if status != http.StatusNotFound || d.replaced {
		d.ResponseWriter.WriteHeader(status)
		return
	}
	d.replaced = true
	d.unknown()
}

// Write drops the body of what was replaced.
func (d *doubtful) Write(p []byte) (int, error) {
	if d.replaced {
		return len(p), nil
	}
	return d.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController through.
func (d *doubtful) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// hopByHop are the fields that speak of one connection, not of the request. One
// that HTTP/2 does not take would break the session all forwarded requests share.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Alt-Svc", "Expect",
}

// forward sends a request to the leader and its answer back. With no leader in
// reach, a person may read what this coordinator has.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, caller transport.Caller, to route) error {
	leader := s.Record.Leader()
	if leader == "" || leader == s.Node || r.Header.Get(headerCaller) != "" {
		if r.Method == http.MethodGet && caller.Kind == transport.User {
			w = s.doubt(w, r)
			s.answer(w, r, to.handle(w, r))
			return nil
		}
		return protocol.Errorf(protocol.CodeUnknown, "no leader is known; repeat the request")
	}
	ctx, cancel := s.whileLeading(r.Context(), leader)
	defer cancel()
	out := r.Clone(ctx)
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host, out.Host = "", "", ""
	f := forwarded{
		Kind: caller.Kind, Site: caller.Site, Pilot: caller.Pilot, Node: caller.Node, Key: caller.KeyFingerprint,
		NotAfter: caller.NotAfter, Remote: caller.Remote, Transport: caller.Transport,
	}
	if f.Kind == transport.User {
		f.Kind = transport.Anonymous // the leader looks the token up itself
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	for _, name := range hopByHop {
		out.Header.Del(name)
	}
	out.Header.Set(headerCaller, string(text))
	resp, err := s.Peers.Do(ctx, leader, out)
	if err != nil {
		s.Logger.Debug("not forwarded", "coordinator", leader, "path", r.URL.Path, "err", err)
		return protocol.Errorf(protocol.CodeUnknown, "the leader did not answer; repeat the request")
	}
	defer resp.Body.Close()
	for _, name := range hopByHop {
		resp.Header.Del(name)
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	if err := copyFlushing(w, resp.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// copyFlushing copies a stream and lets every piece go at once: it may be events.
func copyFlushing(w http.ResponseWriter, r io.Reader) error {
	control := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
