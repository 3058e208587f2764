package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"floe/cache"
	"floe/coordinator/fetch"
	"floe/pilot"
	"floe/pilot/payload"
	"floe/protocol"
	"floe/protocol/steering"

	"github.com/spf13/cobra"
)

// fetchFlags add the rules by which external modules are fetched to a command.
func fetchFlags(c *cobra.Command, hosts []string) {
	f := c.Flags()
	f.StringSlice("module-hosts", hosts, "hosts that external modules may be fetched from: NAME, *.NAME, NAME:PORT, or * for all")
	f.StringSlice("module-networks", nil, "private networks that they may be fetched from, too, such as 10.1.0.0/16 (default: public addresses only)")
}

// fetcherOf reads these flags.
func fetcherOf(c *cobra.Command, dir string) (*fetch.Fetcher, error) {
	names, _ := c.Flags().GetStringSlice("module-hosts")
	hosts, err := fetch.ParseHosts(names)
	if err != nil {
		return nil, usageErrorf("--module-hosts: %v", err)
	}
	texts, _ := c.Flags().GetStringSlice("module-networks")
	networks, err := fetch.ParseNetworks(texts)
	if err != nil {
		return nil, usageErrorf("--module-networks: %v", err)
	}
	if hosts == nil {
		hosts = fetch.Hosts{} // given as empty: none
	}
	fetcher, err := fetch.New(fetch.Config{Hosts: hosts, Opened: networks, Dir: dir})
	if err != nil {
		return nil, withExit(exitFailure, err)
	}
	return fetcher, nil
}

// anyHost is for people's own machines: they decide what they fetch.
var anyHost = []string{"*"}

// fetchModules fetches external modules. The files are there until close.
func fetchModules(c *cobra.Command, source *steering.Source, uses []steering.ExternalUse, problems steering.Problems) (modules []pilot.LocalModule, closed func(), err error) {
	if problems.HasErrors() {
		_, _ = io.WriteString(c.ErrOrStderr(), source.Quote(problems).Format())
		return nil, nil, withExit(exitFailure, errors.New("external modules cannot be fetched"))
	}
	if len(uses) == 0 {
		return nil, func() {}, nil
	}
	fetcher, err := fetcherOf(c, "")
	if err != nil {
		return nil, nil, err
	}
	session, err := fetcher.Begin("")
	if err != nil {
		return nil, nil, withExit(exitFailure, err)
	}
	closed = func() { _ = session.Close() }
	for _, u := range uses {
		fmt.Fprintf(c.ErrOrStderr(), "fetching %s\n", visible(u.Text))
		m, err := session.Module(c.Context(), u.External)
		if err == nil && u.Program && m.Path == "" {
			err = errors.New("it is a folder; name the program behind a #, or give the module a class")
		}
		if err != nil {
			closed()
			return nil, nil, withExit(exitFailure, fmt.Errorf("%s: %s: %w", u.Where, u.Text, err))
		}
		modules = append(modules, pilot.LocalModule{File: m.File, ModulePin: protocol.ModulePin{
			URL: u.Text, Pinned: m.Pinned.String(), Digest: m.Digest, Size: m.Size, Path: m.Path, Where: u.Where,
		}})
	}
	return modules, closed, nil
}

// classesLimit bounds how long a coordinator lets Python read one file.
const classesLimit = 10 * time.Second

// describeClasses lets a coordinator look into a Python file without running it. It
// is nil where there is no Python, or nothing that bounds it.
func describeClasses(logger *slog.Logger) func(context.Context, string) (map[string][]string, error) {
	if _, err := exec.LookPath("python3"); err != nil {
		logger.Info("no python3 here: parameters of external modules are not checked at submission")
		return nil
	}
	return func(ctx context.Context, file string) (map[string][]string, error) {
		ctx, stop := context.WithTimeout(ctx, classesLimit)
		defer stop()
		d, err := payload.Describe(ctx, file, false)
		if err != nil {
			return nil, err
		}
		classes := map[string][]string{}
		for i := range d.Modules {
			m := &d.Modules[i]
			if len(m.Notes) > 0 {
				continue // something is known only when it runs
			}
			names := []string{}
			for _, p := range m.Parameters {
				names = append(names, p.Name)
			}
			classes[m.Class] = names
		}
		return classes, nil
	}
}

// describeURL fetches an external module and describes its Python files.
func describeURL(c *cobra.Command, p *printer, address string, run bool) error {
	external, err := steering.ParseExternal(address)
	if err != nil {
		return usageErrorf("%s: %v", visible(address), err)
	}
	fetcher, err := fetcherOf(c, "")
	if err != nil {
		return err
	}
	session, err := fetcher.Begin("")
	if err != nil {
		return withExit(exitFailure, err)
	}
	defer session.Close()
	m, err := session.Module(c.Context(), external)
	if err != nil {
		return withExit(exitFailure, fmt.Errorf("%s: %w", address, err))
	}
	dir, err := os.MkdirTemp("", "floe-describe-")
	if err != nil {
		return withExit(exitFailure, err)
	}
	defer os.RemoveAll(dir)
	files, err := unpackModule(m.File, dir, m.Path)
	if err != nil {
		return withExit(exitFailure, err)
	}
	ctx, stop := context.WithTimeout(c.Context(), describeLimit)
	defer stop()
	all := describedFile{File: address, Pinned: m.Pinned.String(), Description: &payload.Description{Modules: []payload.DescribedModule{}}}
	var wrong error
	describe := describeWith(c, run, true)
	for _, name := range files {
		d, err := describe(ctx, filepath.Join(dir, name), dir)
		if err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("%s: %w", name, err))
			continue
		}
		all.Python = d.Python
		for _, module := range d.Modules {
			if m.Path == "" {
				module.Class = moduleName(name) + "." + module.Class
			}
			all.Modules = append(all.Modules, module)
		}
	}
	if len(all.Modules) == 0 {
		return noModules(all.Pinned, wrong)
	}
	if done, err := p.value(all); err != nil || done {
		return err
	}
	p.line("%s\n", visible(all.Pinned))
	return printDescription(p, "", all.Description)
}

// moduleName is what Python imports a file of a folder by.
func moduleName(file string) string {
	return strings.TrimSuffix(strings.ReplaceAll(strings.TrimSuffix(file, ".py"), "/", "."), ".__init__")
}

// maxDescribedFiles is how many files of one folder are described.
const maxDescribedFiles = 200

// unpackModule unpacks a module and lists its Python files.
func unpackModule(tarball, dir, file string) ([]string, error) {
	in, err := os.Open(tarball)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if _, err := cache.Extract(in, root); err != nil {
		return nil, err
	}
	if file != "" {
		return []string{file}, nil
	}
	var files []string
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && strings.HasSuffix(name, ".py") && len(files) < maxDescribedFiles {
			files = append(files, name)
		}
		return err
	})
	return files, err
}
