package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"floe/coordinator/fetch"
	"floe/coordinator/replica"
	"floe/coordinator/server"
	"floe/coordinator/state"
	"floe/protocol"
)

// Config of one coordinator.
type Config struct {
	// Dir holds everything: keys in keys/, the log and snapshots in record/, the
	// ledger in history/, files in blobs/.
	Dir string
	// Listen is host:port of the API, the same for UDP and TCP; Address is how others
	// reach it. Raft and RaftAddress are the same for Raft's own port (TCP).
	Listen, Address   string
	Raft, RaftAddress string
	// Network is where sockets come from; zero is the machine's.
	Network Network
	// Timing are Raft's clocks; zero suits members at several sites.
	Timing replica.Timing
	// Limits bound what Raft holds in memory and on disk; zero takes the defaults.
	Limits replica.Limits
	// Disk says when the disk is too full; zero takes the defaults.
	Disk Disk
	// FilesQuota is what steering files, modules and software may take together; zero
	// is the store's default.
	FilesQuota protocol.ByteSize
	// Server are the spans after which the leader acts; zero takes the defaults.
	Server server.Timing
	// PromoteAfter is how long a joined coordinator must keep up before it votes.
	PromoteAfter protocol.Seconds
	// Others are addresses of coordinators to ask for admission, for one that joins.
	Others []string
	// Found makes a new cluster of this coordinator alone where Dir has no record yet.
	Found bool
	// Format is the newest format of the record that this coordinator lets the
	// cluster use; zero is state.Format, the newest that it can.
	Format uint32
	// FirstToken is recorded as an administrator's when the cluster is founded.
	FirstToken protocol.Token
	// Modules fetches external modules; nil fetches none. Describe lists the parameters
	// of the classes in a Python file without running it; nil where that is not possible.
	Modules  *fetch.Fetcher
	Describe func(ctx context.Context, file string) (map[string][]string, error)
	// DisableQUIC serves over TCP only.
	DisableQUIC bool
	// Wall is the clock by which entries are dated for people; nil is time.Now.
	// Nothing expires by it.
	Wall   func() time.Time
	Logger *slog.Logger
	// Ready, where not nil, is called once with the API's address when it is served.
	Ready func(addr net.Addr)
}

// Network opens the sockets of a coordinator: listeners for the API (TCP and UDP)
// and for Raft (TCP), connections to other coordinators. Nil fields open the
// machine's.
type Network struct {
	ListenTCP func(address string) (net.Listener, error)
	ListenUDP func(address string) (net.PacketConn, error)
	DialTCP   func(ctx context.Context, network, address string) (net.Conn, error)
}

func (n *Network) listenTCP(address string) (net.Listener, error) {
	if n.ListenTCP == nil {
		return net.Listen("tcp", address)
	}
	return n.ListenTCP(address)
}

// Validate returns all mistakes, joined.
func (c *Config) Validate() error {
	var all []error
	for what, address := range map[string]string{"listen": c.Listen, "address": c.Address, "raft": c.Raft, "raft address": c.RaftAddress} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			all = append(all, fmt.Errorf("%s %q: want host:port", what, address))
		}
	}
	if c.Format > state.Format {
		all = append(all, fmt.Errorf("format %d: this build knows 1 to %d", c.Format, state.Format))
	}
	if c.Dir == "" || c.Logger == nil {
		all = append(all, errors.New("dir and logger must be set"))
	}
	return errors.Join(all...)
}
