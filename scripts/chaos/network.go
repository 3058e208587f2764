package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// network is a bridge with a namespace per host: coordinators and sites. Faults on
// it are rules of packet filters inside the namespaces.
type network struct {
	prefix string // of the names of bridge, namespaces and links; at most 8 letters
	net    string // first three bytes of the addresses
	hosts  []*host

	mu sync.Mutex // guards the rules of all hosts
}

// host is one namespace.
type host struct {
	name    string // of the namespace
	link    string // the outer end of its link
	address string
	rules   map[int]string // by fault, guarded by network.mu
}

// newNetwork makes the bridge and a namespace per name. What an earlier run that
// was killed left under the same prefix is removed first.
func newNetwork(ctx context.Context, prefix, net string, names []string) (*network, error) {
	n := &network{prefix: prefix, net: net}
	n.remove()
	bridge := prefix + "-br"
	steps := [][]string{
		{"link", "add", bridge, "type", "bridge"},
		{"addr", "add", net + ".254/24", "dev", bridge},
		{"link", "set", bridge, "up"},
	}
	for i, name := range names {
		h := &host{name: prefix + "-" + name, link: prefix + "-" + name, address: net + "." + strconv.Itoa(i+1), rules: map[int]string{}}
		n.hosts = append(n.hosts, h)
		steps = append(steps,
			[]string{"netns", "add", h.name},
			[]string{"link", "add", h.link, "type", "veth", "peer", "name", "e0", "netns", h.name},
			[]string{"link", "set", h.link, "master", bridge, "up"},
			[]string{"-n", h.name, "link", "set", "lo", "up"},
			[]string{"-n", h.name, "addr", "add", h.address + "/24", "dev", "e0"},
			[]string{"-n", h.name, "link", "set", "e0", "up"})
	}
	for _, s := range steps {
		if err := ip(ctx, s...); err != nil {
			n.remove()
			return nil, err
		}
	}
	for _, h := range n.hosts {
		if err := h.filter(ctx, "add table inet chaos\n"+
			"add chain inet chaos in { type filter hook input priority 0; }\n"+
			"add chain inet chaos out { type filter hook output priority 0; }\n"); err != nil {
			n.remove()
			return nil, err
		}
	}
	return n, nil
}

// remove takes down what carries the prefix. Namespaces end with their processes,
// which the caller has ended.
func (n *network) remove() {
	ctx := context.Background()
	out, _ := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, n.prefix+"-") {
			_ = ip(ctx, "netns", "del", name)
		}
	}
	_ = ip(ctx, "link", "del", n.prefix+"-br")
}

// drop has a host drop packets as long as the fault lasts. The rule is what nft
// calls an expression, with in or out before it, such as "in ip saddr 10.0.0.1".
func (n *network) drop(ctx context.Context, fault int, h *host, rules ...string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	h.rules[fault] = strings.Join(rules, "\n")
	return h.apply(ctx)
}

// heal takes a fault's rules away from all hosts.
func (n *network) heal(ctx context.Context, fault int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.hosts {
		if _, ok := h.rules[fault]; !ok {
			continue
		}
		delete(h.rules, fault)
		if err := h.apply(ctx); err != nil {
			return err
		}
	}
	return nil
}

// apply makes the host's filter that of its rules, in one step.
func (h *host) apply(ctx context.Context) error {
	var b strings.Builder
	b.WriteString("flush chain inet chaos in\nflush chain inet chaos out\n")
	var faults []int
	for f := range h.rules {
		faults = append(faults, f)
	}
	slices.Sort(faults)
	for _, f := range faults {
		for rule := range strings.Lines(h.rules[f]) {
			fmt.Fprintf(&b, "add rule inet chaos %s drop\n", strings.TrimSpace(rule))
		}
	}
	return h.filter(ctx, b.String())
}

func (h *host) filter(ctx context.Context, script string) error {
	c := exec.CommandContext(ctx, "ip", "netns", "exec", h.name, "nft", "-f", "-")
	c.Stdin = strings.NewReader(script)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nft in %s: %w: %s", h.name, err, bytes.TrimSpace(out))
	}
	return nil
}

// cable takes the host's link up or down.
func (h *host) cable(ctx context.Context, up bool) error {
	return ip(ctx, "link", "set", h.link, map[bool]string{true: "up", false: "down"}[up])
}

// throttle bounds what leaves the host; an empty rate undoes it.
func (h *host) throttle(ctx context.Context, rate string) error {
	args := []string{"-n", h.name, "qdisc", "del", "dev", "e0", "root"}
	if rate != "" {
		args = []string{"-n", h.name, "qdisc", "add", "dev", "e0", "root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms"}
	}
	if out, err := exec.CommandContext(ctx, "tc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("tc %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// processes are the ids of everything that runs in the host.
func (h *host) processes() []int {
	out, _ := exec.Command("ip", "netns", "pids", h.name).Output()
	var pids []int
	for _, f := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func ip(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
