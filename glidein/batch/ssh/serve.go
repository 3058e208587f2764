package ssh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/exec"
)

// Limits of the agent. A job that is submitted may bring a program along.
const (
	maxOrder  = 512 << 20
	agentTime = 5 * time.Minute
)

// Serve is the agent: it obeys one order on the login node. open makes the batch
// system of a queue, for a site in a directory.
func Serve(ctx context.Context, in io.Reader, out io.Writer, open func(directory string, queue json.RawMessage) (batch.System, error)) error {
	ctx, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	text, err := io.ReadAll(io.LimitReader(in, maxOrder+1))
	if err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	if len(text) > maxOrder {
		return fmt.Errorf("an order of more than %d MiB", maxOrder>>20)
	}
	var o order
	if err := json.Unmarshal(text, &o); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	result, err := obey(ctx, &o, open)
	if err != nil {
		result = &outcome{Exit: exec.ExitTransient, Said: err.Error()}
	}
	line, err := json.Marshal(result)
	if err == nil {
		_, err = fmt.Fprintf(out, "\n%s%s\n", mark, line)
	}
	return err
}

func obey(ctx context.Context, o *order, open func(string, json.RawMessage) (batch.System, error)) (*outcome, error) {
	if !filepath.IsAbs(o.Directory) {
		return nil, fmt.Errorf("directory %q: want an absolute path", o.Directory)
	}
	for i := range o.Place {
		if err := put(o.Directory, &o.Place[i]); err != nil {
			return nil, err
		}
	}
	result := new(outcome)
	if len(o.Request) > 0 {
		system, err := open(o.Directory, o.Queue)
		if err != nil {
			return nil, err
		}
		var answer, said bytes.Buffer
		result.Exit = exec.Serve(ctx, system, bytes.NewReader(o.Request), &answer, &said)
		result.Said = strings.TrimSpace(said.String())
		if result.Exit == 0 {
			result.Answer = bytes.TrimSpace(answer.Bytes())
		}
	}
	for _, name := range o.Fetch {
		f, err := fetch(o.Directory, name)
		if err != nil {
			return nil, err
		}
		if f != nil {
			result.Files = append(result.Files, *f)
		}
	}
	if result.Exit != 0 && result.Exit != exec.ExitUnknownJob {
		o.Drop = nil // what belongs to it is still in use
	}
	for _, name := range o.Drop {
		path, err := below(o.Directory, name)
		if err != nil {
			return nil, err
		}
		if err := os.RemoveAll(path); err != nil {
			return nil, err
		}
	}
	if o.Spool != "" {
		var err error
		if result.Spool, err = reports(o.Directory, o.Spool); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// ownTime is how long pilots have for delivering a report themselves.
const ownTime = 10 * time.Minute

// reports are those that no pilot has delivered for a while.
func reports(dir, spool string) ([]file, error) {
	path, err := below(dir, spool)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []file
	size := 0
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), reportSuffix) || time.Since(info.ModTime()) < ownTime {
			continue // delivered meanwhile, or not yet given up
		}
		f, err := fetch(dir, filepath.Join(spool, e.Name()))
		if err != nil {
			return nil, err
		}
		if f == nil || f.Cut > 0 {
			continue // it stays for a person
		}
		if size += len(f.Data); size > maxSpool {
			break
		}
		f.Name = e.Name()
		all = append(all, *f)
	}
	return all, nil
}

// reportSuffix ends the names of reports, see package spool.
const reportSuffix = ".report"
