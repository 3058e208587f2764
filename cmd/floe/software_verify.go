package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"floe/cache/pack"
	"floe/pilot/stage"
	"floe/protocol"
	"floe/protocol/software"

	"github.com/spf13/cobra"
)

func softwareVerifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "verify NAME VERSION", Short: "Check published software: signature, bytes and files", Args: exactArgs("NAME", "VERSION"),
		Long: "Check published software: signature, bytes and files.\n\nOf each build the signature is checked against the cluster's root as your token names it, the tarball is\n" +
			"fetched and its digest compared, and it is unpacked and compared with its manifest. With --tarball a\n" +
			"file of your own is looked at instead of what is fetched.\n\nExit code 1 if anything does not hold.",
		RunE: func(c *cobra.Command, args []string) error {
			platform, _ := c.Flags().GetString("platform")
			tarball, _ := c.Flags().GetString("tarball")
			return withClient(c, func(p *printer, api *client) error {
				proof, err := api.proof(c.Context(), args[0], args[1], platform)
				if err != nil {
					return err
				}
				if tarball != "" && len(proof.Software) > 1 {
					if err := proofOf(proof, tarball); err != nil {
						return err
					}
				}
				return verifySoftware(c, p, api, proof, tarball)
			})
		},
	}
	c.Flags().String("platform", "", "only the build for this platform")
	c.Flags().String("tarball", "", "a tarball to compare, instead of fetching it")
	outputFlag(c)
	return c
}

// verified is one build of verify -o json.
type verified struct {
	protocol.SoftwareID
	Digest    protocol.Digest `json:"digest"`
	Publisher protocol.UserID `json:"publisher"`
	OK        bool            `json:"ok"`
	Problems  []string        `json:"problems,omitempty"`
}

func verifySoftware(c *cobra.Command, p *printer, api *client, proof *protocol.SoftwareProof, tarball string) error {
	var all []verified
	bad := 0
	for i := range proof.Software {
		x := &proof.Software[i]
		v := verified{SoftwareID: x.Build.ID(), Digest: x.Build.Digest, Publisher: x.Build.Publisher}
		if _, err := provenBy(proof, &x.SignedBuild); err != nil {
			v.Problems = append(v.Problems, err.Error())
		}
		problems, err := api.compare(c.Context(), &x.SignedBuild, tarball)
		if err != nil {
			return err
		}
		v.Problems = append(v.Problems, problems...)
		if v.OK = len(v.Problems) == 0; !v.OK {
			bad++
		}
		all = append(all, v)
	}
	if done, err := p.value(all); err != nil {
		return err
	} else if !done {
		for _, v := range all {
			if v.OK {
				p.line("%v: ok: signed by %s, %v", v.SoftwareID, v.Publisher, v.Digest)
			}
			for _, problem := range v.Problems {
				p.line("%v: %s", v.SoftwareID, visible(problem))
			}
		}
	}
	if bad > 0 {
		return withExit(exitFailure, fmt.Errorf("%d of %d builds did not verify", bad, len(all)))
	}
	return nil
}

// provenBy verifies a build by what came with it, against the person's token.
func provenBy(proof *protocol.SoftwareProof, x *protocol.SignedBuild) (*software.Certificate, error) {
	trust, err := personTrust()
	if err != nil {
		return nil, err
	}
	return trust.Proven(proof, x)
}

// proof asks for a version, or for its build for one platform.
func (a *client) proof(ctx context.Context, name, version, platform string) (*protocol.SoftwareProof, error) {
	proof := new(protocol.SoftwareProof)
	if err := a.call(ctx, http.MethodGet, softwarePath(name, version), nil, proof); err != nil {
		return nil, err
	}
	if platform == "" {
		return proof, nil
	}
	var platforms []string
	kept := slices.DeleteFunc(slices.Clone(proof.Software), func(x protocol.Software) bool {
		platforms = append(platforms, x.Build.Platform)
		return x.Build.Platform != platform
	})
	if len(kept) == 0 {
		return nil, withExit(exitNotFound, fmt.Errorf("%s %s has no build for %s; it has %s", name, version, platform, strings.Join(platforms, ", ")))
	}
	proof.Software = kept
	return proof, nil
}

// onlyBuild is the one build of a version.
func onlyBuild(proof *protocol.SoftwareProof) (*protocol.SignedBuild, error) {
	if len(proof.Software) == 1 {
		return &proof.Software[0].SignedBuild, nil
	}
	var platforms []string
	for i := range proof.Software {
		platforms = append(platforms, proof.Software[i].Build.Platform)
	}
	b := &proof.Software[0].Build
	return nil, usageErrorf("--platform is missing: %s %s has builds for %s", b.Name, b.Version, strings.Join(platforms, ", "))
}

// proofOf leaves of a version the build that a tarball is.
func proofOf(proof *protocol.SoftwareProof, tarball string) error {
	d, _, err := hashOf(tarball)
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(proof.Software), func(x protocol.Software) bool { return x.Build.Digest != d })
	if len(kept) == 0 {
		return withExit(exitFailure, fmt.Errorf("%s is %v, and no build of %s %s; give --platform to see what differs", tarball, d, proof.Software[0].Build.Name, proof.Software[0].Build.Version))
	}
	proof.Software = kept
	return nil
}

func hashOf(file string) (protocol.Digest, protocol.ByteSize, error) {
	f, err := os.Open(file)
	if err != nil {
		return protocol.Digest{}, 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return protocol.Digest(h.Sum(nil)), protocol.ByteSize(n), err
}

// compare says what is wrong with the bytes of a build: those of the tarball, or of
// what is fetched. An error means that they could not be looked at.
func (a *client) compare(ctx context.Context, x *protocol.SignedBuild, tarball string) (problems []string, err error) {
	b := &x.Build
	if tarball == "" {
		dir, err := os.MkdirTemp("", "floe-verify-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		tarball = filepath.Join(dir, "tarball")
		if err := a.fetchBuild(ctx, x, tarball); err != nil {
			var refused *protocol.Error
			if errors.As(err, &refused) && refused.Code == protocol.CodeNotFound {
				return []string{"no coordinator has its bytes"}, nil
			}
			return nil, err
		}
	}
	d, size, err := hashOf(tarball)
	if err != nil {
		return nil, err
	}
	if d != b.Digest || size != b.Size {
		return []string{fmt.Sprintf("the tarball is %v of %d bytes, not %v of %d", d, size, b.Digest, b.Size)}, nil
	}
	contents, err := inspect(ctx, tarball)
	if err != nil {
		return []string{err.Error()}, ctx.Err()
	}
	m, err := a.manifest(ctx, b)
	if err != nil {
		return []string{err.Error()}, ctx.Err()
	}
	problems = m.Differences(&contents.Manifest, 10)
	if files, unpacked := m.Totals(); files != b.Files || unpacked != b.Unpacked {
		problems = append(problems, fmt.Sprintf("its manifest lists %d files of %v, not %d of %v", files, unpacked, b.Files, b.Unpacked))
	}
	return problems, nil
}

// fetchBuild writes the tarball of a build to a file, as it comes, but no more of it
// than was published and one byte.
func (a *client) fetchBuild(ctx context.Context, x *protocol.SignedBuild, file string) error {
	var in io.ReadCloser
	var err error
	if x.URL != "" {
		in, err = (&stage.Mover{Logger: slog.New(slog.DiscardHandler)}).Open(ctx, x.URL)
	} else {
		_, in, err = a.fetch(ctx, "/v1/blobs/"+x.Build.Digest.Hex())
	}
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(in, int64(x.Build.Size)+1))
	return errors.Join(err, f.Close())
}

// blob reads a small file of the coordinators' store, and looks whether it is that.
func (a *client) blob(ctx context.Context, d protocol.Digest, limit int64) ([]byte, error) {
	_, in, err := a.fetch(ctx, "/v1/blobs/"+d.Hex())
	if err != nil {
		return nil, err
	}
	defer in.Close()
	text, err := protocol.ReadUpTo(in, -1, limit)
	if err == nil && protocol.DigestOf(text) != d {
		err = fmt.Errorf("coordinators gave %v instead of %v", protocol.DigestOf(text), d)
	}
	return text, err
}

func (a *client) manifest(ctx context.Context, b *protocol.Build) (*software.Manifest, error) {
	text, err := a.blob(ctx, b.Manifest, software.MaxManifest)
	if err != nil {
		return nil, fmt.Errorf("manifest of %v: %w", b.ID(), err)
	}
	return software.DecodeManifest(text)
}

func softwareGetCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "get NAME VERSION DIR", Short: "Fetch a build, verify it, and unpack it", Args: exactArgs("NAME", "VERSION", "DIR"),
		Long: "Fetch a build, verify it, and unpack it into a directory that is new or empty. Nothing is left there\nunless signature, digest and manifest hold.",
		RunE: func(c *cobra.Command, args []string) error {
			platform, _ := c.Flags().GetString("platform")
			return withClient(c, func(p *printer, api *client) error {
				proof, err := api.proof(c.Context(), args[0], args[1], platform)
				if err != nil {
					return err
				}
				x, err := onlyBuild(proof)
				if err != nil {
					return err
				}
				if _, err := provenBy(proof, x); err != nil {
					return withExit(exitFailure, err)
				}
				if err := api.unpackBuild(c.Context(), x, args[2]); err != nil {
					return err
				}
				if done, err := p.value(&x.Build); done || err != nil {
					return err
				}
				p.line("%v, signed by %s, is in %s: %d files of %v", x.Build.ID(), x.Build.Publisher, args[2], x.Build.Files, x.Build.Unpacked)
				return nil
			})
		},
	}
	c.Flags().String("platform", "", "the build for this platform; needed where there are several")
	outputFlag(c)
	return c
}

// unpackBuild fetches a build that was proven and unpacks it into a directory, which
// is not there or empty. It looks at the digest before it unpacks, and at the files after.
func (a *client) unpackBuild(ctx context.Context, x *protocol.SignedBuild, dir string) error {
	if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usageErrorf("%s: want a directory that is empty or does not exist", dir)
	}
	temp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".floe-get-")
	if err != nil {
		return err
	}
	defer pack.Remove(temp)
	tarball, root := filepath.Join(temp, "tarball"), filepath.Join(temp, "root")
	if err := a.fetchBuild(ctx, x, tarball); err != nil {
		return err
	}
	if d, size, err := hashOf(tarball); err != nil {
		return err
	} else if d != x.Build.Digest {
		return withExit(exitFailure, fmt.Errorf("%v: the tarball is %v of %d bytes, not %v of %d", x.Build.ID(), d, size, x.Build.Digest, x.Build.Size))
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	f, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer f.Close()
	contents, err := pack.Unpack(ctx, f, root)
	if err != nil {
		return err
	}
	text, err := contents.Manifest.Encode()
	if err == nil && protocol.DigestOf(text) != x.Build.Manifest {
		err = fmt.Errorf("%v: its files are not those of its manifest", x.Build.ID())
	}
	if err != nil {
		return withExit(exitFailure, err)
	}
	return os.Rename(root, dir)
}
