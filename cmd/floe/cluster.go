package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"floe/protocol"

	"github.com/spf13/cobra"
)

func clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "Look after the coordinators"}
	status := &cobra.Command{
		Use: "status", Short: "Members, leader and how each one stands", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return get(c, "/v1/cluster", printCluster) },
	}
	outputFlag(status)
	c.AddCommand(status, clusterAddCommand(), clusterRemoveCommand(), clusterTransferCommand(), clusterSnapshotCommand(), clusterUpgradeCommand(),
		clusterBackupCommand(), clusterRestoreCommand(), clusterRecoverCommand())
	return c
}

func printCluster(p *printer, s *protocol.ClusterReply) error {
	p.line("cluster %s, floe %s, asked %s", s.Cluster, s.Version, s.Node)
	p.line("leader %s, term %d, applied %d, history %d, format %d", firstOf(string(s.Leader), "none"), s.Term, s.Applied, s.History, s.Format)
	p.line("tasks  %d queued, %d running, %d pilots; memory %v, log %v", s.Queued, s.Running, s.Pilots, s.RSS, s.LogBytes)
	var rows [][]string
	for _, m := range s.Members {
		rows = append(rows, memberRow(&m))
	}
	return p.rows([]string{"member", "role", "behind", "heard", "applied", "disk free", "floe", "formats", "address", "raft"}, rows)
}

func memberRow(m *protocol.Member) []string {
	role := "catching up"
	switch {
	case m.Leader:
		role = "leader"
	case m.Voter:
		role = "voter"
	}
	heard := "never"
	if m.Contact >= 0 {
		heard = (time.Duration(m.Contact) * time.Millisecond).Round(100 * time.Millisecond).String()
	}
	applied, disk, version, formats := firstOf(m.Problem, "-"), "-", "-", "-"
	if s := m.Status; s != nil {
		applied, version, formats = fmt.Sprint(s.Applied), s.Version, fmt.Sprintf("1-%d", max(s.Supports, 1))
		if s.DiskTotal > 0 {
			disk = s.DiskFree.String()
		}
		if s.DiskLow {
			disk += " (low)"
		}
	}
	return []string{string(m.ID), role, fmt.Sprint(m.Behind), heard, applied, disk, version, formats, m.Address, m.Raft}
}

// post sends a request and prints the answer with show, or as JSON.
func post[T any](c *cobra.Command, path string, request any, show func(*printer, *T)) error {
	return withClient(c, func(p *printer, api *client) error {
		var answer T
		if err := api.call(c.Context(), http.MethodPost, path, request, &answer); err != nil {
			return err
		}
		if done, err := p.value(&answer); done || err != nil {
			return err
		}
		show(p, &answer)
		return nil
	})
}

func clusterAddCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "add NAME HOST:PORT", Short: "Invite a coordinator, and say what to run on its machine", Args: exactArgs("NAME", "HOST:PORT"),
		Long: "Invite a coordinator. NAME was never used in this cluster; HOST:PORT is where its API will\n" +
			"be reached. Prints the command to run on its machine, with a token that is good once. It\n" +
			"enters without a vote and votes when it has caught up.",
		RunE: func(c *cobra.Command, args []string) error {
			life, _ := c.Flags().GetDuration("ttl")
			request := protocol.AddMemberRequest{Node: protocol.NodeID(args[0]), Address: args[1], TTL: protocol.SecondsOf(life)}
			return post(c, "/v1/cluster/members", &request, func(p *printer, r *protocol.AddMemberReply) {
				p.line("%s", r.Command)
				if p.tty {
					p.line("good once, until %s", time.UnixMilli(r.Expires).UTC().Format(time.RFC3339))
				}
			})
		},
	}
	c.Flags().Duration("ttl", 0, "how long the token is good (default 1h)")
	outputFlag(c)
	return c
}

func clusterRemoveCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "remove NAME", Short: "Remove a coordinator for good, dead or alive", Args: exactArgs("NAME"),
		Long: "Remove a coordinator for good, dead or alive: its vote, its certificate and its name, which\n" +
			"is never used again. Refused where what is left could not write; --force does it all the same.",
		RunE: func(c *cobra.Command, args []string) error {
			var request protocol.RemoveMemberRequest
			request.Force, _ = c.Flags().GetBool("force")
			request.Reason, _ = c.Flags().GetString("reason")
			return post(c, "/v1/cluster/members/"+url.PathEscape(args[0])+"/remove", &request, func(p *printer, r *protocol.RemoveMemberReply) {
				p.line("coordinator %s is removed; voters left: %d", r.Node, r.Voters)
				if r.Note != "" {
					p.line("%s", r.Note)
				}
			})
		},
	}
	c.Flags().Bool("force", false, "remove it although nothing can be written then, or although nobody knows the name")
	c.Flags().String("reason", "", "why, for the record")
	outputFlag(c)
	return c
}

func clusterTransferCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "transfer-leader", Short: "Hand leadership to another coordinator", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			to, _ := c.Flags().GetString("to")
			return post(c, "/v1/cluster/leader", &protocol.TransferRequest{To: protocol.NodeID(to)}, func(p *printer, r *protocol.TransferReply) {
				p.line("%s leads, term %d", r.Leader, r.Term)
			})
		},
	}
	c.Flags().String("to", "", "to this one (default: the voter whose log is most complete)")
	outputFlag(c)
	return c
}

func clusterSnapshotCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "snapshot", Short: "Write a snapshot of the record on the leader", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return post(c, "/v1/cluster/snapshot", nil, func(p *printer, r *protocol.SnapshotReply) {
				what := "snapshot"
				if !r.Taken {
					what = "nothing new; the last snapshot is"
				}
				p.line("%s of %s at index %d, %v", what, r.Node, r.Index, r.Bytes)
			})
		},
	}
	outputFlag(c)
	return c
}

func clusterUpgradeCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "upgrade", Short: "Raise the record's format, when every coordinator runs the new release", Args: exactArgs(),
		Long: "Raise the format of the record to the newest that the leader supports. Every coordinator is\n" +
			"asked first, and must support it. There is no way back: an older release stops at such a record.",
		RunE: func(c *cobra.Command, _ []string) error {
			to, _ := c.Flags().GetUint32("to")
			return post(c, "/v1/cluster/format", &protocol.UpgradeRequest{To: to}, func(p *printer, r *protocol.UpgradeReply) {
				if r.From == r.To {
					p.line("the record has format %d already", r.To)
					return
				}
				p.line("the record's format is %d now, and was %d", r.To, r.From)
			})
		},
	}
	c.Flags().Uint32("to", 0, "to this one (default: the newest)")
	outputFlag(c)
	return c
}
