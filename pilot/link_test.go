package pilot

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"floe/coordinator/auth"
	"floe/protocol"
	"floe/protocol/transport"
)

// door is the part of a coordinator that a link needs: real doors and real
// certificates, and as little as possible behind them.
type door struct {
	cluster *auth.Cluster
	ticket  protocol.Token

	mu      sync.Mutex
	callers []transport.Caller // guarded by mu: of exchanges
	renewed int                // guarded by mu
	fail    int                // guarded by mu: how many uploads are answered unknown
	breaks  int                // guarded by mu: how many downloads break off midway
	stored  []byte             // guarded by mu
	passkey string             // guarded by mu: of the last upload
}

func newDoor(t *testing.T) *door {
	t.Helper()
	cluster, err := auth.InitCluster(filepath.Join(t.TempDir(), "keys"), "test", "c1")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{cluster: cluster}
	mux := http.NewServeMux()
	verb := func(pattern string, f func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, r); err != nil {
				transport.WriteError(w, r, err)
			}
		})
	}
	certify := func(w http.ResponseWriter, csr []byte, pilot protocol.PilotID) error {
		chain, _, err := cluster.CertifyPilot(csr, "here", pilot)
		if err != nil {
			return err
		}
		return transport.WriteCBOR(w, &protocol.EnrolReply{Certificate: chain, Site: "here", Cluster: "test", Addresses: d.ticket.Addresses})
	}
	verb("POST /v1/pilots", func(w http.ResponseWriter, r *http.Request) error {
		var request protocol.EnrolRequest
		if err := transport.ReadCBOR(r, 1<<20, &request); err != nil {
			return err
		}
		if request.Ticket != d.ticket.Credential() {
			return protocol.Errorf(protocol.CodeUnauthorized, "no such ticket")
		}
		return certify(w, request.CSR, request.Pilot)
	})
	verb("POST /v1/pilots/renew", func(w http.ResponseWriter, r *http.Request) error {
		var request protocol.RenewRequest
		if err := transport.ReadCBOR(r, 1<<20, &request); err != nil {
			return err
		}
		d.mu.Lock()
		d.renewed++
		d.mu.Unlock()
		return certify(w, request.CSR, transport.CallerOf(r.Context()).Pilot)
	})
	verb("POST /v1/pilots/exchange", func(w http.ResponseWriter, r *http.Request) error {
		var request protocol.ExchangeRequest
		if err := transport.ReadCBOR(r, 1<<20, &request); err != nil {
			return err
		}
		d.mu.Lock()
		d.callers = append(d.callers, transport.CallerOf(r.Context()))
		d.mu.Unlock()
		return transport.WriteCBOR(w, &protocol.ExchangeReply{Next: protocol.Seconds(request.Sequence), Addresses: d.ticket.Addresses, Leader: d.ticket.Addresses[0]})
	})
	verb("PUT /v1/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) error {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.fail--; d.fail >= 0 {
			return protocol.Errorf(protocol.CodeUnknown, "too few coordinators hold it; repeat")
		}
		if d.passkey = r.Header.Get("Floe-Passkey"); d.passkey == "wrong" {
			return protocol.Errorf(protocol.CodeStale, "the passkey is not that of the lease")
		}
		d.stored = b
		w.WriteHeader(http.StatusCreated)
		return nil
	})
	verb("GET /v1/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if protocol.DigestOf(d.stored).Hex() != r.PathValue("digest") {
			return protocol.Errorf(protocol.CodeNotFound, "no such blob")
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(d.stored)))
		if d.breaks--; d.breaks >= 0 {
			_, _ = w.Write(d.stored[:len(d.stored)*(9-d.breaks)/10])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, err := w.Write(d.stored)
		return err
	})
	server, err := transport.NewServer(transport.ServerConfig{
		Cluster: "test", Addr: "127.0.0.1:0", DisableQUIC: true, Certificate: cluster.ServerCertificate, ClientCAs: cluster.Issuers,
		Handler: mux, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		if err := server.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		served.Wait()
	})
	d.ticket = cluster.NewToken(protocol.TokenPilot, server.Addr().String())
	return d
}

func (d *door) link(t *testing.T) *Link {
	t.Helper()
	l, err := NewLink(LinkConfig{Ticket: d.ticket, DisableQUIC: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestLinkEnrolsSpeaksAndRenews(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	l := d.link(t)
	ctx := t.Context()
	if _, err := l.Exchange(ctx, &protocol.ExchangeRequest{}); err == nil {
		t.Error("a pilot spoke before it had enrolled")
	}
	reply, err := l.Enrol(ctx, protocol.EnrolRequest{Host: "node"})
	if err != nil || reply.Site != "here" {
		t.Fatalf("enrol = %+v, %v", reply, err)
	}
	if answer, err := l.Exchange(ctx, &protocol.ExchangeRequest{Sequence: 5}); err != nil || answer.Next != 5 {
		t.Fatalf("exchange = %+v, %v", answer, err)
	}
	key := l.Key().Public().(ed25519.PublicKey)
	if c := d.callers[0]; c.Kind != transport.Pilot || c.Pilot != l.ID() || c.Site != "here" {
		t.Errorf("the coordinator saw %+v", c)
	}
	if err := l.Renew(ctx); err != nil || d.renewed != 0 {
		t.Errorf("renewed %d times while the certificate is young, %v", d.renewed, err)
	}
	old := l.cert.Leaf
	old.NotBefore = old.NotBefore.Add(-3 * time.Hour) // as if most of its life were over
	if err := l.Renew(ctx); err != nil || d.renewed != 1 {
		t.Fatalf("renewed %d times when half of its life was over, %v", d.renewed, err)
	}
	if now := l.cert.Leaf; now == old || !key.Equal(now.PublicKey) {
		t.Error("the new certificate is the old one, or for another key")
	}
	if err := l.Renew(ctx); err != nil || d.renewed != 1 {
		t.Errorf("renewed %d times, %v; the new one is young", d.renewed, err)
	}
	stranger := d.link(t)
	stranger.ticket = d.cluster.NewToken(protocol.TokenPilot, d.ticket.Addresses...)
	if _, err := stranger.Enrol(ctx, protocol.EnrolRequest{}); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("enrol with a ticket nobody made: %v", err)
	}
}

func TestLinkStoresAndGetsBlobs(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	l := d.link(t)
	ctx := t.Context()
	if _, err := l.Enrol(ctx, protocol.EnrolRequest{}); err != nil {
		t.Fatal(err)
	}
	lease := &protocol.Lease{ID: protocol.LeaseID{Index: 7}, Task: protocol.TaskID{Dataset: 1}, Passkey: "secret"}
	blobs := leaseBlobs{l, lease}
	for name, content := range map[string][]byte{"some bytes": []byte("content"), "nothing": {}} {
		digest := protocol.DigestOf(content)
		d.fail = 1 // the first answer says that its fate is unknown
		if err := blobs.PutBlob(ctx, digest, protocol.ByteSize(len(content)), bytes.NewReader(content)); err != nil || d.passkey != "secret" {
			t.Fatalf("put %s: %v, with passkey %q", name, err, d.passkey)
		}
		body, err := blobs.GetBlob(ctx, digest)
		if err != nil {
			t.Fatalf("get %s: %v", name, err)
		}
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, content) {
			t.Errorf("get %s = %q, %v", name, got, err)
		}
		body.Close()
	}
	if _, err := blobs.GetBlob(ctx, protocol.DigestOf([]byte("other"))); protocol.CodeOf(err) != protocol.CodeNotFound {
		t.Errorf("get of what is not there: %v", err)
	}
	lease.Passkey = "wrong"
	if err := blobs.PutBlob(ctx, protocol.DigestOf([]byte("x")), 1, bytes.NewReader([]byte("x"))); protocol.CodeOf(err) != protocol.CodeStale {
		t.Errorf("a refused put: %v, want stale without repeating", err)
	}
}

// An attempt does not end because a coordinator does while it gives an input.
func TestABlobThatBreaksOffIsReadOn(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	l := d.link(t)
	if _, err := l.Enrol(t.Context(), protocol.EnrolRequest{}); err != nil {
		t.Fatal(err)
	}
	d.stored = bytes.Repeat([]byte("content "), 10_000)
	read := func(breaks int) error {
		d.mu.Lock()
		d.breaks = breaks
		d.mu.Unlock()
		body, err := l.GetBlob(t.Context(), protocol.DigestOf(d.stored))
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		got, err := io.ReadAll(body)
		if err == nil && !bytes.Equal(got, d.stored) {
			t.Errorf("broken off %d times: %d bytes of %d, or others", breaks, len(got), len(d.stored))
		}
		return err
	}
	if err := read(blobTries - 1); err != nil {
		t.Errorf("broken off %d times: %v", blobTries-1, err)
	}
	if err := read(blobTries); err == nil {
		t.Errorf("broken off %d times, and no error", blobTries)
	}
}
