package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"floe/cache"
	"floe/glidein"
	"floe/protocol"

	"github.com/spf13/cobra"
)

func cacheCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "cache", Short: "Look at a node's cache, check it, or serve one for a whole site",
		Long: "Look at the cache of software and inputs that pilots of a node share, check it, or serve one for all\n" +
			"nodes of a site. See docs/cache.md.",
	}
	show := &cobra.Command{
		Use: "show DIR", Short: "Say what a cache holds", Args: exactArgs("DIR"),
		RunE: func(c *cobra.Command, args []string) error { return showCache(c, args[0]) },
	}
	verify := &cobra.Command{
		Use: "verify DIR", Short: "Hash everything in a cache now; what is damaged goes to quarantine", Args: exactArgs("DIR"),
		Long: "Hash everything in a cache now, beside the pilots that use it. What is damaged goes to quarantine, is\n" +
			"fetched anew when it is next asked for, and makes the command end with exit code 1.",
		RunE: func(c *cobra.Command, args []string) error { return verifyCache(c, args[0]) },
	}
	trim := &cobra.Command{
		Use: "trim DIR SIZE", Short: "Evict what was used longest ago until at most SIZE is left", Args: exactArgs("DIR", "SIZE"),
		Long: "Evict what was used longest ago until at most SIZE is left, as 20GB, 500MB or bytes. What is in use stays.",
		RunE: func(c *cobra.Command, args []string) error { return trimCache(c, args[0], args[1]) },
	}
	outputFlag(show)
	outputFlag(verify)
	c.AddCommand(show, verify, trim, serveCacheCommand())
	return c
}

// openNodeCache opens a cache that is there.
func openNodeCache(c *cobra.Command, dir string) (*cache.Store, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, usageErrorf("%s: no cache there; pilots say theirs by --cache, sites in site.toml", dir)
	}
	return cache.Open(cache.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))})
}

func showCache(c *cobra.Command, dir string) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	store, err := openNodeCache(c, dir)
	if err != nil {
		return err
	}
	defer store.Close()
	sum, err := store.Summary(c.Context())
	if err != nil {
		return err
	}
	if done, err := p.value(&sum); done {
		return err
	}
	when := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return moment(t.UnixMilli())
	}
	return p.rows([]string{"", ""}, [][]string{
		{"directory", sum.Dir},
		{"software", fmt.Sprintf("%d trees, %v", sum.Trees, sum.TreeBytes)},
		{"files", fmt.Sprintf("%d, %v", sum.Blobs, sum.BlobBytes)},
		{"quarantine", fmt.Sprintf("%d, %v", sum.Quarantined, sum.QuarantinedBytes)},
		{"reserved", fmt.Sprintf("%v by %d processes that fetch", sum.Reserved, sum.Sessions)},
		{"disk", fmt.Sprintf("%v may still be used", max(sum.Disk, 0))},
		{"oldest use", when(sum.OldestUse)},
		{"oldest hashing", when(sum.OldestHashed)},
	})
}

func verifyCache(c *cobra.Command, dir string) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	store, err := openNodeCache(c, dir)
	if err != nil {
		return err
	}
	defer store.Close()
	v, err := store.Verify(c.Context())
	if err != nil {
		return err
	}
	if done, err := p.value(&v); err != nil || done && len(v.Bad) == 0 {
		return err
	} else if !done {
		p.line("%d entries, %v hashed; %d damaged", v.Entries, v.Bytes, len(v.Bad))
	}
	if len(v.Bad) > 0 {
		return fmt.Errorf("%d entries were damaged and are in quarantine, the first %v", len(v.Bad), v.Bad[0])
	}
	return nil
}

func trimCache(c *cobra.Command, dir, text string) error {
	var size glidein.Size
	if err := size.UnmarshalText([]byte(text)); err != nil {
		return usageErrorf("%v", err)
	}
	store, err := openNodeCache(c, dir)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Trim(c.Context(), protocol.ByteSize(size)); err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%d entries evicted\n", store.Stats().Evicted)
	return nil
}
