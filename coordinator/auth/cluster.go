package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"floe/protocol"
	"floe/protocol/transport"
)

// Cluster is one coordinator's part of a cluster: its folder of keys, loaded.
// Its methods may be called concurrently.
type Cluster struct {
	*Authority
	dir     string
	node    protocol.NodeID
	secrets *Secrets
	key     crypto.Signer // of the leaf; stays for the life of the folder

	mu   sync.Mutex
	leaf *tls.Certificate
}

// InitCluster makes a cluster in a new or empty folder: root, issuing authority,
// secrets and the first coordinator's certificate.
func InitCluster(dir, name string, node protocol.NodeID) (*Cluster, error) {
	if err := errors.Join(transport.CheckCluster(name), protocol.CheckName("node", string(node))); err != nil {
		return nil, err
	}
	if err := emptyDir(dir); err != nil {
		return nil, err
	}
	s, rootKey, err := newSecrets(name)
	if err != nil {
		return nil, fmt.Errorf("make cluster %s: %w", name, err)
	}
	authority, err := newAuthority(s)
	if err != nil {
		return nil, err
	}
	key, err := NewCoordinatorKey()
	if err != nil {
		return nil, err
	}
	csr, err := transport.NewCSR(key)
	if err != nil {
		return nil, err
	}
	chain, _, err := authority.CertifyCoordinator(csr, node)
	if err != nil {
		return nil, err
	}
	if err := writeKey(filepath.Join(dir, rootKeyFile), rootKey); err != nil {
		return nil, err
	}
	return install(dir, s, key, chain)
}

func newSecrets(name string) (*Secrets, crypto.Signer, error) {
	root, rootKey, err := newAuthorityCertificate("floe root of "+name, 1, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	issuing, key, err := newAuthorityCertificate("floe issuing authority of "+name, 0, root, rootKey)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return &Secrets{
		Cluster: name, Root: root.Raw, Issuing: issuing.Raw, IssuingKey: der,
		Epoch: drawKey(), Sealing: drawKey(), Address: drawKey(),
	}, rootKey, nil
}

// NewCoordinatorKey makes the key of a coordinator, for its request to join.
func NewCoordinatorKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make coordinator's key: %w", err)
	}
	return key, nil
}

// JoinCluster fills a new or empty folder from the answer to a request to join.
// The secrets must be those of the root that the token pinned.
func JoinCluster(dir string, pin protocol.Digest, key crypto.Signer, reply *protocol.JoinCoordinatorReply) (*Cluster, error) {
	s, err := parseSecrets(reply.Secrets)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	authority, err := newAuthority(s)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if authority.Pin() != pin || s.Cluster != reply.Cluster {
		return nil, fmt.Errorf("join: the answer is of cluster %s with root %v, the token of root %v", s.Cluster, authority.Pin(), pin)
	}
	if err := emptyDir(dir); err != nil {
		return nil, err
	}
	return install(dir, s, key, reply.Certificate)
}

// install writes the folder, the chain last: a folder without it is unfinished.
func install(dir string, s *Secrets, key crypto.Signer, chain []byte) (*Cluster, error) {
	b, err := protocol.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode secrets: %w", err)
	}
	if err := writeFile(filepath.Join(dir, rootFile), encodeChain([][]byte{s.Root})); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, secretsFile), b); err != nil {
		return nil, err
	}
	if err := writeKey(filepath.Join(dir, keyFile), key); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, chainFile), chain); err != nil {
		return nil, err
	}
	return LoadCluster(dir)
}

// LoadCluster reads a folder that InitCluster or JoinCluster made. Its leaf may
// have ended while the coordinator was down: Run makes a new one.
func LoadCluster(dir string) (*Cluster, error) {
	c := &Cluster{dir: dir}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("load cluster %s: %w", dir, err)
	}
	return c, nil
}

func (c *Cluster) load() error {
	b, err := os.ReadFile(filepath.Join(c.dir, secretsFile))
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("no keys there: run floe init, or join a cluster")
	} else if err != nil {
		return err
	}
	if c.secrets, err = parseSecrets(b); err != nil {
		return err
	}
	if c.Authority, err = newAuthority(c.secrets); err != nil {
		return err
	}
	if c.key, err = readKey(filepath.Join(c.dir, keyFile)); err != nil {
		return err
	}
	chain, err := os.ReadFile(filepath.Join(c.dir, chainFile))
	if err != nil {
		return err
	}
	if c.leaf, err = transport.AssembleCertificate(chain, c.key); err != nil {
		return err
	}
	id, err := transport.IdentityOf(c.leaf.Leaf)
	if err != nil {
		return err
	}
	if err := c.leaf.Leaf.CheckSignatureFrom(c.issuing); err != nil || id.Cluster != c.cluster || id.Kind != transport.Coordinator {
		return fmt.Errorf("%s: %v is not certified as a coordinator of %s", chainFile, id, c.cluster)
	}
	c.node = id.Node
	return nil
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.cluster }

// Node is this coordinator's name.
func (c *Cluster) Node() protocol.NodeID { return c.node }

// Secrets are what a joining coordinator needs (protocol.JoinCoordinatorReply).
func (c *Cluster) Secrets() ([]byte, error) { return protocol.Marshal(c.secrets) }

// Passkey derives the secret of an attempt; see the function Passkey.
func (c *Cluster) Passkey(task protocol.TaskID, lease protocol.LeaseID, fingerprint protocol.Digest, nonce [16]byte) protocol.Passkey {
	return Passkey(c.secrets.Epoch, task, lease, fingerprint, nonce)
}

// Seal encrypts for the coordinators of the cluster, for one purpose.
func (c *Cluster) Seal(purpose string, plain []byte) []byte { return c.secrets.Seal(purpose, plain) }

// Open decrypts what Seal made for the purpose.
func (c *Cluster) Open(purpose string, sealed []byte) ([]byte, error) {
	return c.secrets.Open(purpose, sealed)
}

// AddressKey is for transport.ServerConfig.
func (c *Cluster) AddressKey() [32]byte { return c.secrets.Address }

// NewToken draws a token of the cluster. The record keeps its Secret.Digest.
func (c *Cluster) NewToken(role protocol.TokenRole, addresses ...string) protocol.Token {
	return protocol.NewToken(role, c.Pin(), c.cluster, addresses...)
}

// Certificate is this coordinator's certificate; the same until it is renewed.
func (c *Cluster) Certificate() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaf, nil
}

// ServerCertificate is Certificate for tls.Config and transport.ServerConfig.
func (c *Cluster) ServerCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.Certificate()
}
