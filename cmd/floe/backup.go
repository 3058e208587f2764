package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"floe/coordinator"
	"floe/protocol"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

func clusterBackupCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "backup FILE", Short: "Write a backup of record, history and stored files", Args: exactArgs("FILE"),
		Long: "Write a backup to FILE, which appears only when it is complete and verified. It holds the\n" +
			"record and history of one moment and the durable files, and no secret: who restores it makes\n" +
			"a new cluster, with keys and tokens of its own.",
		RunE: func(c *cobra.Command, args []string) error {
			return withClient(c, func(p *printer, api *client) error {
				_, body, err := api.fetch(c.Context(), "/v1/cluster/backup")
				if err != nil {
					return err
				}
				defer body.Close()
				f, err := renameio.NewPendingFile(args[0], renameio.WithPermissions(0o600))
				if err != nil {
					return err
				}
				defer func() { _ = f.Cleanup() }()
				manifest, err := coordinator.ReadBackup(io.TeeReader(body, f), func(string, io.Reader) error { return nil })
				if err == nil {
					_, err = io.Copy(f, body) // what ends a tar stream
				}
				if err == nil {
					err = f.CloseAtomicallyReplace()
				}
				if err != nil {
					return fmt.Errorf("backup: %w", err)
				}
				if done, err := p.value(manifest); done || err != nil {
					return err
				}
				var size protocol.ByteSize
				for _, x := range manifest.Files {
					size += x.Size
				}
				p.line("cluster %s at log index %d: %d files, %v, in %s", manifest.Cluster, manifest.Index, len(manifest.Files), size, args[0])
				p.line("record  %v", manifest.Record)
				p.line("history %v", manifest.History)
				return nil
			})
		},
	}
	outputFlag(c)
	return c
}

// afreshFlags are those of a cluster that begins with a record of before.
func afreshFlags(c *cobra.Command) {
	c.Flags().String("address", "localhost:4433", "host:port of the API, as others reach it")
	c.Flags().String("raft-address", "", "host:port of Raft, as coordinators reach it (default: the next port)")
	c.Flags().Int("skip-datasets", 1000, "how many dataset numbers may have been given out since")
	outputFlag(c)
}

func afreshConfig(c *cobra.Command, dir string) (coordinator.AfreshConfig, error) {
	var addresses coordinator.Config
	addresses.Address, _ = c.Flags().GetString("address")
	addresses.RaftAddress, _ = c.Flags().GetString("raft-address")
	skip, _ := c.Flags().GetInt("skip-datasets")
	if skip < 1 {
		return coordinator.AfreshConfig{}, usageErrorf("--skip-datasets %d: want at least 1", skip)
	}
	err := fillAddresses(&addresses)
	return coordinator.AfreshConfig{
		Dir: dir, Address: addresses.Address, RaftAddress: addresses.RaftAddress, SkipDatasets: skip,
		Logger: slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}, err
}

func clusterRestoreCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "restore BACKUP DIR", Short: "Make the first coordinator of a new cluster of a backup", Args: exactArgs("BACKUP", "DIR"),
		Long: "Make the first coordinator of a new cluster of a backup, in the empty directory DIR. Record and\n" +
			"history must come out with the digests that the backup names. The new cluster has keys of its\n" +
			"own: the token of its administrator is in DIR/admin.token; people and sites need new ones.\n" +
			"Pilots of the old cluster are revoked, and what they still run does not count.",
		RunE: func(c *cobra.Command, args []string) error {
			config, err := afreshConfig(c, args[1])
			if err != nil {
				return err
			}
			config.Cluster, _ = c.Flags().GetString("name")
			node, _ := c.Flags().GetString("node")
			config.Node = protocol.NodeID(node)
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			a, err := coordinator.Restore(c.Context(), config, f)
			if errors.Is(err, coordinator.ErrBackup) {
				return withExit(exitCorrupt, err)
			}
			if err != nil {
				return err
			}
			return printAfresh(c, a, "equal to the backup's", func(p *printer) {
				p.line("administrator's token: %s", filepath.Join(args[1], founderTokenFile))
				p.line("next: floe coordinator %s --address %s", args[1], config.Address)
			})
		},
	}
	c.Flags().String("name", "", "the new cluster's name (default: the old one's)")
	c.Flags().String("node", "c1", "this coordinator's name")
	afreshFlags(c)
	return c
}

func clusterRecoverCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "recover DIR --others-are-gone", Short: "Go on with the only coordinator that is left", Args: exactArgs("DIR"),
		Long: "Make a cluster of one of the coordinator in DIR, which must not run, where the majority is lost\n" +
			"for good. The others are removed by name and must never be started again. Tokens and keys stay\n" +
			"good; pilots are revoked, and what they still run does not count. The old record stays in DIR.",
		RunE: func(c *cobra.Command, args []string) error {
			if sure, _ := c.Flags().GetBool("others-are-gone"); !sure {
				return usageErrorf("say --others-are-gone: two of three that come back after this would be a second cluster of the same name")
			}
			config, err := afreshConfig(c, args[0])
			if err != nil {
				return err
			}
			a, err := coordinator.Recover(c.Context(), config)
			if err != nil {
				if code := coordinator.ExitCode(err); code > 1 {
					return withExit(code, err)
				}
				return err
			}
			return printAfresh(c, a, "as this coordinator had it", func(p *printer) {
				p.line("next: floe coordinator %s --address %s; then add others with floe cluster add", args[0], config.Address)
			})
		},
	}
	c.Flags().Bool("others-are-gone", false, "the other coordinators' disks are lost or erased")
	afreshFlags(c)
	return c
}

func printAfresh(c *cobra.Command, a *coordinator.Afresh, how string, next func(*printer)) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	if done, err := p.value(a); done || err != nil {
		return err
	}
	p.line("cluster %s, coordinator %s, record of log index %d", a.Cluster, a.Node, a.Index)
	p.line("record  %v, %s", a.Record, how)
	p.line("history %v, %s", a.History, how)
	p.line("%d stored files; %d pilots revoked, %d leases ended; the next dataset is %d", a.Blobs, a.Pilots, a.Leases, a.NextDataset)
	next(p)
	return nil
}
