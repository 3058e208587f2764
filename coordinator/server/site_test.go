package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// joiner is a site that holds a key of its own.
func (r *rig) joiner(site protocol.SiteID) (transport.Caller, []byte) {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	csr, err := transport.NewCSR(key)
	if err != nil {
		r.t.Fatal(err)
	}
	token := r.cluster.NewToken(protocol.TokenSite)
	r.do(&state.PutJoinToken{Hash: token.Secret.Digest(), For: state.JoinSite, Name: string(site), Uses: 1, Expires: state.Hour})
	var reply protocol.JoinReply
	if err := r.callCBOR(anonymous, "/v1/sites", &protocol.JoinRequest{Secret: token.Credential(), CSR: csr}, &reply); err != nil {
		r.t.Fatal(err)
	}
	cert, err := transport.AssembleCertificate(reply.Certificate, key)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.callCBOR(anonymous, "/v1/sites", &protocol.JoinRequest{Secret: token.Credential(), CSR: csr}, nil); err != nil {
		r.t.Errorf("an answer that was lost is asked for again with the same key: %v", err)
	}
	return transport.Caller{Kind: transport.Site, Site: reply.Site, Remote: remote, KeyFingerprint: transport.Fingerprint(cert.Leaf)}, csr
}

func TestASiteThatJoinsAgainLocksItsFormerKeyOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	former, formerCSR := r.joiner("here")
	present, presentCSR := r.joiner("here")
	content := []byte("software")
	for _, x := range []struct {
		name   string
		caller transport.Caller
		csr    []byte
		want   protocol.Code
	}{
		{"the former key", former, formerCSR, protocol.CodeForbidden},
		{"the present key", present, presentCSR, protocol.CodeOK},
	} {
		if err := r.callCBOR(x.caller, "/v1/sites/launch", &protocol.LaunchRequest{}, nil); protocol.CodeOf(err) != x.want {
			t.Errorf("launch with %s: %v, want %v", x.name, err, x.want)
		}
		if err := r.callCBOR(x.caller, "/v1/sites/renew", &protocol.RenewRequest{CSR: x.csr}, nil); protocol.CodeOf(err) != x.want {
			t.Errorf("renew with %s: %v, want %v", x.name, err, x.want)
		}
		err := transport.ResponseError(r.send(x.caller, nil, "PUT", "/v1/blobs/"+protocol.DigestOf(content).Hex()+"?class=durable", content))
		if protocol.CodeOf(err) != x.want {
			t.Errorf("store with %s: %v, want %v", x.name, err, x.want)
		}
	}
}
