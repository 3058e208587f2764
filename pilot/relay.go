package pilot

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"floe/pilot/stage"
	"floe/protocol/errand"
	"floe/protocol/transport"
)

// SiteAddresses reads the coordinators' addresses that a site's passes keep in a file
// (cluster.json). A file that cannot be read, as on nodes that do not share the site's
// disk, has none.
func SiteAddresses(file string) []string {
	const most = 1 << 20
	info, err := os.Stat(file)
	if err != nil || info.Size() > most {
		return nil
	}
	text, err := os.ReadFile(file)
	var kept struct {
		Addresses []string `json:"addresses"`
	}
	if err != nil || json.Unmarshal(text, &kept) != nil {
		return nil
	}
	return kept.Addresses
}

// Errands are how files are moved where the site's relay is the only way out and has a
// directory for them; nil without.
func (l *Link) Errands() *stage.Errands {
	if l.stage == "" {
		return nil
	}
	return &stage.Errands{Desk: errand.Desk{Dir: l.stage}, Wanted: func() bool {
		rung, _ := l.Way()
		return rung == transport.RungRelay
	}}
}

// Storage is the client for files at http and https: it goes through the site's relay
// where that is the only way out.
func (l *Link) Storage() *http.Client { return l.storage }

func (l *Link) storageClient(c *LinkConfig) *http.Client {
	if c.Relay == nil || len(c.RelayStorage) == 0 {
		return http.DefaultClient
	}
	relayed := func(address string) bool {
		rung, _ := l.Way()
		return rung == transport.RungRelay && stage.Listed(c.RelayStorage, address)
	}
	direct := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if !relayed(address) {
			return direct.DialContext(ctx, network, address)
		}
		ctx, cancel := context.WithTimeout(ctx, direct.Timeout)
		defer cancel()
		return c.Relay.Tunnel(ctx, c.DialTCP, address, nil)
	}
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		if c.Proxy == nil || relayed(stage.AddressOf(r.URL)) {
			return nil, nil
		}
		return c.Proxy(r)
	}
	return &http.Client{Transport: t}
}
