// Command floe-pilot is what runs on worker nodes: a batch system starts it, it
// pulls tasks from a coordinator, runs them, and leaves. It needs nothing else on
// the node.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"floe/pilot"
	"floe/pilot/hardware"
	"floe/pilot/library"
	"floe/pilot/payload"
	"floe/pilot/payload/session"
	"floe/protocol"
	"floe/protocol/transport"

	"github.com/spf13/cobra"
)

// Exit codes, the same as floe's where both have one.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	session.Speak()
	payload.Keep()
	// SIGTERM means drain; a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := newRoot().ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "floe-pilot:", err)
	}
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return exitUsage
	}
	return exitFailure
}

var errUsage = errors.New("wrong usage")

// noArgs is cobra.NoArgs as a mistake in how the command was written.
func noArgs(c *cobra.Command, args []string) error {
	if err := cobra.NoArgs(c, args); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}

func newRoot() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "floe-pilot", Short: "Pull tasks and run them on this node", Version: fmt.Sprintf("%s (verdict rules %d)", protocol.Version, payload.RulesVersion()),
		Args: noArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	f := c.Flags()
	f.StringVar(&o.ticketFile, "ticket-file", "", "file with the ticket to enrol with, readable by its owner alone")
	f.StringVar(&o.launch, "launch", "", "the launch lease of this pilot job")
	f.StringVar(&o.batchID, "batch-id", os.Getenv("FLOE_BATCH_ID"), "the batch system's name for this job")
	f.StringVar(&o.scratch, "scratch", "", "directory in which attempts run (default: in the temporary directory)")
	f.StringVar(&o.cache, "cache", "", "directory of software and inputs that pilots of this node share")
	f.StringVar(&o.spool, "spool", "", "directory for reports that could not be delivered")
	f.Int64Var(&o.cacheQuota, "cache-quota", 0, "bytes the cache may hold; 0 is no bound but the disk")
	f.StringSliceVar(&o.cacheFrom, "cache-from", nil, "cache directory of another user of this node, who shares it, to copy software from")
	f.BoolVar(&o.cacheShare, "cache-share", false, "let other users of this node read the software in the cache")
	f.StringVar(&o.siteCache, "site-cache", "", "address of the site's cache, https://host:port")
	f.StringVar(&o.relayFile, "relay-file", "", "file with the pass for the site's relay, readable by its owner alone")
	f.StringSliceVar(&o.relayStorage, "relay-storage", nil, "host:port of storage to reach through the site's relay where there is no other way out")
	f.StringVar(&o.relayStage, "relay-stage", "", "directory on a file system shared with the site's relay, which moves files of storage by it where there is no other way out")
	f.StringVar(&o.siteAddresses, "site-addresses", "", "file in which the site's passes keep the coordinators' addresses, for when all have moved")
	f.IntVar(&o.cores, "cores", 0, "offer at most so many cores")
	f.Int64Var(&o.memory, "memory", 0, "offer at most so much memory, in bytes")
	f.Int64Var(&o.disk, "disk", 0, "offer at most so much scratch disk, in bytes")
	f.Int64Var(&o.maxOutput, "max-output", 0, "bytes that the outputs of one attempt may have together; 0 sets no bound")
	f.StringSliceVar(&o.tags, "tag", nil, "a property of this node that tasks can ask for")
	f.StringVar(&o.gpuTest, "gpu-test", "", "program that exits 0 on a sound card, in place of the pilot's own test; none trusts what the drivers list")
	f.StringSliceVar(&o.cards, "card", nil, "offer this card, as hwdetect names it, and no others")
	f.DurationVar(&o.walltime, "walltime", 0, "leave after this long; default: what the batch system says")
	f.DurationVar(&o.idle, "idle", 10*time.Minute, "leave after this long without work")
	f.StringVar(&o.isolation, "isolation", "auto", "keep payloads from each other and from the pilot by namespaces: auto (where the node allows it), none or require")
	f.StringSliceVar(&o.hide, "hide", nil, "a file or directory that no payload sees, beside those of the pilot")
	f.StringSliceVar(&o.writable, "writable", nil, "a directory that isolated payloads may write to, beside their own")
	f.StringSliceVar(&o.publishers, "publisher", nil, "a key whose published software is used; without any, all that the cluster's root has certified")
	f.StringArrayVar(&o.system, "system", nil, "NAME=TEXT: what $system(NAME) of the dataset language is at this site; payloads read it")
	f.StringSliceVar(&o.policies, "policy", nil, "a file with the site's own policy, which this pilot keeps to; of several, the first that is there")
	f.Int64Var(&o.network, "network", 0, "bytes that this pilot moves in a second for its tasks; 0 sets no bound")
	f.StringVar(&o.siteLog, "site-log", "", "directory of the site's log of whose payloads ran")
	f.BoolVar(&o.workstation, "workstation", false, "keep out of the way of the machine's owner: run at the lowest priority, and only while nobody is there")
	f.BoolVar(&o.trial, "trial", false, "try this node: run a task of the pilot's own, enrol, take no task, and leave")
	f.BoolVar(&o.tcp, "tcp", false, "do not try UDP")
	f.StringVar(&o.level, "log-level", "info", "debug, info, warn or error")
	c.AddCommand(detectCommand(), moduleStepCommand())
	return c
}

type options struct {
	ticketFile, launch, batchID, scratch, cache, spool, level, isolation string
	cacheQuota, memory, disk, maxOutput, network                         int64
	cores                                                                int
	tags, hide, writable, publishers, cacheFrom, system, policies        []string
	cacheShare                                                           bool
	siteCache, relayFile, relayStage, siteAddresses, siteLog             string
	relayStorage                                                         []string
	gpuTest                                                              string
	cards                                                                []string
	walltime, idle                                                       time.Duration
	tcp, workstation, trial                                              bool
}

func (o *options) run(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.level)); err != nil {
		return fmt.Errorf("%w: log level %q: want debug, info, warn or error", errUsage, o.level)
	}
	isolation, err := payload.ParseIsolationMode(o.isolation)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if o.ticketFile == "" {
		return fmt.Errorf("%w: --ticket-file is missing: a glidein pass writes it", errUsage)
	}
	ticket, err := readTicket(o.ticketFile)
	if err != nil {
		return err
	}
	link := pilot.LinkConfig{Ticket: ticket, DisableQUIC: o.tcp, Proxy: http.ProxyFromEnvironment, RelayStorage: o.relayStorage, RelayStage: o.relayStage}
	hide := append([]string{o.ticketFile}, o.hide...)
	if o.relayFile != "" {
		hide = append(hide, o.relayFile)
		text, err := readSecret("relay pass", o.relayFile)
		if err == nil {
			link.Relay, err = transport.ParseRelayPass(text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o.relayFile, err)
		}
	}
	if o.relayStage != "" {
		hide = append(hide, o.relayStage)
	}
	if o.siteAddresses != "" {
		link.Elsewhere = func() []string { return pilot.SiteAddresses(o.siteAddresses) }
	}
	if o.scratch == "" {
		o.scratch = filepath.Join(os.TempDir(), fmt.Sprintf("floe-%d", os.Getuid()))
	}
	for field, name := range map[*string]string{&o.cache: "cache", &o.spool: "spool"} {
		if *field == "" {
			*field = filepath.Join(o.scratch, name)
		}
	}
	system := map[string]string{}
	for _, text := range o.system {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return fmt.Errorf("%w: --system %q: want NAME=TEXT", errUsage, text)
		}
		system[name] = value
	}
	publishers := make([]protocol.PublisherKey, len(o.publishers))
	for i, text := range o.publishers {
		if err := publishers[i].UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	var owner *pilot.OwnerPolicy
	if o.workstation {
		if err := lowestPriority(); err != nil {
			return err
		}
		owner = &pilot.OwnerPolicy{}
	}
	link.Logger = logger
	var try func(*pilot.Trial)
	if o.trial {
		try = sayTrial
	}
	return pilot.Run(ctx, pilot.Config{
		Trial:  try,
		Link:   link,
		Launch: protocol.LaunchID(o.launch), BatchID: o.batchID,
		Scratch: o.scratch, Cache: o.cache, Spool: o.spool, CacheQuota: protocol.ByteSize(o.cacheQuota),
		CacheFrom: o.cacheFrom, CacheShare: o.cacheShare, SiteCache: o.siteCache,
		Offer: protocol.Resources{Cores: o.cores, Memory: protocol.ByteSize(o.memory), Disk: protocol.ByteSize(o.disk)},
		Tags:  o.tags, GPUTest: o.gpuTest, Cards: o.cards,
		Walltime: o.walltime, Idle: o.idle, MaxOutput: protocol.ByteSize(o.maxOutput), Claims: pilot.ClaimDir(), Groups: payload.DivideGroups(), Library: library.Program(), Logger: logger,
		Isolation: isolation, Hidden: hide, Writable: o.writable,
		Publishers: publishers, Owner: owner, System: system, Policies: o.policies, SiteLog: o.siteLog, Network: protocol.ByteSize(o.network),
	})
}

// sayTrial prints how the node is, for floe site doctor: the end of the output is what
// it reads.
func sayTrial(t *pilot.Trial) {
	b, err := json.Marshal(t)
	if err != nil {
		b = fmt.Appendf(nil, "{\"evidence\":%q}", err.Error())
	}
	fmt.Printf("\n%s%s\n", protocol.TrialMark, b)
}

// readSecret takes only a file that nobody else can read: whoever has what is in it can
// be a pilot of the site.
func readSecret(what, file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s %s: mode %v lets others read it; chmod 600", what, file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	return string(text), err
}

func readTicket(file string) (protocol.Token, error) {
	text, err := readSecret("ticket", file)
	if err != nil {
		return protocol.Token{}, err
	}
	ticket, err := protocol.ParseToken(strings.TrimSpace(text))
	if err != nil {
		return ticket, fmt.Errorf("ticket %s: %w", file, err)
	}
	if ticket.Role != protocol.TokenPilot {
		return ticket, fmt.Errorf("ticket %s: it is for a %v", file, ticket.Role)
	}
	return ticket, nil
}

// moduleStepCommand is what the pilot calls itself with to run a predefined module
// under the limits of its task.
func moduleStepCommand() *cobra.Command {
	return &cobra.Command{
		Use: library.Command + " FILE", Short: "Run a predefined module, as the pilot does", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return library.Main(c.Context(), args[0], c.OutOrStdout())
		},
	}
}

func detectCommand() *cobra.Command {
	var (
		o        hardware.Options
		output   string
		walltime time.Duration
	)
	c := &cobra.Command{
		Use: "hwdetect", Short: "Say what this node offers, and how that was found out", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("%w: output %q: want text or json", errUsage, output)
			}
			if walltime > 0 {
				o.End = time.Now().Add(walltime)
			}
			offer, report := hardware.Measure(c.Context(), o)
			isolation := "user, mount, pid and ipc namespaces"
			isolated, err := payload.FindIsolation(o.Scratch, payload.Places{})
			if err != nil {
				isolation = "none: " + err.Error()
			}
			images, tried := payload.FindImages(c.Context(), o.Scratch, isolated)
			offer.Tags = append(offer.Tags, images.Tags()...)
			if output == "json" {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(struct {
					Resources protocol.Resources `json:"resources"`
					Report    hardware.Report    `json:"report"`
					Isolation string             `json:"isolation"`
					Images    []string           `json:"images"`
				}{offer, report, isolation, append([]string{}, tried...)})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%sisolation  %s\nimages     %s\n", report.String(), isolation, strings.Join(tried, "\n           "))
			return err
		},
	}
	c.Flags().StringVar(&o.Scratch, "scratch", os.TempDir(), "directory whose free space is offered")
	c.Flags().StringSliceVar(&o.Tags, "tag", nil, "a property of this node that tasks can ask for")
	c.Flags().StringVar(&o.GPUTest, "gpu-test", "", "program that exits 0 on a sound card, in place of the pilot's own test; none trusts what the drivers list")
	c.Flags().StringSliceVar(&o.Cards, "card", nil, "offer this card, as hwdetect names it, and no others")
	c.Flags().DurationVar(&walltime, "walltime", 0, "how long the slot lasts, where the batch system does not say")
	c.Flags().StringVarP(&output, "output", "o", "text", "output format: text or json")
	return c
}
