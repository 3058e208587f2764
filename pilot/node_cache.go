package pilot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"floe/cache"
	"floe/protocol"
)

// openCache opens what pilots of this node share. Where the directory cannot be
// shared, because it has no locks, the pilot has a cache for itself.
func openCache(c *Config, scratch string, link Coordinators) (*cache.Store, error) {
	config := cache.Config{Dir: c.Cache, Quota: c.CacheQuota, Share: c.CacheShare, From: c.CacheFrom, Logger: c.Logger}
	if c.SiteCache != "" {
		l, ok := link.(interface {
			Site(address string) (cache.Site, error)
		})
		if !ok {
			return nil, fmt.Errorf("site cache %s: this link to the coordinators knows none", c.SiteCache)
		}
		site, err := l.Site(c.SiteCache)
		if err != nil {
			return nil, err
		}
		config.Site = site
	}
	store, err := cache.Open(config)
	if errors.Is(err, cache.ErrLocks) {
		c.Logger.Warn("the cache cannot be shared; this pilot keeps one for itself while it lives", "err", err)
		config.Dir = filepath.Join(scratch, "cache")
		store, err = cache.Open(config)
	}
	return store, err
}

// maxStored is how long a file of the coordinators' store may be. Source: their limit.
const maxStored = 64 * protocol.MB

// stored reads a small file of the coordinators' store through the cache or, where that
// has no room, past it.
func (p *Pilot) stored(ctx context.Context, d protocol.Digest) ([]byte, error) {
	source := cache.Source{Name: "coordinator", Open: func(ctx context.Context) (io.ReadCloser, error) { return p.link.GetBlob(ctx, d) }}
	entry, err := p.cache.Blob(ctx, d, []cache.Source{source})
	if err == nil {
		defer entry.Release()
		return os.ReadFile(entry.Path)
	}
	if !errors.Is(err, cache.ErrNoSpace) {
		return nil, err
	}
	p.logger.Warn("cache is full; fetching past it", "digest", d, "err", err)
	in, err := source.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, int64(maxStored)))
	if err == nil && protocol.DigestOf(text) != d {
		err = fmt.Errorf("blob %v: %w", d, cache.ErrMismatch)
	}
	return text, err
}
