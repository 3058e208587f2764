package pilot

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

// Link is a pilot's connection to the coordinators, under a key that lives in
// this process's memory only.
type Link struct {
	id      protocol.PilotID
	ticket  protocol.Token
	key     ed25519.PrivateKey
	client  *transport.Client
	enroler *transport.Client
	logger  *slog.Logger
	storage *http.Client // for files; see Storage
	stage   string       // LinkConfig.RelayStage

	mu   sync.Mutex
	cert *tls.Certificate // guarded by mu
	site protocol.SiteID  // guarded by mu
}

// LinkConfig says how to reach the coordinators.
type LinkConfig struct {
	Ticket protocol.Token
	// DisableQUIC leaves UDP alone.
	DisableQUIC bool
	// Proxy finds the proxy for a request, as http.ProxyFromEnvironment does; nil
	// knows none. DialTCP and DialUDP open sockets; nil opens the machine's.
	Proxy   func(*http.Request) (*url.URL, error)
	DialTCP func(ctx context.Context, network, address string) (net.Conn, error)
	DialUDP func(ctx context.Context) (net.PacketConn, error)
	// Relay is the pass for the site's relay; nil knows none. RelayStorage are addresses
	// of storage, host:port, that are reached through it where there is no other way out.
	Relay        *transport.RelayPass
	RelayStorage []string
	// RelayStage is the directory by which the relay moves files in place of tunnels, on a
	// file system that it shares with this node; empty is none.
	RelayStage string
	// Elsewhere returns addresses of coordinators that the site knows, for when nobody
	// answers at those that the pilot knows; nil knows none.
	Elsewhere func() []string
	Logger    *slog.Logger
}

// NewLink draws the pilot's identity and key. It connects with the first call.
func NewLink(c LinkConfig) (*Link, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	l := &Link{id: protocol.NewPilotID(), ticket: c.Ticket, key: key, logger: c.Logger, stage: c.RelayStage}
	base := transport.ClientConfig{
		Cluster: c.Ticket.Cluster, Addresses: c.Ticket.Addresses, Pins: []protocol.Digest{c.Ticket.Pin},
		Proxy: c.Proxy, Relay: c.Relay, Elsewhere: c.Elsewhere, DialTCP: c.DialTCP, DialUDP: c.DialUDP, DisableQUIC: c.DisableQUIC, UserAgent: "floe-pilot/" + protocol.Version, Logger: c.Logger,
	}
	enrol := base
	enrol.Door = transport.DoorEnrol
	if l.enroler, err = transport.NewClient(enrol); err != nil {
		return nil, err
	}
	base.Door = transport.DoorPilot
	base.Certificate = l.certificate
	if l.client, err = transport.NewClient(base); err != nil {
		return nil, err
	}
	l.storage = l.storageClient(&c)
	return l, nil
}

// ID is the pilot's identity.
func (l *Link) ID() protocol.PilotID { return l.id }

// Key signs the pilot's reports.
func (l *Link) Key() ed25519.PrivateKey { return l.key }

// Way is the way in use, and why those before it did not stand.
func (l *Link) Way() (rung transport.Rung, why string) {
	if rung, why = l.client.Way(); rung == 0 {
		return l.enroler.Way() // the pilot has only enrolled
	}
	return rung, why
}

// Close ends the connections.
func (l *Link) Close() {
	l.enroler.Close()
	l.client.Close()
}

func (l *Link) certificate() (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cert == nil {
		return nil, fmt.Errorf("pilot %s has not enrolled", l.id)
	}
	return l.cert, nil
}

func (l *Link) request() ([]byte, error) {
	return transport.NewCSR(l.key)
}

// Enrol spends the ticket and makes the pilot known. It is repeated until ctx
// ends; the same pilot with the same key may enrol again.
func (l *Link) Enrol(ctx context.Context, request protocol.EnrolRequest) (*protocol.EnrolReply, error) {
	var err error
	if request.CSR, err = l.request(); err != nil {
		return nil, err
	}
	request.Pilot, request.Ticket = l.id, l.ticket.Credential()
	reply := new(protocol.EnrolReply)
	for {
		try, cancel := context.WithTimeout(ctx, enrolSaid)
		err = l.enroler.CallCBOR(try, http.MethodPost, "/v1/pilots", &request, reply, transport.Idempotent())
		late := try.Err() != nil
		cancel()
		if err == nil {
			break
		}
		if !late || ctx.Err() != nil {
			return nil, fmt.Errorf("enrol: %w", err)
		}
		l.logger.Warn("no coordinator enrols this pilot yet", "err", err)
	}
	l.enroler.Close() // not needed again
	return reply, l.adopt(reply)
}

// enrolSaid is how often a pilot that looks for coordinators says why it has found none.
const enrolSaid = 30 * time.Second

// adopt uses a certificate from now on.
func (l *Link) adopt(reply *protocol.EnrolReply) error {
	cert, err := transport.AssembleCertificate(reply.Certificate, l.key)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	l.mu.Lock()
	l.cert, l.site = cert, reply.Site
	l.mu.Unlock()
	return l.client.SetAddresses(reply.Addresses)
}

// renewAt is when half of the certificate's life is over.
func (l *Link) renewAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cert == nil {
		return time.Time{}
	}
	life := l.cert.Leaf.NotAfter.Sub(l.cert.Leaf.NotBefore)
	return l.cert.Leaf.NotBefore.Add(life / 2)
}

// Renew asks for a new certificate when half of the old one's life is over.
func (l *Link) Renew(ctx context.Context) error {
	if time.Now().Before(l.renewAt()) {
		return nil
	}
	csr, err := l.request()
	if err != nil {
		return err
	}
	var reply protocol.EnrolReply
	if err := l.client.CallCBOR(ctx, http.MethodPost, "/v1/pilots/renew", &protocol.RenewRequest{CSR: csr}, &reply, transport.Idempotent()); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	return l.adopt(&reply)
}

// Exchange speaks once. The caller repeats it, with what is then true.
func (l *Link) Exchange(ctx context.Context, request *protocol.ExchangeRequest) (*protocol.ExchangeReply, error) {
	reply := new(protocol.ExchangeReply)
	if err := l.client.CallCBOR(ctx, http.MethodPost, "/v1/pilots/exchange", request, reply); err != nil {
		return nil, err
	}
	if err := l.client.SetAddresses(reply.Addresses); err != nil {
		l.logger.Warn("coordinator addresses not taken over", "err", err)
	}
	l.client.SetLeader(reply.Leader)
	return reply, nil
}

// Software shows a version of the catalog as it is now. Nothing of it is verified.
func (l *Link) Software(ctx context.Context, name, version string) (*protocol.SoftwareProof, error) {
	ctx, cancel := context.WithTimeout(ctx, softwareWithin)
	defer cancel()
	proof := new(protocol.SoftwareProof)
	path := "/v1/software/" + url.PathEscape(name) + "/" + url.PathEscape(version)
	return proof, l.client.CallJSON(ctx, http.MethodGet, path, nil, proof, transport.Idempotent())
}

// softwareWithin is how long the catalog may take to answer: several elections.
const softwareWithin = time.Minute

// PutBlob stores bytes for a lease. body is read once; where it can be rewound,
// an unknown outcome is repeated.
func (l *Link) PutBlob(ctx context.Context, lease *protocol.Lease, class string, d protocol.Digest, size protocol.ByteSize, body io.Reader) error {
	seeker, rewinds := body.(io.Seeker)
	if !rewinds {
		return l.putOnce(ctx, lease, class, d, size, body)
	}
	return l.insist(ctx, "store", d, func() error {
		if _, err := seeker.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return l.putOnce(ctx, lease, class, d, size, body)
	})
}

func (l *Link) putOnce(ctx context.Context, lease *protocol.Lease, class string, d protocol.Digest, size protocol.ByteSize, body io.Reader) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "/v1/blobs/"+d.Hex()+"?class="+class, io.NopCloser(io.LimitReader(body, int64(size))))
	if err != nil {
		return err
	}
	r.ContentLength = int64(size)
	if size == 0 {
		r.Body = http.NoBody
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header.Set("Accept", transport.TypeCBOR)
	r.Header.Set("Floe-Task", lease.Task.String())
	r.Header.Set("Floe-Lease", lease.ID.String())
	r.Header.Set("Floe-Passkey", lease.Passkey.Reveal())
	resp, err := l.client.Do(ctx, r)
	if err != nil {
		return err
	}
	if err := transport.ResponseError(resp); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close()
}

// leaseBlobs is the blob store as one attempt may use it (stage.Blobs).
type leaseBlobs struct {
	link  Coordinators
	lease *protocol.Lease
}

func (b leaseBlobs) GetBlob(ctx context.Context, d protocol.Digest) (io.ReadCloser, error) {
	return b.link.GetBlob(ctx, d)
}

func (b leaseBlobs) PutBlob(ctx context.Context, d protocol.Digest, size protocol.ByteSize, body io.Reader) error {
	return b.link.PutBlob(ctx, b.lease, "temp", d, size, body)
}
