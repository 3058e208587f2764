package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

// TestPilotEnrolsByItsTicketAlone goes the whole way over real sockets: the text
// of a ticket is all a pilot has.
func TestPilotEnrolsByItsTicketAlone(t *testing.T) {
	c := newCluster(t, "test", "n1")
	var ticket protocol.Token
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/pilots", func(w http.ResponseWriter, r *http.Request) {
		var in protocol.EnrolRequest
		if err := transport.ReadCBOR(r, 1<<16, &in); err != nil {
			transport.WriteError(w, r, err)
			return
		}
		id, secret, err := protocol.ParseCredential(in.Ticket)
		if err != nil || id != ticket.ID || secret.Digest() != ticket.Secret.Digest() {
			transport.WriteError(w, r, protocol.Errorf(protocol.CodeUnauthorized, "unknown ticket"))
			return
		}
		chain, _, err := c.CertifyPilot(in.CSR, "zeuthen", in.Pilot)
		if err != nil {
			transport.WriteError(w, r, protocol.Errorf(protocol.CodeBadRequest, "%v", err))
			return
		}
		_ = transport.WriteCBOR(w, protocol.EnrolReply{Certificate: chain, Site: "zeuthen", Cluster: c.Name()})
	})
	mux.HandleFunc("POST /v1/pilots/exchange", func(w http.ResponseWriter, r *http.Request) {
		caller := transport.CallerOf(r.Context())
		if caller.Kind != transport.Pilot || caller.Pilot != "p-1" || caller.Site != "zeuthen" {
			t.Errorf("caller %+v", caller)
		}
		_ = transport.WriteCBOR(w, protocol.ExchangeReply{Next: 60})
	})
	s, err := transport.NewServer(transport.ServerConfig{
		Cluster: c.Name(), Addr: "127.0.0.1:0", Certificate: c.ServerCertificate, ClientCAs: c.Issuers,
		AddressKey: c.AddressKey(), Handler: mux, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	ticket = c.NewToken(protocol.TokenPilot, s.Addr().String())

	read, err := protocol.ParseToken(ticket.Text())
	if err != nil {
		t.Fatal(err)
	}
	client := func(door transport.Door, cert *tls.Certificate) *transport.Client {
		cl, err := transport.NewClient(transport.ClientConfig{
			Cluster: read.Cluster, Door: door, Addresses: read.Addresses, Pins: []protocol.Digest{read.Pin},
			Certificate: func() (*tls.Certificate, error) { return cert, nil }, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	callCtx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var enrolled protocol.EnrolReply
	request := protocol.EnrolRequest{Ticket: read.Credential(), CSR: csrOf(t, key), Pilot: "p-1"}
	if err := client(transport.DoorEnrol, nil).CallCBOR(callCtx, "POST", "/v1/pilots", request, &enrolled); err != nil {
		t.Fatal(err)
	}
	cert, err := transport.AssembleCertificate(enrolled.Certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	var reply protocol.ExchangeReply
	if err := client(transport.DoorPilot, cert).CallCBOR(callCtx, "POST", "/v1/pilots/exchange", protocol.ExchangeRequest{}, &reply); err != nil || reply.Next != 60 {
		t.Errorf("exchange = %+v, %v", reply, err)
	}
}
