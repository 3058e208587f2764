package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/cache/pack"
	"floe/coordinator/auth"
	"floe/protocol"
	"floe/protocol/software"
	"floe/protocol/transport"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

// publisherKeyFile is where a person's own key lies.
func publisherKeyFile() string { return filepath.Join(filepath.Dir(tokenFile()), "publisher.key") }

func softwareKeyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "key", Short: "Make the key that you sign software with, or show its public half", Args: exactArgs(),
		Long: "Make the key that you sign software with, or show its public half.\n\nThe key stays on this machine, in a file for you alone. Give what is shown to whoever holds the\n" +
			"cluster's root key: floe software trust makes you a publisher.",
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			file, _ := c.Flags().GetString("key")
			key, err := readPublisherKey(file)
			made := errors.Is(err, fs.ErrNotExist)
			if made {
				key, err = makePublisherKey(file)
			}
			if err != nil {
				return err
			}
			public := protocol.PublisherKey(key.Public().(ed25519.PublicKey))
			if done, err := p.value(struct {
				Key  protocol.PublisherKey `json:"key"`
				File string                `json:"file"`
				Made bool                  `json:"made"`
			}{public, file, made}); done || err != nil {
				return err
			}
			p.line("%v", public)
			if made {
				fmt.Fprintf(c.ErrOrStderr(), "made %s; keep it: what it signs is yours\n", file)
			}
			return nil
		},
	}
	keyFlag(c)
	outputFlag(c)
	return c
}

func keyFlag(c *cobra.Command) {
	c.Flags().String("key", publisherKeyFile(), "file with the key to sign with")
}

func makePublisherKey(file string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	return key, renameio.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func readPublisherKey(file string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %v lets others read your key; chmod 600", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no key in PEM", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	key, is := parsed.(ed25519.PrivateKey)
	if !is {
		return nil, fmt.Errorf("%s: a key of type %T; software is signed with Ed25519 (floe software key makes one)", file, parsed)
	}
	return key, nil
}

func softwareTrustCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "trust USER KEY", Short: "Make somebody a publisher, with the cluster's root key", Args: exactArgs("USER", "KEY"),
		Long: "Make somebody a publisher, with the cluster's root key.\n\nUSER is the login name, KEY what floe software key shows to that person: ask them for it by a way\n" +
			"that you trust. The root's key lies beside the first coordinator's, in keys/root.key; it signs the\n" +
			"certificate here and is sent nowhere. For administrators.",
		RunE: func(c *cobra.Command, args []string) error {
			dir, _ := c.Flags().GetString("keys")
			var key protocol.PublisherKey
			if err := key.UnmarshalText([]byte(strings.TrimSpace(args[1]))); err != nil {
				return usageErrorf("%v", err)
			}
			root, rootKey, err := auth.LoadRoot(dir)
			if errors.Is(err, fs.ErrNotExist) {
				return withExit(exitUsage, fmt.Errorf("%w; --keys is the folder with root.pem and root.key, such as /var/lib/floe/keys of the coordinator that floe init made", err))
			}
			if err != nil {
				return err
			}
			token, err := personToken()
			if err != nil {
				return err
			}
			if pin := transport.Fingerprint(root); pin != token.Pin {
				return usageErrorf("%s: the root of another cluster: %v, and your token is for %v", dir, pin, token.Pin)
			}
			der, err := software.Certify(root, rootKey, token.Cluster, protocol.UserID(args[0]), key)
			if err != nil {
				return usageErrorf("%v", err)
			}
			reason, _ := c.Flags().GetString("reason")
			return post(c, "/v1/publishers", &protocol.PutPublisherRequest{Certificate: der, Reason: reason},
				func(p *printer, r *protocol.DoneReply) { p.line("%s", visible(r.Detail)) })
		},
	}
	c.Flags().String("keys", "keys", "folder with the cluster's root.pem and root.key")
	c.Flags().String("reason", "", "why, for the record")
	outputFlag(c)
	return c
}

func publishCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "publish NAME VERSION TARBALL|DIR", Short: "Publish a build of some software, for good", Args: exactArgs("NAME", "VERSION", "TARBALL|DIR"),
		Long: "Publish a build of some software, for good: what is published under a name, a version and a\nplatform never changes.\n\n" +
			"A directory is packed as tar and zstd; the same files always give the same bytes. A tarball may be\n" +
			"plain, gzip or zstd. It is unpacked here as a node would unpack it; what a node refuses is refused.\n\n" +
			"PLATFORM is any for scripts and data, else SYSTEM-MACHINE[-vLEVEL][-LIBC][+RUNTIME]: linux-x86_64-glibc2.28,\n" +
			"linux-x86_64-v3-glibc2.34+cuda, debian_12-aarch64. LIBC is the oldest that will do.\n\n" +
			"Publishing the same again changes nothing and is no error.",
		RunE: publishSoftware,
	}
	c.Flags().String("platform", "", "what it was built for; must be given")
	c.Flags().String("url", "", "where the tarball lies already, in a storage area that nodes can read: it is not sent to the coordinators")
	c.Flags().String("group", "", "of a name that is new: whose members may publish under it, too")
	c.Flags().String("reason", "", "why, for the record")
	c.Flags().Bool("dry-run", false, "pack and look at it, and publish nothing")
	keyFlag(c)
	outputFlag(c)
	return c
}

// published is publish -o json.
type published struct {
	protocol.Build
	Published int64 `json:"published,omitempty"`
	Before    bool  `json:"before,omitempty"`
	Retired   bool  `json:"retired,omitempty"`
}

func publishSoftware(c *cobra.Command, args []string) error {
	f := c.Flags()
	id := protocol.SoftwareID{Name: args[0], Version: args[1]}
	if id.Platform, _ = f.GetString("platform"); id.Platform == "" {
		return usageErrorf("--platform is missing: any for scripts and data, else such as linux-x86_64-glibc2.28; see floe software publish --help")
	}
	if err := id.Check(); err != nil {
		return usageErrorf("%v", err)
	}
	if p, _ := protocol.ParsePlatform(id.Platform); p.System != "" && !slices.Contains(protocol.Machines, p.Machine) {
		return usageErrorf("--platform %s: no machine %q; want one of %s", id.Platform, p.Machine, strings.Join(protocol.Machines, ", "))
	}
	address, _ := f.GetString("url")
	dry, _ := f.GetBool("dry-run")
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	tarball, drop, err := packed(c.Context(), args[2], address != "")
	if err != nil {
		return err
	}
	defer drop()
	contents, err := inspect(c.Context(), tarball)
	if err != nil {
		return fmt.Errorf("%s: %w", args[2], err)
	}
	manifest, err := contents.Manifest.Encode()
	if err != nil {
		return err
	}
	build := protocol.Build{
		Name: id.Name, Version: id.Version, Platform: id.Platform, Digest: contents.Digest, Size: contents.Size,
		Manifest: protocol.DigestOf(manifest), Files: contents.Files, Unpacked: contents.Unpacked,
	}
	if dry {
		if done, err := p.value(&published{Build: build}); done || err != nil {
			return err
		}
		p.line("would publish %v: %d files of %v, packed %v, %v; nothing was published", id, build.Files, build.Unpacked, build.Size, build.Digest)
		return nil
	}
	file, _ := f.GetString("key")
	key, err := readPublisherKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		return withExit(exitDenied, fmt.Errorf("%s: you have no key to sign with; floe software key makes one", file))
	}
	if err != nil {
		return err
	}
	api, err := dial(c)
	if err != nil {
		return err
	}
	defer api.Close()
	request := protocol.PublishRequest{}
	if build.Cluster, build.Publisher, err = api.publisherOf(c.Context(), key); err != nil {
		return err
	}
	signed, err := software.Sign(key, build)
	if err != nil {
		return err
	}
	request.SignedBuild = *signed
	request.URL = address
	request.Reason, _ = f.GetString("reason")
	group, _ := f.GetString("group")
	request.Group = protocol.GroupID(group)
	if err := request.Check(); err != nil {
		return usageErrorf("%v", err)
	}
	if address == "" {
		if err := api.upload(c.Context(), build.Digest, build.Size, func() (io.ReadCloser, error) { return os.Open(tarball) }); err != nil {
			return err
		}
	}
	if err := api.upload(c.Context(), build.Manifest, protocol.ByteSize(len(manifest)), func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(string(manifest))), nil
	}); err != nil {
		return err
	}
	var reply protocol.PublishReply
	if err := api.call(c.Context(), http.MethodPost, "/v1/software", &request, &reply); err != nil {
		return err
	}
	if done, err := p.value(&published{reply.Build, reply.Published, reply.Before, reply.Retired != 0}); done || err != nil {
		return err
	}
	switch {
	case reply.Retired != 0:
		p.line("%v was published before and is retired; floe software retire --undo lets new datasets have it again", id)
	case reply.Before:
		p.line("%v was published before, with the same bytes, by %s", id, reply.Build.Publisher)
	default:
		p.line("published %v: %d files of %v, packed %v, %v", id, build.Files, build.Unpacked, build.Size, build.Digest)
	}
	return nil
}

// packed is the tarball of what somebody wants to publish: a directory is packed into
// a temporary file. What lies at a URL must be a tarball already.
func packed(ctx context.Context, source string, elsewhere bool) (file string, drop func(), err error) {
	info, err := os.Stat(source)
	if err != nil {
		return "", nil, err
	}
	if !info.IsDir() {
		return source, func() {}, nil
	}
	if elsewhere {
		return "", nil, usageErrorf("--url: give the tarball that lies there, not a directory")
	}
	f, err := os.CreateTemp("", "floe-publish-*.tar.zst")
	if err != nil {
		return "", nil, err
	}
	drop = func() { _ = os.Remove(f.Name()) }
	if err := errors.Join(pack.Directory(ctx, source, f), f.Close()); err != nil {
		drop()
		return "", nil, err
	}
	return f.Name(), drop, nil
}

func inspect(ctx context.Context, file string) (*pack.Contents, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return pack.Inspect(ctx, f)
}

// publisherOf finds out whose the key is in the cluster.
func (a *client) publisherOf(ctx context.Context, key ed25519.PrivateKey) (cluster string, user protocol.UserID, err error) {
	token, err := personToken()
	if err != nil {
		return "", "", err
	}
	var list protocol.PublisherList
	if err := a.call(ctx, http.MethodGet, "/v1/publishers", nil, &list); err != nil {
		return "", "", err
	}
	public := protocol.PublisherKey(key.Public().(ed25519.PublicKey))
	for _, p := range list.Publishers {
		if p.Key.String() == public.String() {
			return token.Cluster, p.User, nil
		}
	}
	return "", "", withExit(exitDenied, fmt.Errorf("cluster %s does not know your key; ask an administrator for floe software trust YOUR-NAME %v", token.Cluster, public))
}

// uploadTries is how often a file is sent, uploadPause how long is waited after the
// first time; then twice as long.
const (
	uploadTries = 5
	uploadPause = time.Second
)

// upload stores a file with the coordinators, and again while its fate is unknown:
// under its digest that does no harm.
func (a *client) upload(ctx context.Context, d protocol.Digest, size protocol.ByteSize, open func() (io.ReadCloser, error)) error {
	for try := 0; ; try++ {
		err := a.uploadOnce(ctx, d, size, open)
		var refused *protocol.Error
		if err == nil || try == uploadTries-1 || errors.As(err, &refused) && !refused.Code.Retryable() || ctx.Err() != nil {
			return reachable(err)
		}
		pause := time.NewTimer(uploadPause << try)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

func (a *client) uploadOnce(ctx context.Context, d protocol.Digest, size protocol.ByteSize, open func() (io.ReadCloser, error)) error {
	body, err := open()
	if err != nil {
		return err
	}
	defer body.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "/v1/blobs/"+d.Hex()+"?class=durable", body)
	if err != nil {
		return err
	}
	r.ContentLength = int64(size)
	resp, err := a.Do(ctx, r)
	if err != nil {
		return err
	}
	if err := transport.ResponseError(resp); err != nil {
		return err
	}
	return resp.Body.Close()
}
