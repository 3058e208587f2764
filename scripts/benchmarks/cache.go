package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"

	"floe/cache"
	"floe/protocol"
)

// The environment that is cached, and what is promised of it. Source: design §11.
const (
	cacheBytes  = protocol.GB
	cacheFiles  = 10_000
	cachePilots = 8

	coldRatio     = 0.8
	warmWithin    = 10 * time.Millisecond
	newUserWithin = 100 * time.Millisecond
)

// cacheCommand makes this program a process that uses a cache.
const cacheCommand = "use-cache"

// used is what such a process prints: how long its first and its second use of the
// tree took.
type used struct{ First, Warm time.Duration }

// cached measures how long a task waits for software of 1 GB that is not there, that
// another pilot of the same user has fetched, and that its own pilot has used. The
// figure is the first: the time for SHA-256 and decoding alone, divided by it.
func cached(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "of the limit", Target: coldRatio}
	tarball, digest, err := packEnvironment(filepath.Join(r.dir, "environment.tar.zst"))
	if err != nil {
		return out, err
	}
	packed, err := os.Stat(tarball)
	if err != nil {
		return out, err
	}
	fmt.Fprintf(r, "%d files, %v, packed %v\n", cacheFiles, cacheBytes, protocol.ByteSize(packed.Size()))
	rounds := 5
	if r.quick {
		rounds = 3
	}
	// Directories stay until the end: ext4 is slow to make files where it has just
	// removed many, for some minutes.
	var limits, colds, fresh, warm []time.Duration
	fmt.Fprintf(r, "%8s %10s %10s %10s %10s\n", "round", "limit", "cold", "new pilot", "warm")
	for round := range rounds {
		syscall.Sync() // what an earlier round wrote is not written in this one's time
		limit, err := decodeLimit(tarball)
		if err != nil {
			return out, err
		}
		dir := filepath.Join(r.dir, fmt.Sprint("cache-", round))
		cold, _, err := useCache(ctx, 1, dir, tarball, digest)
		if err != nil {
			return out, err
		}
		second, _, err := useCache(ctx, 1, dir, tarball, digest)
		if err != nil {
			return out, err
		}
		fmt.Fprintf(r, "%8d %10v %10v %10v %10v\n", round+1, limit.Round(time.Millisecond), cold[0].First.Round(time.Millisecond), second[0].First.Round(time.Millisecond/10), second[0].Warm.Round(time.Microsecond))
		limits, colds = append(limits, limit), append(colds, cold[0].First)
		fresh, warm = append(fresh, second[0].First), append(warm, second[0].Warm)
	}
	limit, cold, again, hot := middle(limits), middle(colds), middle(fresh), middle(warm)
	_, fetches, err := useCache(ctx, cachePilots, filepath.Join(r.dir, "cache-race"), tarball, digest)
	if err != nil {
		return out, err
	}
	fmt.Fprintf(r, "%d processes at once fetched %d times\n", cachePilots, fetches)
	out.Value, out.Peer, out.PeerIs = limit.Seconds()/cold.Seconds(), 1, "SHA-256 of the tarball and its zstd decoding alone, one after the other, in the same run"
	if hot > warmWithin {
		out.Problems = append(out.Problems, fmt.Sprintf("a warm tree takes %v, more than %v", hot, warmWithin))
	}
	if again > newUserWithin {
		out.Problems = append(out.Problems, fmt.Sprintf("a new pilot takes %v, more than %v", again, newUserWithin))
	}
	if fetches != 1 {
		out.Problems = append(out.Problems, fmt.Sprintf("%d pilots that raced fetched %d times", cachePilots, fetches))
	}
	out.Notes = []string{
		fmt.Sprintf("medians of %d: cold %d ms, limit %d ms; new pilot %.1f ms (≤ %d); warm %.2f ms (≤ %d)", rounds, cold.Milliseconds(), limit.Milliseconds(),
			ms(again), newUserWithin.Milliseconds(), ms(hot), warmWithin.Milliseconds()),
		fmt.Sprintf("%d processes at once fetched %d times", cachePilots, fetches),
	}
	return out, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// middle is the median of an odd number of times.
func middle(all []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}

// decodeLimit is how long it takes to hash the tarball and to decode it, and nothing
// else, as the cache does both.
func decodeLimit(tarball string) (time.Duration, error) {
	packed, err := os.ReadFile(tarball)
	if err != nil {
		return 0, err
	}
	runtime.GC()
	begun := time.Now()
	sha256.Sum256(packed)
	d, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(8))
	if err != nil {
		return 0, err
	}
	defer d.Close()
	n, err := io.Copy(io.Discard, d)
	if err == nil && protocol.ByteSize(n) < cacheBytes {
		err = fmt.Errorf("decoded %d bytes", n)
	}
	return time.Since(begun), err
}

// useCache has processes use a tree at once. It tells how often they asked the source.
func useCache(ctx context.Context, processes int, dir, tarball string, d protocol.Digest) ([]used, int, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, 0, err
	}
	log := dir + ".fetches"
	all, failed := make([]used, processes), make([]error, processes)
	done := make(chan int)
	for i := range processes {
		go func() {
			defer func() { done <- i }()
			c := exec.CommandContext(ctx, self, cacheCommand, dir, tarball, d.Hex(), log)
			c.Stderr = os.Stderr
			text, err := c.Output()
			if err == nil {
				err = json.Unmarshal(text, &all[i])
			}
			failed[i] = err
		}()
	}
	for range processes {
		<-done
	}
	if err := errors.Join(failed...); err != nil {
		return nil, 0, err
	}
	fetches, err := os.ReadFile(log)
	return all, bytes.Count(fetches, []byte("\n")), err
}

// serveCacheUser is such a process: dir, tarball, digest, log of fetches.
func serveCacheUser(ctx context.Context, args []string, out io.Writer) error {
	d, err := protocol.ParseDigest(args[2])
	if err != nil {
		return err
	}
	source := cache.Source{Name: args[1], Open: func(context.Context) (io.ReadCloser, error) {
		log, err := os.OpenFile(args[3], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		_, err = fmt.Fprintln(log, os.Getpid())
		if err := errors.Join(err, log.Close()); err != nil {
			return nil, err
		}
		return os.Open(args[1])
	}}
	store, err := cache.Open(cache.Config{Dir: args[0], Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	defer store.Close()
	var u used
	for _, took := range []*time.Duration{&u.First, &u.Warm} {
		begun := time.Now()
		e, err := store.Tree(ctx, d, []cache.Source{source})
		if err != nil {
			return err
		}
		*took = time.Since(begun)
		defer e.Release()
	}
	return json.NewEncoder(out).Encode(u)
}

// packEnvironment makes the tarball: files of a kilobyte to some megabytes, always the
// same.
func packEnvironment(path string) (string, protocol.Digest, error) {
	f, err := os.Create(path)
	if err != nil {
		return "", protocol.Digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	z, err := zstd.NewWriter(io.MultiWriter(f, h))
	if err != nil {
		return "", protocol.Digest{}, err
	}
	t := tar.NewWriter(z)
	random := rand.New(rand.NewPCG(1, 2))
	text := words(random, 64_000_000)
	at := 0
	for i, size := range environmentSizes(random) {
		head := &tar.Header{Typeflag: tar.TypeReg, Mode: 0o755, Size: size, Name: fmt.Sprintf("lib/package%03d/part%d/file%05d.so", i/60, i/15%4, i)}
		if err := t.WriteHeader(head); err != nil {
			return "", protocol.Digest{}, err
		}
		for left := int(size); left > 0; { // it comes again so far behind that zstd sees no repetition
			n := min(left, len(text)-at)
			if _, err := t.Write(text[at : at+n]); err != nil {
				return "", protocol.Digest{}, err
			}
			left, at = left-n, (at+n)%len(text)
		}
	}
	err = errors.Join(t.Close(), z.Close(), f.Close())
	return path, protocol.Digest(h.Sum(nil)), err
}

// environmentSizes are sizes of files that differ by factors, and add up.
func environmentSizes(random *rand.Rand) []int64 {
	sizes := make([]int64, cacheFiles)
	weights, total := make([]float64, cacheFiles), 0.0
	for i := range weights {
		weights[i] = math.Exp(1.6 * random.NormFloat64())
		total += weights[i]
	}
	left := int64(cacheBytes)
	for i := range sizes {
		sizes[i] = int64(weights[i] / total * float64(cacheBytes))
		left -= sizes[i]
	}
	sizes[0] += left
	return sizes
}

// words are bytes as in programs and texts: some of them often, most seldom, and a
// part that cannot be compressed.
func words(random *rand.Rand, size int) []byte {
	all := make([][]byte, 20_000)
	for i := range all {
		all[i] = make([]byte, 3+random.IntN(10))
		for j := range all[i] {
			all[i][j] = byte(random.IntN(256))
		}
	}
	frequent := rand.NewZipf(random, 1.2, 8, uint64(len(all)-1))
	b := make([]byte, 0, size+16)
	for len(b) < size {
		if random.IntN(20) == 0 {
			b = binary.LittleEndian.AppendUint64(b, random.Uint64())
			continue
		}
		b = append(b, all[frequent.Uint64()]...)
	}
	return b[:size]
}
