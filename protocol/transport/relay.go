package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"floe/protocol"
)

// RelayPass lets one pilot job through its site's relay. It is made by the site, says
// nothing to coordinators, and is handed over as one line of text:
//
//	FLOERELAY1.<pin>.<expires>.<launch>.<secret>@<host:port>
//
// The pin is the SHA-256 of the relay's public key (SPKI), the secret is drawn from
// the site's key for launch and expires; both are lower-case hex. Expires is in Unix
// seconds.
type RelayPass struct {
	Address string
	Pin     protocol.Digest
	Launch  protocol.LaunchID
	Expires int64
	Secret  protocol.Secret
}

const (
	relayVersion = "FLOERELAY1"
	maxRelayPass = 1024
	// RelayProtocol is what both sides of a relay's TLS speak.
	RelayProtocol = "floe-relay/1"
	// RelayCoordinators is the header by which a relay tells the coordinators' addresses,
	// separated by commas.
	RelayCoordinators = "Floe-Coordinators"
)

// Text is the pass with its secret.
func (p *RelayPass) Text() string {
	return fmt.Sprintf("%s.%s.%d.%s.%s@%s", relayVersion, p.Pin.Hex(), p.Expires, p.Launch, p.Secret.Reveal(), p.Address)
}

// String is the pass without its secret.
func (p *RelayPass) String() string {
	return fmt.Sprintf("pass of %s for relay %s", p.Launch, p.Address)
}

// ParseRelayPass reads what Text writes; white space around it is dropped. Errors do not
// repeat the text.
func ParseRelayPass(text string) (*RelayPass, error) {
	text = strings.TrimSpace(text)
	head, address, ok := strings.Cut(text, "@")
	parts := strings.Split(head, ".")
	last := len(parts) - 1
	if len(text) > maxRelayPass || !ok || parts[0] != relayVersion || last < 4 {
		return nil, fmt.Errorf("relay pass: want %s.<pin>.<expires>.<launch>.<secret>@<host:port>; was it cut?", relayVersion)
	}
	p := &RelayPass{Address: address, Launch: protocol.LaunchID(strings.Join(parts[3:last], ".")), Secret: protocol.Secret(parts[last])}
	var err error
	if p.Pin, err = protocol.ParseDigest(parts[1]); err != nil {
		return nil, fmt.Errorf("relay pass: its pin is not a SHA-256 in hex")
	}
	if p.Expires, err = strconv.ParseInt(parts[2], 10, 64); err != nil || p.Expires <= 0 {
		return nil, fmt.Errorf("relay pass: its end is not a time in Unix seconds")
	}
	if secret, err := hex.DecodeString(parts[last]); err != nil || len(secret) != sha256.Size {
		return nil, fmt.Errorf("relay pass: its secret was cut")
	}
	if err := protocol.CheckName("launch", string(p.Launch)); err != nil {
		return nil, fmt.Errorf("relay pass: %w", err)
	}
	if err := CheckAddress(address); err != nil {
		return nil, fmt.Errorf("relay pass: %w", err)
	}
	if p.Text() != text {
		return nil, fmt.Errorf("relay pass: not in the form it is written in")
	}
	return p, nil
}

// CheckAddress refuses what is not host:port with a port in numbers.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@,% \t\r\n") {
		return fmt.Errorf("address %.80q: want host:port", address)
	}
	return nil
}

// RelayKey is what a site's relay proves itself by, and what passes are made from.
type RelayKey struct {
	Certificate tls.Certificate
	pin         protocol.Digest
	secret      []byte
}

// NewRelayKey draws a key and returns it in PEM.
func NewRelayKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseRelayKey reads what NewRelayKey made.
func ParseRelayKey(text []byte) (*RelayKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("relay key: nothing in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("relay key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("relay key: a key of type %T, want ECDSA", parsed)
	}
	// Its dates and names mean nothing: a relay is known by its key.
	body := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "floe relay"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, body, body, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("relay key: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("relay key: %w", err)
	}
	secret := sha256.Sum256(append([]byte("floe relay passes v1\x00"), block.Bytes...))
	return &RelayKey{
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		pin:         Fingerprint(leaf), secret: secret[:],
	}, nil
}

// Issue makes the pass of a pilot job.
func (k *RelayKey) Issue(address string, launch protocol.LaunchID, expires time.Time) *RelayPass {
	p := &RelayPass{Address: address, Pin: k.pin, Launch: launch, Expires: expires.Unix()}
	p.Secret = k.secretOf(launch, p.Expires)
	return p
}

func (k *RelayKey) secretOf(launch protocol.LaunchID, expires int64) protocol.Secret {
	m := hmac.New(sha256.New, k.secret)
	fmt.Fprintf(m, "%d\x00%s", expires, launch)
	return protocol.Secret(hex.EncodeToString(m.Sum(nil)))
}

// Admit tells whose pass a request shows, or why it shows none that is good.
func (k *RelayKey) Admit(r *http.Request, now time.Time) (launch protocol.LaunchID, expires time.Time, err error) {
	// Basic credentials, as proxies take them.
	shown := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	user, secret, ok := shown.BasicAuth()
	end, name, split := strings.Cut(user, ".")
	seconds, parseErr := strconv.ParseInt(end, 10, 64)
	if !ok || !split || parseErr != nil {
		return "", expires, fmt.Errorf("no pass of this site")
	}
	if !k.secretOf(protocol.LaunchID(name), seconds).Matches(protocol.Secret(secret)) {
		return "", expires, fmt.Errorf("a pass that this site did not make")
	}
	if expires = time.Unix(seconds, 0); !now.Before(expires) {
		return "", expires, fmt.Errorf("a pass that ended at %s", expires.UTC().Format(time.RFC3339))
	}
	return protocol.LaunchID(name), expires, nil
}

// TLS is the relay's side.
func (k *RelayKey) TLS() *tls.Config {
	t := baseTLS()
	t.Certificates = []tls.Certificate{k.Certificate}
	t.NextProtos = []string{RelayProtocol}
	return t
}

// Authorize shows the pass with a request.
func (p *RelayPass) Authorize(h http.Header) {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(fmt.Sprintf("%d.%s", p.Expires, p.Launch), p.Secret.Reveal())
	h["Proxy-Authorization"] = r.Header["Authorization"]
}

// Dial connects to the relay itself and makes sure that it is the site's. dial opens
// the socket; nil opens a real one.
func (p *RelayPass) Dial(ctx context.Context, dial dialFunc) (net.Conn, error) {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, "tcp", p.Address)
	if err != nil {
		return nil, err
	}
	t := baseTLS()
	t.NextProtos = []string{RelayProtocol}
	t.InsecureSkipVerify = true // VerifyConnection does it: a relay is known by its key
	t.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 || Fingerprint(s.PeerCertificates[0]) != p.Pin {
			return fmt.Errorf("somebody else answers at %s: not the relay of this site", p.Address)
		}
		return nil
	}
	conn := tls.Client(raw, t)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// Tunnel connects to an address through the relay. told hears the coordinators'
// addresses that the relay knows, also when it refuses; nil hears nothing.
func (p *RelayPass) Tunnel(ctx context.Context, dial dialFunc, address string, told func([]string)) (net.Conn, error) {
	conn, err := p.Dial(ctx, dial)
	if err != nil {
		return nil, fmt.Errorf("relay %s: %w", p.Address, err)
	}
	header := http.Header{}
	p.Authorize(header)
	answer, err := openTunnel(ctx, conn, address, header)
	if answer != nil && told != nil {
		var known []string
		for a := range strings.SplitSeq(answer.Get(RelayCoordinators), ",") {
			if CheckAddress(a) == nil && len(known) < mostAddresses {
				known = append(known, a)
			}
		}
		slices.Sort(known)
		told(known)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("relay %s: %w", p.Address, err)
	}
	return conn, nil
}
