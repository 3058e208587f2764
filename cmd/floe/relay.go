package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"floe/glidein"
	"floe/glidein/relay"
	"floe/pilot/stage"
	"floe/protocol"
	"floe/protocol/errand"
	"floe/protocol/transport"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func relayCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "relay", Short: "Carry pilots' bytes from nodes without a way out, until told to end", Args: exactArgs(),
		Long: "Carry the bytes of pilots whose nodes have no way out to the coordinators, and to no other addresses but\n" +
			"those listed. One process on a machine that the nodes can reach; it needs no root and cannot read what it\n" +
			"carries. A site's passes start it and watch it where site.toml has relay in [system].",
		RunE: func(c *cobra.Command, _ []string) error { return serveRelay(c) },
	}
	f := c.Flags()
	f.String("site", ".", "the site's directory, from floe site join")
	f.String("address", "", "host:port by which pilots reach it")
	f.String("listen", "", "host:port to listen on; default: the port of --address on all interfaces")
	f.StringSlice("storage", nil, "host:port of storage that pilots may reach, too")
	f.String("stage", "", "directory on a file system shared with the nodes, by which files of --storage are moved in place of tunnels")
	f.String("max-bytes", "1TB", "what may pass for one pilot job, both ways together")
	f.String("log-file", "", "file to write to, of 1 MB at most and one before it; default: standard error")
	logLevelFlag(c)
	return c
}

func serveRelay(c *cobra.Command) error {
	f := c.Flags()
	text := func(name string) string { s, _ := f.GetString(name); return s }
	level, err := logLevel(c)
	if err != nil {
		return err
	}
	var most glidein.Size
	if err := most.UnmarshalText([]byte(text("max-bytes"))); err != nil || most == 0 {
		return usageErrorf("max bytes %q: want such as 1TB", text("max-bytes"))
	}
	status := relay.Status{Version: protocol.Version, Address: text("address"), Listen: text("listen"), Stage: text("stage"), PID: os.Getpid(), Started: time.Now()}
	status.Storage, _ = f.GetStringSlice("storage")
	if err := transport.CheckAddress(status.Address); err != nil {
		return usageErrorf("--address: %v, by which pilots reach the relay", err)
	}
	for _, a := range status.Storage {
		if err := transport.CheckAddress(a); err != nil {
			return usageErrorf("--storage: %v", err)
		}
	}
	if status.Listen == "" {
		status.Listen = glidein.RelayListen(status.Address)
	}
	var out io.Writer = c.ErrOrStderr()
	if file := text("log-file"); file != "" {
		bounded := &boundedFile{path: file, most: 1 << 20}
		defer bounded.Close()
		out = bounded
	}
	return runRelay(c.Context(), text("site"), status, protocol.ByteSize(most), slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})))
}

func runRelay(ctx context.Context, dir string, status relay.Status, most protocol.ByteSize, logger *slog.Logger) (err error) {
	defer func() {
		if err != nil {
			logger.Error("relay ends", "err", err)
		}
	}()
	key, err := glidein.RelayKey(dir)
	if err != nil {
		return err
	}
	known := &siteAddresses{file: filepath.Join(dir, siteClusterFile)}
	if _, err := known.read(); err != nil {
		return err
	}
	lock := flock.New(glidein.RelayLock(dir))
	if held, err := lock.TryLock(); err != nil || !held {
		return errors.Join(fmt.Errorf("%s is held: a relay of this site is running", lock.Path()), err)
	}
	defer lock.Close()
	l, err := net.Listen("tcp", status.Listen)
	if err != nil {
		return err
	}
	status.Host, _ = os.Hostname()
	if err := glidein.RecordRelay(dir, &status); err != nil {
		return errors.Join(err, l.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	server := relay.NewServer(relay.Config{
		Key: key, Storage: status.Storage, Status: status, Stop: stop, Logger: logger, Limits: relay.Limits{Bytes: most},
		Coordinators: func() []string {
			addresses, err := known.read()
			if err != nil {
				logger.Warn("addresses of coordinators are those known before", "err", err)
			}
			return addresses
		},
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return transport.DialOut(ctx, http.ProxyFromEnvironment, address)
		},
	})
	logger.Info("relay serves", "address", status.Address, "listen", l.Addr().String(), "storage", status.Storage)
	defer logger.Info("relay has ended")
	if status.Stage == "" {
		return server.Run(ctx, l)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx, l) })
	g.Go(func() error { return relayErrands(&status, logger).Run(ctx) })
	return g.Wait()
}

// errandsAtOnce is how many files a relay moves at once.
const errandsAtOnce = 16

// relayErrands moves files of the listed storage, and no others, wherever a redirect
// leads.
func relayErrands(status *relay.Status, logger *slog.Logger) *errand.Doer {
	allowed := func(u *url.URL) error {
		if address := stage.AddressOf(u); !stage.Listed(status.Storage, address) {
			return fmt.Errorf("%.100q is no storage that this site lists", address)
		}
		return nil
	}
	const mostRedirects = 5
	mover := &stage.Mover{Logger: logger, Temp: status.Stage, HTTP: &http.Client{
		CheckRedirect: func(r *http.Request, before []*http.Request) error {
			if len(before) > mostRedirects {
				return fmt.Errorf("more than %d redirects", mostRedirects)
			}
			return allowed(r.URL)
		},
	}}
	return &errand.Doer{
		Desk: errand.Desk{Dir: status.Stage}, AtOnce: errandsAtOnce, Logger: logger,
		Do: func(ctx context.Context, r errand.Request, in io.Reader, out io.Writer) errand.Answer {
			return mover.RunErrand(ctx, r, in, out, allowed)
		},
	}
}

// siteAddresses are the coordinators' addresses as the site's passes keep them in a
// file, read again when it has changed.
type siteAddresses struct {
	file string

	mu    sync.Mutex
	seen  time.Time // of the file's change
	size  int64
	known []string
}

// read returns the addresses, those known before beside an error.
func (s *siteAddresses) read() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.file)
	if err != nil || info.ModTime().Equal(s.seen) && info.Size() == s.size {
		return s.known, err
	}
	b, err := os.ReadFile(s.file)
	var cluster siteCluster
	if err == nil {
		err = json.Unmarshal(b, &cluster)
	}
	if err != nil {
		return s.known, fmt.Errorf("%s: %w", s.file, err)
	}
	s.seen, s.size, s.known = info.ModTime(), info.Size(), slices.Clone(cluster.Addresses)
	return s.known, nil
}

// boundedFile is a log of a bounded size: when it is full it becomes the one before,
// in the place of an older one.
type boundedFile struct {
	path string
	most int64

	mu   sync.Mutex
	file *os.File
	size int64
}

// Write implements io.Writer.
func (b *boundedFile) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil && b.size+int64(len(p)) > b.most {
		_ = b.file.Close() // what was written is there
		b.file = nil
		if err := os.Rename(b.path, b.path+".1"); err != nil {
			return 0, err
		}
	}
	if b.file == nil {
		f, err := os.OpenFile(b.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return 0, err
		}
		info, err := f.Stat()
		if err != nil {
			return 0, errors.Join(err, f.Close())
		}
		b.file, b.size = f, info.Size()
	}
	n, err := b.file.Write(p)
	b.size += int64(n)
	return n, err
}

// Close implements io.Closer.
func (b *boundedFile) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}
