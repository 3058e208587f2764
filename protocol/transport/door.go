package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
)

// Door is one of the names under which a coordinator answers, and so what it
// asks of those who come in.
type Door uint8

// The doors of a cluster. Browsers must not be asked for certificates, so only
// the names of machines' doors are; every unknown name leads to DoorPeople.
const (
	DoorPeople Door = iota + 1 // any other name: no certificate asked
	DoorEnrol                  // enrol.<cluster>: no certificate asked
	DoorPilot                  // pilot.<cluster>: a pilot's certificate
	DoorSite                   // site.<cluster>: a site's certificate
	DoorPeer                   // peer.<cluster>: a coordinator's certificate
)

var doors = [...]string{"", "api", "enrol", "pilot", "site", "peer"}

func (d Door) String() string {
	if d == 0 || int(d) >= len(doors) {
		return fmt.Sprintf("invalid door %d", uint8(d))
	}
	return doors[d]
}

// ServerName is the name a client calls the door by. DoorPeople answers to any
// name; api.<cluster> is the one in the certificates that floe makes.
func (d Door) ServerName(cluster string) string { return d.String() + "." + cluster }

// ServerNames are all names that a coordinator's certificate must hold.
func ServerNames(cluster string) []string {
	names := make([]string, 0, len(doors))
	for _, d := range doors[1:] {
		names = append(names, d+"."+cluster)
	}
	return append(names, cluster)
}

// holder is the kind whose certificate the door requires; zero for none.
func (d Door) holder() Kind {
	switch d {
	case DoorPilot:
		return Pilot
	case DoorSite:
		return Site
	case DoorPeer:
		return Coordinator
	}
	return 0
}

// doorOf finds the door by the name in a ClientHello.
func doorOf(name, cluster string) Door {
	prefix, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), "."+cluster)
	if !ok {
		return DoorPeople
	}
	for d := DoorEnrol; int(d) < len(doors); d++ {
		if doors[d] == prefix {
			return d
		}
	}
	return DoorPeople
}

// baseTLS is what both sides of every connection have in common. Tickets are
// off because resumption does not verify a client's chain again.
func baseTLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
		SessionTicketsDisabled: true,
	}
}

// serverTLS answers each ClientHello with the policy of the door it names.
func serverTLS(c *ServerConfig, protocols ...string) *tls.Config {
	p := &policies{config: c, protocols: protocols, of: make(map[Kind]*tls.Config)}
	base := p.open()
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return p.holding(doorOf(hello.ServerName, c.Cluster).holder()), nil
	}
	return base
}

// policies are what doors ask of those who come. All connections share them, for as
// long as clients are verified by the same roots.
type policies struct {
	config    *ServerConfig
	protocols []string

	mu    sync.Mutex
	roots *x509.CertPool       // guarded by mu
	of    map[Kind]*tls.Config // guarded by mu; by whose certificate is required
}

// open is the policy of doors that require no certificate.
func (p *policies) open() *tls.Config {
	t := baseTLS()
	t.NextProtos = p.protocols
	t.GetCertificate = p.config.Certificate
	return t
}

// holding is the policy of doors that require a certificate of a kind; zero for none.
func (p *policies) holding(want Kind) *tls.Config {
	roots := p.config.ClientCAs()
	p.mu.Lock()
	defer p.mu.Unlock()
	if roots != p.roots {
		clear(p.of)
		p.roots = roots
	}
	t := p.of[want]
	if t != nil {
		return t
	}
	t = p.open()
	p.of[want] = t
	if want == 0 {
		return t
	}
	t.ClientAuth = tls.RequireAndVerifyClientCert
	t.ClientCAs = roots
	t.VerifyConnection = func(s tls.ConnectionState) error {
		id, err := verifiedIdentity(&s)
		switch {
		case err != nil:
			return err
		case id.Cluster != p.config.Cluster || id.Kind != want:
			return fmt.Errorf("%v may not enter by %s: a %v of %s may", id, s.ServerName, want, p.config.Cluster)
		}
		return nil
	}
	return t
}

// verifiedIdentity is the identity of a connection whose chain crypto/tls has verified.
func verifiedIdentity(s *tls.ConnectionState) (Identity, error) {
	leaf := verifiedLeaf(s)
	if leaf == nil {
		return Identity{}, fmt.Errorf("no verified certificate")
	}
	return IdentityOf(leaf)
}

func verifiedLeaf(s *tls.ConnectionState) *x509.Certificate {
	if len(s.VerifiedChains) == 0 || len(s.VerifiedChains[0]) == 0 {
		return nil
	}
	return s.VerifiedChains[0][0]
}
