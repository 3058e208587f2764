package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"
)

// profile takes CPU profiles of the coordinators and of this process for d, where
// that was asked for. The function it returns waits for them.
func (c *cluster) profile(ctx context.Context, name string, d time.Duration) (wait func() error) {
	if c.r.profiles == "" {
		return func() error { return nil }
	}
	if err := os.MkdirAll(c.r.profiles, 0o700); err != nil {
		return func() error { return err }
	}
	var mu sync.Mutex
	var errs []error
	var work sync.WaitGroup
	take := func(who string, profile func(io.Writer) error) {
		work.Go(func() {
			file, err := os.Create(filepath.Join(c.r.profiles, name+"-"+who+".pprof"))
			if err == nil {
				err = errors.Join(profile(file), file.Close())
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	leader, err := c.leader(ctx)
	errs = append(errs, err)
	for _, x := range c.nodes {
		who := x.name
		if x == leader {
			who += "-leader"
		}
		take(who, func(w io.Writer) error { return x.profile(ctx, w, d) })
	}
	take("load", func(w io.Writer) error {
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		pause(ctx, d)
		pprof.StopCPUProfile()
		return nil
	})
	return func() error {
		work.Wait()
		return errors.Join(errs...)
	}
}

// profile is the coordinator's own.
func (x *node) profile(ctx context.Context, w io.Writer, d time.Duration) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", x.debug, d.Seconds()), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}
