package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"floe/coordinator"
	"floe/coordinator/auth"
	"floe/protocol"

	"github.com/spf13/cobra"
)

// Files that floe init leaves in a coordinator's directory beside its stores.
const founderTokenFile = "admin.token"

func initCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "init DIR", Short: "Make a new cluster: its authority, its first coordinator's keys, an administrator's token", Args: exactArgs("DIR"),
		Long: "Make a new cluster in DIR: a certificate authority whose key every token pins, the keys of the\n" +
			"first coordinator, and the token of its first administrator in DIR/admin.token.\n" +
			"Start the coordinator with: floe coordinator DIR",
		RunE: func(c *cobra.Command, args []string) error {
			name, _ := c.Flags().GetString("name")
			node, _ := c.Flags().GetString("node")
			address, _ := c.Flags().GetString("address")
			if _, _, err := net.SplitHostPort(address); err != nil {
				return usageErrorf("address %q: want host:port, as others reach this coordinator", address)
			}
			dir := args[0]
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			cluster, err := auth.InitCluster(coordinator.KeysDir(dir), name, protocol.NodeID(node))
			if err != nil {
				return err
			}
			token := cluster.NewToken(protocol.TokenUser, address)
			token.ID = "admin"
			file := filepath.Join(dir, founderTokenFile)
			if err := os.WriteFile(file, []byte(token.Text()+"\n"), 0o600); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "cluster %s made in %s\nadministrator's token: %s\nnext: floe coordinator %s --address %s\n", name, dir, file, dir, address)
			return nil
		},
	}
	c.Flags().String("name", "floe", "the cluster's name")
	c.Flags().String("node", "c1", "this coordinator's name")
	c.Flags().String("address", "localhost:4433", "host:port of the API, as others reach it")
	return c
}
