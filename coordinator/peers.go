package coordinator

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"floe/coordinator/server"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// peers reaches the other coordinators (server.Peers): one client each.
type peers struct {
	node *node

	mu      sync.Mutex
	clients map[protocol.NodeID]*peer // guarded by mu
	closed  bool                      // guarded by mu
}

// peer is the client for one coordinator at one address.
type peer struct {
	address string
	client  *transport.Client
}

func newPeers(n *node) *peers { return &peers{node: n, clients: map[protocol.NodeID]*peer{}} }

// Others implements server.Peers.
func (p *peers) Others() []protocol.NodeID {
	var all []protocol.NodeID
	for _, m := range p.node.record.Members() {
		if !m.Self && m.Address != "" {
			all = append(all, m.ID)
		}
	}
	return all
}

// Do implements server.Peers.
func (p *peers) Do(ctx context.Context, id protocol.NodeID, r *http.Request) (*http.Response, error) {
	c, err := p.client(id)
	if err != nil {
		return nil, err
	}
	return c.Do(ctx, r)
}

func (p *peers) client(id protocol.NodeID) (*transport.Client, error) {
	var m state.Member
	var ok bool
	p.node.record.Read(func(x *state.Machine) { m, ok = x.Member(id) })
	if !ok {
		return nil, protocol.Errorf(protocol.CodeUnknown, "the address of coordinator %s is not known yet", id)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, protocol.Errorf(protocol.CodeUnknown, "this coordinator is closing")
	}
	if known := p.clients[id]; known != nil {
		if known.address == m.Address {
			return known.client, nil
		}
		known.client.Close()
	}
	c, err := p.newClient(m.Address)
	if err != nil {
		return nil, err
	}
	p.clients[id] = &peer{m.Address, c}
	return c, nil
}

func (p *peers) newClient(addresses ...string) (*transport.Client, error) {
	return transport.NewClient(transport.ClientConfig{
		Cluster: p.node.cluster.Name(), Door: transport.DoorPeer, Addresses: addresses,
		Pins: []protocol.Digest{p.node.cluster.Pin()}, Certificate: p.node.cluster.Certificate,
		// HTTP/2 lets a peer hold thousands of parked exchanges on one connection.
		DisableQUIC: true, DialTCP: p.node.config.Network.DialTCP, UserAgent: "floe-coordinator/" + protocol.Version, Logger: p.node.config.Logger,
	})
}

// admit asks the cluster to take this coordinator in, or to note that it moved.
func (p *peers) admit(ctx context.Context, self *state.PutMember) error {
	body, err := protocol.Marshal(&protocol.AdmitRequest{Address: self.Address, Raft: self.Raft})
	if err != nil {
		return err
	}
	for _, address := range p.known() {
		c, err := p.newClient(address)
		if err != nil {
			return err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/v1/coordinators/admit", bytes.NewReader(body))
		if err == nil {
			r.Header.Set("Content-Type", transport.TypeCBOR)
			r.Header.Set(server.HeaderFormat, strconv.Itoa(int(p.node.config.Format)))
			var resp *http.Response
			if resp, err = c.Do(ctx, r); err == nil {
				if err = transport.ResponseError(resp); err == nil {
					err = resp.Body.Close()
				}
			}
		}
		c.Close()
		if err == nil {
			return nil
		}
		p.node.config.Logger.Debug("not admitted", "address", address, "err", err)
	}
	return fmt.Errorf("no coordinator admitted %s", p.node.cluster.Node())
}

// known lists addresses of other coordinators: those of the record, and those the
// join was answered with.
func (p *peers) known() []string {
	var all []string
	for _, m := range p.node.record.Members() {
		if !m.Self && m.Address != "" {
			all = append(all, m.Address)
		}
	}
	return append(all, p.node.config.Others...)
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.clients {
		c.client.Close()
	}
}
