package server

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
	"floe/protocol/wiretest"
)

// recorded is a request as an earlier version wrote it, read as coordinators read it.
// It returns false where that version had no such request.
func recorded(t *testing.T, version, message string, request any) bool {
	t.Helper()
	b := wiretest.Sample(t, version, message)
	if b == nil {
		return false
	}
	if err := protocol.Unmarshal(b, request); err != nil {
		t.Fatalf("%s of version %s: %v", message, version, err)
	}
	return true
}

// Pilots and sites of the last minor versions are answered: what they sent, with the
// names, keys and secrets of this test in the place of those it was recorded with.
func TestRequestsOfEarlierVersionsAreAnswered(t *testing.T) {
	t.Parallel()
	for _, version := range wiretest.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newCatalogRig(t)
			csr := func() (ed25519.PrivateKey, []byte) {
				_, key, err := ed25519.GenerateKey(rand.Reader)
				der, csrErr := transport.NewCSR(key)
				if err := errors.Join(err, csrErr); err != nil {
					t.Fatal(err)
				}
				return key, der
			}

			// A site joins, renews and makes a pass.
			site, siteCSR := r.joiner("mill")
			var join protocol.JoinRequest
			if recorded(t, version, "JoinRequest", &join) {
				token := r.cluster.NewToken(protocol.TokenSite)
				r.do(&state.PutJoinToken{Hash: token.Secret.Digest(), For: state.JoinSite, Name: "pond", Uses: 1, Expires: state.Hour})
				join.Secret = token.Credential()
				_, join.CSR = csr()
				var reply protocol.JoinReply
				if err := r.callCBOR(anonymous, "/v1/sites", &join, &reply); err != nil || reply.Site != "pond" {
					t.Errorf("join: %v, %+v", err, reply)
				}
			}
			var renew protocol.RenewRequest
			if recorded(t, version, "RenewRequest", &renew) {
				renew.CSR = siteCSR
				if err := r.callCBOR(site, "/v1/sites/renew", &renew, nil); err != nil {
					t.Errorf("renew of a site: %v", err)
				}
			}

			// A pilot enrols, pulls a task, tells of it and reports.
			p := &worker{r: r}
			var enrol protocol.EnrolRequest
			if !recorded(t, version, "EnrolRequest", &enrol) {
				t.Fatal("no pilot of that version can enrol")
			}
			ticket := r.cluster.NewToken(protocol.TokenPilot)
			r.do(&state.PutTicket{Site: "mill", Hash: ticket.Secret.Digest(), Uses: 1, Expires: 1000 * state.Day})
			enrol.Ticket, enrol.Launch, enrol.Pilot = ticket.Credential(), "", protocol.NewPilotID()
			enrol.Resources.Memory, enrol.Resources.Disk = protocol.GB, protocol.GB
			p.key, enrol.CSR = csr()
			var enrolled protocol.EnrolReply
			if err := r.callCBOR(anonymous, "/v1/pilots", &enrol, &enrolled); err != nil {
				t.Fatalf("enrol: %v", err)
			}
			cert, err := transport.AssembleCertificate(enrolled.Certificate, p.key)
			if err != nil {
				t.Fatal(err)
			}
			id, err := transport.IdentityOf(cert.Leaf)
			if err != nil {
				t.Fatal(err)
			}
			p.caller = transport.Caller{
				Kind: id.Kind, Door: transport.DoorPilot, Site: id.Site, Pilot: id.Pilot, Remote: remote, Transport: "quic",
				KeyFingerprint: transport.Fingerprint(cert.Leaf), NotAfter: cert.Leaf.NotAfter,
			}
			renew.CSR = enrol.CSR
			if err := r.callCBOR(p.caller, "/v1/pilots/renew", &renew, nil); err != nil {
				t.Errorf("renew of a pilot: %v", err)
			}
			r.submit(r.person("ann", "producer"), 1, twoTasks)
			exchange := func(change func(*protocol.ExchangeRequest)) *protocol.ExchangeReply {
				t.Helper()
				var request protocol.ExchangeRequest
				if !recorded(t, version, "ExchangeRequest", &request) {
					t.Fatal("no pilot of that version can exchange")
				}
				p.sequence++
				request.Sequence, request.Leaving, request.Wait = p.sequence, false, 0
				request.Free.Memory, request.Free.Disk = protocol.GB, protocol.GB
				change(&request)
				reply := new(protocol.ExchangeReply)
				if err := r.callCBOR(p.caller, "/v1/pilots/exchange", &request, reply); err != nil {
					t.Fatalf("exchange: %v", err)
				}
				return reply
			}
			first := exchange(func(q *protocol.ExchangeRequest) {
				q.Held, q.Reports, q.Logs, q.Progress = nil, nil, nil, nil
			})
			if len(first.Leases) != 1 {
				t.Fatalf("the pilot is granted %d leases, want 1", len(first.Leases))
			}
			lease := &first.Leases[0]
			running := exchange(func(q *protocol.ExchangeRequest) {
				q.Reports, q.Want = nil, 0
				q.Held[0].Lease, q.Held[0].Task, q.Logs[0].Lease, q.Logs[0].Offset, q.Progress[0].Lease = lease.ID, lease.Task, lease.ID, 0, lease.ID
				if c := q.Progress[0].Checkpoint; c != nil {
					c.Type = protocol.FileCheckpoint
				}
			})
			if len(running.Orders) > 0 {
				t.Errorf("orders to a pilot that does its work: %+v", running.Orders)
			}
			ended := exchange(func(q *protocol.ExchangeRequest) {
				q.Held, q.Logs, q.Progress, q.Want = nil, nil, nil, 0
				q.Reports = []protocol.SignedReport{reportOf(t, version, p, lease)}
			})
			if len(ended.Answers) != 1 || ended.Answers[0].Code != protocol.CodeOK {
				t.Errorf("the report is answered %+v, want ok", ended.Answers)
			}
			exchange(func(q *protocol.ExchangeRequest) {
				q.Held, q.Logs, q.Progress, q.Reports, q.Want, q.Leaving = nil, nil, nil, nil, 0, true
			})

			var launch protocol.LaunchRequest
			if recorded(t, version, "LaunchRequest", &launch) {
				launch.Preview, launch.Trial = false, false                              // a pass that asks for what it may have
				launch.Reports = []protocol.SignedReport{reportOf(t, version, p, lease)} // from the spool: it was answered already
				for i := range launch.Shapes {
					launch.Shapes[i].BatchError = ""
					launch.Shapes[i].Offer.Memory, launch.Shapes[i].Offer.Disk = protocol.GB, protocol.GB
				}
				var reply protocol.LaunchReply
				if err := r.callCBOR(site, "/v1/sites/launch", &launch, &reply); err != nil {
					t.Errorf("pass: %v", err)
				}
				if len(reply.Answers) != 1 || reply.Answers[0].Code != protocol.CodeOK || len(reply.Reasons) == 0 {
					t.Errorf("a pass is answered %+v", reply)
				}
			}
		})
	}
}

// reportOf is the recorded report, of a lease of this test.
func reportOf(t *testing.T, version string, p *worker, l *protocol.Lease) protocol.SignedReport {
	t.Helper()
	var report protocol.Report
	if !recorded(t, version, "Report", &report) {
		t.Fatal("no pilot of that version can report")
	}
	report.Lease, report.Task, report.Pilot, report.Passkey = l.ID, l.Task, p.caller.Pilot, l.Passkey
	report.Log = protocol.LogRecord{}
	signed, err := protocol.SignReport(&report, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
