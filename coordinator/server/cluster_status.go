package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// Space is how full the disk under the record is.
type Space struct {
	Free, Total protocol.ByteSize
	// Low says that too little is free to lead or to take submissions.
	Low bool
}

// roomFor refuses what would make the record larger while the leader's disk is
// nearly full. Reports are taken all the same (I-24).
func (s *Server) roomFor(what string) error {
	if s.Space == nil {
		return nil
	}
	if space := s.Space(); space.Low {
		return &protocol.Error{
			Code: protocol.CodeBusy, RetryAfter: 30,
			Message: fmt.Sprintf("no %s while the disk of coordinator %s is nearly full: %v of %v are free", what, s.Node, space.Free, space.Total),
		}
	}
	return nil
}

// cluster describes the coordinators as this one sees them. To a person it also
// tells what each says of itself.
func (s *Server) cluster(ctx context.Context, _ *struct{}) (*body[protocol.ClusterReply], error) {
	reply := s.standing()
	if transport.CallerOf(ctx).Kind == transport.User {
		s.askMembers(ctx, &reply)
	}
	return &body[protocol.ClusterReply]{reply}, nil
}

// standing is what this coordinator knows by itself.
func (s *Server) standing() protocol.ClusterReply {
	reply := protocol.ClusterReply{
		Cluster: s.Cluster, Node: s.Node, Leader: s.Record.Leader(), Term: s.Record.Term(), Members: s.Record.Members(),
		NodeStatus: protocol.NodeStatus{
			Version: protocol.Version, Supports: s.Format, Applied: s.Record.Applied(), History: s.Ledger.Applied(),
			RSS: residentMemory(), LogBytes: s.Record.LogBytes(),
		},
	}
	if s.Space != nil {
		space := s.Space()
		reply.DiskFree, reply.DiskTotal, reply.DiskLow = space.Free, space.Total, space.Low
	}
	s.Record.Read(func(m *state.Machine) {
		t := m.Totals()
		reply.Queued, reply.Running, reply.Pilots, reply.Format = m.Queued(), t.Leases, t.Pilots, m.Format()
	})
	return reply
}

// askLimit is how long another coordinator may take to say how it stands.
const askLimit = 2 * time.Second

// askMembers fills in what each member says of itself, and what the leader has
// heard of them.
func (s *Server) askMembers(ctx context.Context, reply *protocol.ClusterReply) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var leader *protocol.ClusterReply // as the leader sees it; written by one goroutine
	var asking sync.WaitGroup
	for i := range reply.Members {
		m := &reply.Members[i]
		if m.Self {
			status := reply.NodeStatus
			m.Status = &status
			continue
		}
		asking.Go(func() {
			theirs, err := s.askMember(ctx, m.ID)
			if err != nil {
				m.Problem = "does not answer"
				s.Logger.Debug("coordinator does not say how it stands", "coordinator", m.ID, "err", err)
				return
			}
			m.Status = &theirs.NodeStatus
			if m.Leader {
				leader = theirs
			}
		})
	}
	asking.Wait()
	if leader == nil {
		return
	}
	for i := range reply.Members {
		m := &reply.Members[i]
		for _, heard := range leader.Members {
			if heard.ID == m.ID {
				m.Healthy, m.Behind, m.Contact = heard.Healthy, heard.Behind, heard.Contact
			}
		}
	}
}

// askMember has another coordinator say how it stands.
func (s *Server) askMember(ctx context.Context, node protocol.NodeID) (*protocol.ClusterReply, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/cluster", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := s.Peers.Do(ctx, node, r)
	if err != nil {
		return nil, err
	}
	if err := transport.ResponseError(resp); err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var reply protocol.ClusterReply
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, protocol.MaxExchangeBytes)).Decode(&reply); err != nil {
		return nil, err
	}
	return &reply, nil
}

// residentMemory is this process's resident set; 0 where the system does not say.
func residentMemory() protocol.ByteSize {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return protocol.ByteSize(pages * int64(os.Getpagesize()))
}
