package server

import (
	"crypto/ed25519"
	"net/http"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// Limits of requests that come before any identity is known.
const maxEnrolBytes = 64 << 10

// enrol turns a ticket into a pilot's certificate (protocol.EnrolRequest).
func (s *Server) enrol(w http.ResponseWriter, r *http.Request) error {
	var request protocol.EnrolRequest
	if err := transport.ReadCBOR(r, maxEnrolBytes, &request); err != nil {
		return err
	}
	id, secret, err := protocol.ParseCredential(request.Ticket)
	if err != nil {
		return protocol.Errorf(protocol.CodeUnauthorized, "enrol: not a pilot's ticket: %v", err)
	}
	hash := secret.Digest()
	var site protocol.SiteID
	var launch protocol.LaunchID
	var found bool
	s.Record.Read(func(m *state.Machine) {
		if l, ok := m.Launch(protocol.LaunchID(id)); ok && l.TicketHash == hash {
			site, launch, found = l.Site, l.ID, true
		} else if t, ok := m.Ticket(hash); ok {
			site, found = t.Site, true
		}
	})
	if !found {
		return protocol.Errorf(protocol.CodeUnauthorized, "enrol: the ticket is unknown, used up or expired")
	}
	chain, key, err := s.Authority.CertifyPilot(request.CSR, site, request.Pilot)
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "enrol: %v", err)
	}
	command := &state.EnrolPilot{
		Pilot: request.Pilot, Site: site, Launch: launch, TicketHash: hash, PublicKey: key,
		Host: request.Host, BatchID: request.BatchID, Resources: request.Resources, Version: request.Version,
	}
	if _, err := s.propose(r.Context(), command); err != nil {
		return err
	}
	s.Logger.Info("pilot enrolled", "pilot", request.Pilot, "site", site, "host", request.Host)
	addresses, _ := s.addresses()
	return transport.WriteCBOR(w, &protocol.EnrolReply{Certificate: chain, Site: site, Cluster: s.Cluster, Addresses: addresses})
}

// renew gives a pilot a new certificate for the key it has.
func (s *Server) renew(w http.ResponseWriter, r *http.Request) error {
	var request protocol.RenewRequest
	if err := transport.ReadCBOR(r, maxEnrolBytes, &request); err != nil {
		return err
	}
	caller := transport.CallerOf(r.Context())
	pilot, err := s.core.pilotOf(&caller)
	if err != nil {
		return err
	}
	chain, key, err := s.Authority.CertifyPilot(request.CSR, pilot.Site, pilot.ID)
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "renew: %v", err)
	}
	if !key.Equal(ed25519.PublicKey(pilot.PublicKey)) {
		return protocol.Errorf(protocol.CodeForbidden, "renew: the request is for another key than the pilot enrolled with")
	}
	addresses, _ := s.addresses()
	return transport.WriteCBOR(w, &protocol.EnrolReply{Certificate: chain, Site: pilot.Site, Cluster: s.Cluster, Addresses: addresses})
}

// joinSite turns a one-use token into a site's certificate (protocol.JoinRequest).
func (s *Server) joinSite(w http.ResponseWriter, r *http.Request) error {
	var request protocol.JoinRequest
	if err := transport.ReadCBOR(r, maxEnrolBytes, &request); err != nil {
		return err
	}
	hash, name, err := s.invited(request.Secret, state.JoinSite)
	if err != nil {
		return err
	}
	chain, holder, err := s.Authority.CertifySite(request.CSR, protocol.SiteID(name))
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "join: %v", err)
	}
	use := &state.UseJoinToken{Hash: hash, For: state.JoinSite, Holder: holder, From: transport.CallerOf(r.Context()).Remote.String()}
	if _, err := s.propose(r.Context(), use); err != nil {
		return err
	}
	s.Logger.Info("site joined", "site", name)
	addresses, _ := s.addresses()
	return transport.WriteCBOR(w, &protocol.JoinReply{Certificate: chain, Site: protocol.SiteID(name), Cluster: s.Cluster, Addresses: addresses})
}

// renewSite gives a site a new certificate for the key it has.
func (s *Server) renewSite(w http.ResponseWriter, r *http.Request) error {
	var request protocol.RenewRequest
	if err := transport.ReadCBOR(r, maxEnrolBytes, &request); err != nil {
		return err
	}
	caller := transport.CallerOf(r.Context())
	if _, err := s.siteOf(caller); err != nil {
		return err
	}
	chain, err := s.Authority.RenewSite(request.CSR, caller)
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	addresses, _ := s.addresses()
	return transport.WriteCBOR(w, &protocol.JoinReply{Certificate: chain, Site: caller.Site, Cluster: s.Cluster, Addresses: addresses})
}

// invited finds what a join token invites, without spending it.
func (s *Server) invited(credential string, kind state.JoinKind) (hash protocol.Digest, name string, err error) {
	_, secret, err := protocol.ParseCredential(credential)
	if err != nil {
		return hash, "", protocol.Errorf(protocol.CodeUnauthorized, "join: %v", err)
	}
	hash = secret.Digest()
	var token state.JoinToken
	var ok bool
	s.Record.Read(func(m *state.Machine) { token, ok = m.JoinToken(hash) })
	if !ok || token.For != kind {
		return hash, "", protocol.Errorf(protocol.CodeUnauthorized, "join: the token is unknown, used up or expired")
	}
	return hash, token.Name, nil
}

// joinCoordinator admits a coordinator: its certificate, the cluster's secrets,
// and membership as a non-voter.
func (s *Server) joinCoordinator(w http.ResponseWriter, r *http.Request) error {
	var request protocol.JoinCoordinatorRequest
	if err := transport.ReadCBOR(r, maxEnrolBytes, &request); err != nil {
		return err
	}
	hash, name, err := s.invited(request.Secret, state.JoinCoordinator)
	if err != nil {
		return err
	}
	node := protocol.NodeID(name)
	if err := s.newName(node); err != nil {
		return err
	}
	chain, holder, err := s.Authority.CertifyCoordinator(request.CSR, node)
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "join: %v", err)
	}
	secrets, err := s.Authority.Secrets()
	if err != nil {
		return err
	}
	use := &state.UseJoinToken{Hash: hash, For: state.JoinCoordinator, Holder: holder, From: transport.CallerOf(r.Context()).Remote.String()}
	if _, err := s.propose(r.Context(), use); err != nil {
		return err
	}
	s.Logger.Info("coordinator joins", "coordinator", node)
	addresses, _ := s.addresses()
	return transport.WriteCBOR(w, &protocol.JoinCoordinatorReply{
		Certificate: chain, Node: node, Cluster: s.Cluster, Secrets: secrets, Addresses: addresses,
	})
}

// admitCoordinator makes a joined coordinator a member once its raft listener is
// up, and notes where it is reached.
func (s *Server) admitCoordinator(w http.ResponseWriter, r *http.Request) error {
	var request protocol.AdmitRequest
	if err := transport.ReadCBOR(r, maxEnrolBytes, &request); err != nil {
		return err
	}
	node := transport.CallerOf(r.Context()).Node
	if err := s.checkFormat(node, r); err != nil {
		return err
	}
	if _, err := s.propose(r.Context(), &state.PutMember{Node: node, Address: request.Address, Raft: request.Raft}); err != nil {
		return err
	}
	if err := s.Record.AddMember(r.Context(), node, request.Raft); err != nil {
		return err
	}
	s.Logger.Info("coordinator admitted", "coordinator", node, "address", request.Address)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
