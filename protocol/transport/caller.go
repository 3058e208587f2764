package transport

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"floe/protocol"
)

// Caller is who speaks in one request, as far as the connection tells.
type Caller struct {
	Kind  Kind
	Door  Door
	User  protocol.UserID  // of a User; set by the handler that checked a token
	Site  protocol.SiteID  // of a Site or Pilot
	Pilot protocol.PilotID // of a Pilot
	Node  protocol.NodeID  // of a Coordinator
	// KeyFingerprint is the SHA-256 of the public key (SPKI) whose possession the
	// connection proved; zero without a certificate.
	KeyFingerprint protocol.Digest
	// NotAfter is the end of the certificate; zero without one.
	NotAfter  time.Time
	Remote    netip.AddrPort
	Transport string // "quic" or "tcp"
}

// LogValue names the caller by what is known of it.
func (c Caller) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("kind", c.Kind.String()), slog.String("remote", c.Remote.String())}
	for _, a := range []slog.Attr{
		slog.String("user", string(c.User)), slog.String("site", string(c.Site)),
		slog.String("pilot", string(c.Pilot)), slog.String("node", string(c.Node)),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	return slog.GroupValue(attrs...)
}

type callerKey struct{}

// CallerOf returns who speaks in the request of ctx. Outside a request it is an
// anonymous caller through no door, which no table of rights lets in.
func CallerOf(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return Caller{Kind: Anonymous}
}

// WithCaller returns ctx with another caller: for handlers that found out who an
// anonymous caller is, and for calling handlers without a network.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf reads the caller off a finished handshake.
func callerOf(s *tls.ConnectionState, cluster, transport string, remote netip.AddrPort) Caller {
	c := Caller{Kind: Anonymous, Door: doorOf(s.ServerName, cluster), Remote: remote, Transport: transport}
	leaf := verifiedLeaf(s)
	if leaf == nil {
		return c
	}
	id, err := IdentityOf(leaf)
	if err != nil || id.Cluster != cluster {
		return c // the handshake has refused these already
	}
	c.Kind, c.Site, c.Pilot, c.Node = id.Kind, id.Site, id.Pilot, id.Node
	c.KeyFingerprint, c.NotAfter = Fingerprint(leaf), leaf.NotAfter
	return c
}
