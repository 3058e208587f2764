package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"floe/glidein"
	"floe/protocol"
	"floe/protocol/software"

	"github.com/spf13/cobra"
)

func fetchPilotCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "fetch-pilot [VERSION]", Short: "Fetch the pilot that is published, verified, for this site", Args: cobra.MaximumNArgs(1),
		Long: "Fetch the pilot that is published, verified, for this site: into pilots/VERSION/floe-pilot of the\n" +
			"site's directory, whose path is printed. Without VERSION it is the only active one. Signature, digest\n" +
			"and files are checked before it has its name; where site.toml lists publishers, it must be signed by one\n" +
			"of them. What is there already is checked again.",
		RunE: func(c *cobra.Command, args []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			version := ""
			if len(args) > 0 {
				version = args[0]
			}
			return fetchPilot(c, p, version)
		},
	}
	c.Flags().String("dir", ".", "the site's directory")
	c.Flags().String("platform", "", "the build for this platform; needed where there are several")
	outputFlag(c)
	return c
}

func fetchPilot(c *cobra.Command, p *printer, version string) error {
	dir, _ := c.Flags().GetString("dir")
	platform, _ := c.Flags().GetString("platform")
	site, err := openSite(dir, slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	defer site.Close()
	trust := &software.Trust{Cluster: site.known.Cluster, Pin: site.known.Pin}
	if trust.Publishers, err = sitePublishers(filepath.Join(dir, "site.toml")); err != nil {
		return err
	}
	api := &client{site.Client}
	if version == "" {
		if version, err = api.onlyPilot(c.Context()); err != nil {
			return err
		}
	}
	proof, err := api.proof(c.Context(), protocol.PilotSoftware, version, platform)
	if err != nil {
		return err
	}
	x, err := onlyBuild(proof)
	if err != nil {
		return err
	}
	if _, err := trust.Proven(proof, x); err != nil {
		return withExit(exitFailure, err)
	}
	program := filepath.Join(dir, "pilots", version, protocol.PilotSoftware)
	if err := api.placePilot(c.Context(), x, program); err != nil {
		return err
	}
	if done, err := p.value(struct {
		protocol.Build
		Path string `json:"path"`
	}{x.Build, program}); done || err != nil {
		return err
	}
	p.line("%s", program)
	return nil
}

// sitePublishers are the keys that a site's configuration lists; none where there is no
// configuration yet.
func sitePublishers(file string) ([]protocol.PublisherKey, error) {
	config, err := glidein.LoadConfig(file)
	if config == nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, withExit(exitUsage, err)
	}
	return config.Publishers() // whatever else is wrong with it, such as that the pilot is not there yet
}

// onlyPilot is the one version of the pilot that is active.
func (a *client) onlyPilot(ctx context.Context) (string, error) {
	var page protocol.SoftwarePage
	if err := a.call(ctx, http.MethodGet, "/v1/software?limit=1000&name="+protocol.PilotSoftware, nil, &page); err != nil {
		return "", err
	}
	var versions []string
	for i := range page.Software {
		if v := page.Software[i].Build.Version; !slices.Contains(versions, v) {
			versions = append(versions, v)
		}
	}
	switch len(versions) {
	case 0:
		return "", withExit(exitNotFound, fmt.Errorf("no %s is published; floe software publish %[1]s VERSION does it", protocol.PilotSoftware))
	case 1:
		return versions[0], nil
	}
	return "", usageErrorf("VERSION is missing; active are %s", strings.Join(versions, ", "))
}

// errOtherPilot: a pilot on disk is not what was published.
var errOtherPilot = errors.New("published is")

// placePilot fetches the pilot to where it is to be, or finds it there as published.
func (a *client) placePilot(ctx context.Context, x *protocol.SignedBuild, program string) error {
	m, err := a.manifest(ctx, &x.Build)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(m.Files, func(f software.File) bool { return f.Path == protocol.PilotSoftware && f.Kind == software.Program })
	if i < 0 {
		return withExit(exitFailure, fmt.Errorf("%v has no program %s", x.Build.ID(), protocol.PilotSoftware))
	}
	d, _, err := hashOf(program)
	switch {
	case err == nil && d == m.Files[i].Digest:
		return nil
	case err == nil:
		return withExit(exitFailure, fmt.Errorf("%s is %v, %w %v: remove %s and fetch it again", program, d, errOtherPilot, m.Files[i].Digest, filepath.Dir(program)))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Dir(program)), 0o700); err != nil {
		return err
	}
	return a.unpackBuild(ctx, x, filepath.Dir(program))
}
