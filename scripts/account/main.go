// Account says what became of a dataset that has ended, from what coordinators,
// attempts and files say, and whether all of them say the same:
//
//   - every task of every job is ok, by one attempt that counts;
//   - the outputs on the disk are those of the attempts that count, byte for byte;
//     none is missing, none is there twice, and in their directory is nothing else;
//   - statistics count each task once;
//   - all coordinators vote and have applied the same entries.
//
// Then it prints a table of work per site. It asks as floe does, with the token in
// FLOE_TOKEN_FILE.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	files := flag.String("files", "", "directory that holds the dataset's outputs, and nothing else")
	sites := flag.String("sites", "", "sites that must have done work, comma-separated")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: account [-files DIRECTORY] [-sites NAME,…] DATASET")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(ctx, *files, *sites, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "account:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, files, sites string, args []string) error {
	if len(args) != 1 {
		return errors.New("want one dataset")
	}
	id, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return fmt.Errorf("dataset %q: want its number", args[0])
	}
	text, err := os.ReadFile(os.Getenv("FLOE_TOKEN_FILE"))
	if err != nil {
		return fmt.Errorf("FLOE_TOKEN_FILE: %w", err)
	}
	token, err := protocol.ParseToken(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("FLOE_TOKEN_FILE: %w", err)
	}
	l := &ledger{token: token, dataset: protocol.DatasetID(id), sites: map[protocol.SiteID]*work{}, outputs: map[string]bool{}}
	if l.api, err = dial(token, token.Addresses...); err != nil {
		return err
	}
	defer l.api.Close()
	if err := l.read(ctx, files); err != nil {
		return err
	}
	for name := range strings.FieldsFuncSeq(sites, func(r rune) bool { return r == ',' }) {
		if l.at(protocol.SiteID(name)).tasks == 0 {
			l.fail("site %s has done no task that counts", name)
		}
	}
	if err := l.coordinators(ctx); err != nil {
		return err
	}
	l.print()
	if len(l.wrong) > 0 {
		return fmt.Errorf("dataset %d is not as it should be:\n%s", id, strings.Join(l.wrong, "\n"))
	}
	fmt.Printf("\nEvery task is ok by one attempt that counts, and every file is what that attempt left.\n")
	return nil
}

// dial makes a client of some of the cluster's coordinators.
func dial(t protocol.Token, addresses ...string) (*transport.Client, error) {
	return transport.NewClient(transport.ClientConfig{
		Cluster: t.Cluster, Addresses: addresses, Pins: []protocol.Digest{t.Pin}, Bearer: t.Credential,
		UserAgent: "floe-account", Logger: slog.New(slog.DiscardHandler),
	})
}

// coordinators waits until all of them vote and have applied the same entries.
func (l *ledger) coordinators(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		agree, err := l.agree(ctx)
		if err == nil {
			l.entries = agree
			return nil
		}
		select {
		case <-ctx.Done():
			l.fail("the coordinators do not agree within a minute: %v", err)
			return nil
		case <-tick.C:
		}
	}
}

// agree is how many entries all coordinators have applied.
func (l *ledger) agree(ctx context.Context) (uint64, error) {
	applied := map[uint64]bool{}
	var last uint64
	for _, address := range l.token.Addresses {
		c, err := dial(l.token, address)
		if err != nil {
			return 0, err
		}
		var s protocol.ClusterReply
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		err = c.CallJSON(asking, http.MethodGet, "/v1/cluster", nil, &s)
		cancel()
		c.Close()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", address, err)
		}
		for _, m := range s.Members {
			if !m.Voter {
				return 0, fmt.Errorf("%s does not vote", m.ID)
			}
		}
		if len(s.Members) != len(l.token.Addresses) || s.Leader == "" {
			return 0, fmt.Errorf("%s sees %d members, of %d, and leader %q", s.Node, len(s.Members), len(l.token.Addresses), s.Leader)
		}
		applied[s.Applied], last = true, s.Applied
	}
	if len(applied) != 1 {
		return 0, fmt.Errorf("entries applied are %v", applied)
	}
	return last, nil
}

// print says what was found, and the table.
func (l *ledger) print() {
	fmt.Printf("%d jobs, %d tasks that count, of %d attempts; %d files; %d coordinators with the same %d entries\n\n",
		l.jobs, l.tasks, l.attempts, len(l.outputs), len(l.token.Addresses), l.entries)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "site\ttasks ok\tshare\tprocessor time\tpilots\tattempts that did not count\t")
	order := make([]protocol.SiteID, 0, len(l.sites))
	for s := range l.sites {
		order = append(order, s)
	}
	slices.SortFunc(order, func(a, b protocol.SiteID) int {
		return cmp.Or(cmp.Compare(l.sites[b].tasks, l.sites[a].tasks), cmp.Compare(a, b))
	})
	var all work
	for _, s := range order {
		x := l.sites[s]
		fmt.Fprintf(w, "%s\t%d\t%d %%\t%v\t%d\t%s\t\n", s, x.tasks, 100*x.tasks/max(1, l.tasks), x.cpu.Round(time.Second/10), len(x.pilots), x.others())
		all.tasks, all.cpu = all.tasks+x.tasks, all.cpu+x.cpu
	}
	fmt.Fprintf(w, "all\t%d\t\t%v\t\t\t\n", all.tasks, all.cpu.Round(time.Second/10))
	_ = w.Flush()
}

// pages goes through a list of the dataset, page by page.
func pages[P any](ctx context.Context, l *ledger, path string, next func(*P) string) error {
	for cursor := ""; ; {
		page := new(P)
		if err := l.get(ctx, fmt.Sprintf("%s?limit=1000&cursor=%s", path, url.QueryEscape(cursor)), page); err != nil {
			return err
		}
		if cursor = next(page); cursor == "" {
			return nil
		}
	}
}
