package protocol

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
)

// Secret is text that must not be shown: fmt, slog and JSON see a placeholder.
type Secret string

const hiddenSecret = "[secret]"

// Matches compares in constant time; an empty secret matches nothing.
func (s Secret) Matches(t Secret) bool {
	return s != "" && subtle.ConstantTimeCompare([]byte(s), []byte(t)) == 1
}

// Digest is what a record keeps in place of the secret. A plain hash will do,
// because secrets are drawn from 256 bits and cannot be guessed.
func (s Secret) Digest() Digest { return DigestOf([]byte(s)) }

// Reveal returns the secret itself, for the one place that sends or stores it.
func (s Secret) Reveal() string { return string(s) }

// Format hides the secret from every verb of fmt.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hiddenSecret)) }

// String hides the secret.
func (Secret) String() string { return hiddenSecret }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(hiddenSecret) }

// MarshalText hides the secret from JSON and its like.
func (Secret) MarshalText() ([]byte, error) { return []byte(hiddenSecret), nil }

// TokenRole is what a token is good for.
type TokenRole uint8

// The roles of tokens.
const (
	TokenUser        TokenRole = iota + 1 // a person's requests
	TokenSite                             // one site's joining
	TokenCoordinator                      // one coordinator's joining
	TokenPilot                            // a ticket: one pilot's enrolment
)

var tokenRoles = [...]string{"", "user", "site", "coordinator", "pilot"}

func (r TokenRole) String() string { return nameOf(tokenRoles[:], int(r), "token role") }

// Token is an invitation that is handed over as one line of text. It tells its
// holder where the cluster is and how to know it, so that the secret is sent to
// nobody else:
//
//	FLOE1.<role>.<pin>.<id>.<secret>@<cluster>/<host:port>,<host:port>…
//
// The pin is the SHA-256 of the public key (SPKI) of the cluster's root in
// lower-case base32 without padding; the id is a name, which may hold dots; the
// secret is lower-case base32. The addresses may be missing, with their slash,
// where the holder knows them.
type Token struct {
	Role TokenRole
	// Pin is the digest of the root's public key.
	Pin Digest
	// ID names the record that coordinators keep of the token.
	ID        string
	Secret    Secret
	Cluster   string
	Addresses []string
}

const (
	tokenVersion = "FLOE1"
	// tokenSecretBytes gives 256 bits.
	tokenSecretBytes = 32
	maxTokenText     = 4096
	minSecret        = 16
)

// NewToken draws the id and the secret of a token.
func NewToken(role TokenRole, pin Digest, cluster string, addresses ...string) Token {
	return Token{
		Role: role, Pin: pin, ID: RandomText(10), Secret: Secret(RandomText(tokenSecretBytes)),
		Cluster: cluster, Addresses: addresses,
	}
}

// Text is the token with its secret, as it is handed over.
func (t Token) Text() string { return t.text(string(t.Secret)) }

// String is the token without its secret.
func (t Token) String() string { return t.text(hiddenSecret) }

// LogValue hides the secret.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

func (t Token) text(secret string) string {
	s := strings.Join([]string{tokenVersion, t.Role.String(), base32Lower.EncodeToString(t.Pin[:]), t.ID, secret}, ".") + "@" + t.Cluster
	if len(t.Addresses) > 0 {
		s += "/" + strings.Join(t.Addresses, ",")
	}
	return s
}

// Credential is what the holder sends once it knows the cluster: id and secret
// alone, as a bearer, ticket or join secret.
func (t Token) Credential() string { return t.ID + "." + string(t.Secret) }

// ParseCredential splits what Credential joined.
func ParseCredential(text string) (id string, secret Secret, err error) {
	dot := strings.LastIndexByte(text, '.')
	if dot < 0 || CheckName("token", text[:dot]) != nil || !isSecret(text[dot+1:]) {
		return "", "", fmt.Errorf("credential: want <id>.<secret>") // never with the text itself
	}
	return text[:dot], Secret(text[dot+1:]), nil
}

// ParseToken reads what Text writes; white space around it is dropped. Errors do
// not repeat the text, which may hold a secret.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxTokenText {
		return Token{}, fmt.Errorf("token: longer than %d bytes", maxTokenText)
	}
	head, tail, ok := strings.Cut(text, "@")
	parts := strings.Split(head, ".")
	switch {
	case parts[0] != tokenVersion:
		return Token{}, fmt.Errorf("token: does not begin with %s.; was it cut?", tokenVersion)
	case !ok || len(parts) < 5:
		return Token{}, fmt.Errorf("token: want %s.<role>.<pin>.<id>.<secret>@<cluster>/<addresses>; was it cut?", tokenVersion)
	}
	role, err := indexOf(tokenRoles[:], parts[1], "token role")
	if err != nil {
		return Token{}, fmt.Errorf("token: unknown role; want one of %q", tokenRoles[1:])
	}
	last := len(parts) - 1
	t := Token{Role: TokenRole(role), ID: strings.Join(parts[3:last], "."), Secret: Secret(parts[last])}
	if t.Pin, err = parsePin(parts[2]); err != nil {
		return Token{}, err
	}
	if CheckName("token", t.ID) != nil || !isSecret(parts[last]) {
		return Token{}, fmt.Errorf("token: id or secret is malformed or was cut")
	}
	cluster, addresses, listed := strings.Cut(tail, "/")
	if t.Cluster = cluster; CheckName("cluster", cluster) != nil {
		return Token{}, fmt.Errorf("token: no cluster's name after the @")
	}
	if !listed {
		return t, nil
	}
	for a := range strings.SplitSeq(addresses, ",") {
		if err := checkAddress(a); err != nil {
			return Token{}, fmt.Errorf("token: %w", err)
		}
		t.Addresses = append(t.Addresses, a)
	}
	return t, nil
}

func parsePin(text string) (Digest, error) {
	var d Digest
	b, err := base32Lower.DecodeString(text)
	if err != nil || len(b) != sha256.Size || base32Lower.EncodeToString(b) != text {
		return d, fmt.Errorf("token: pin is not a SHA-256 in lower-case base32")
	}
	copy(d[:], b)
	return d, nil
}

func checkAddress(a string) error {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return fmt.Errorf("address %.80q: want host:port", a)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(a, "/@ \t\r\n") {
		return fmt.Errorf("address %.80q: want host:port", a)
	}
	return nil
}

// isSecret tells whether s is lower-case base32 of a length that is no typing error.
func isSecret(s string) bool {
	_, err := base32Lower.DecodeString(s)
	return err == nil && len(s) >= minSecret && !strings.ContainsAny(s, "\r\n") // which base32 skips
}
