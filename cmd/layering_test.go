package cmd_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers is the whole import table: which package of floe may import which, and
// the one reason for each. An arrow that is not here is a defect of the change
// that drew it, not of the table.
var layers = []struct {
	pkg    string
	may    []string
	reason string
}{
	{"protocol/canon", nil, "one form of bytes, whatever they mean"},
	{"protocol", []string{"protocol/canon"}, "the vocabulary knows nobody; its hot words are read and written by hand"},
	{"protocol/steering/expr", nil, "expressions are a language of their own"},
	{"protocol/steering", []string{"protocol", "protocol/steering/expr"}, "a plan speaks of requirements"},
	{"protocol/transport", []string{"protocol"}, "errors and identities on the wire"},

	{"protocol/errand", nil, "files in a directory, whatever they are for"},
	{"protocol/spool", []string{"protocol"}, "a file per report"},
	{"protocol/sitelog", []string{"protocol"}, "pilots write it, passes and people of the site read it"},
	{"protocol/wiretest", []string{"protocol"}, "recorded messages of versions, for tests"},

	{"protocol/software", []string{"protocol"}, "whose signature is believed, the same for all who use software"},

	{"cache", []string{"protocol"}, "digests name what is cached"},
	{"cache/pack", []string{"protocol", "protocol/software", "cache"}, "makes what cache unpacks, and looks at it by unpacking it"},
	{"cache/site", []string{"protocol", "cache"}, "serves one cache to the pilots of a site"},

	{"coordinator/state", []string{"protocol", "protocol/canon"}, "the pure machine sees the vocabulary only"},
	{"coordinator/state/statemachinedoc", []string{"coordinator/state"}, "draws the transition table"},
	{"coordinator/boltfile", nil, "three stores of a coordinator are bolt files"},
	{"coordinator/replica", []string{"protocol", "coordinator/boltfile"}, "drives any machine, so that raft stays in one place"},
	{"coordinator/history", []string{"protocol", "coordinator/boltfile", "coordinator/state"}, "the ledger keeps the record's events"},
	{"coordinator/blob", []string{"protocol", "coordinator/boltfile"}, "digests name blobs, leases name live logs"},
	{"coordinator/fetch", []string{"protocol", "protocol/steering", "cache"}, "brings what addresses in a document name; unpacks by the rules of the cache"},
	{"coordinator/auth", []string{"protocol", "protocol/transport"}, "certificates are transport's identities"},
	{"coordinator/server", []string{"protocol", "protocol/software", "protocol/steering", "protocol/transport", "coordinator/auth", "coordinator/blob", "coordinator/fetch", "coordinator/history", "coordinator/state"}, "verbs become commands and queries"},
	{"coordinator", []string{"protocol", "protocol/transport", "coordinator/auth", "coordinator/blob", "coordinator/fetch", "coordinator/history", "coordinator/replica", "coordinator/server", "coordinator/state"}, "puts one coordinator together"},

	{"pilot/hardware", []string{"protocol"}, "measures what protocol.Resources says"},
	{"pilot/payload", []string{"protocol", "protocol/steering", "protocol/steering/expr", "pilot/library", "pilot/payload/session"}, "runs what the document expands to"},
	{"pilot/payload/session", []string{"protocol"}, "payloads speak of statistics and progress as reports and exchanges do"},
	{"pilot/stage", []string{"protocol", "protocol/errand", "cache"}, "inputs come through the cache, or by an errand of a process with a way out"},
	{"pilot/library", []string{"protocol", "cache", "cache/pack", "pilot/stage"}, "predefined modules move files and unpack archives as the pilot does"},
	{"pilot", []string{"protocol", "protocol/errand", "protocol/sitelog", "protocol/software", "protocol/spool", "protocol/steering", "protocol/transport", "cache", "pilot/hardware", "pilot/payload", "pilot/payload/session", "pilot/stage"}, "puts one pilot together"},

	{"glidein/batch", []string{"protocol"}, "the plugin contract speaks of launch leases and resources"},
	{"glidein/batch/local", []string{"protocol", "glidein/batch"}, "one batch system"},
	{"glidein/batch/arc", []string{"protocol", "glidein/batch"}, "one batch system"},
	{"glidein/batch/condor", []string{"protocol", "glidein/batch"}, "one batch system"},
	{"glidein/batch/pbs", []string{"protocol", "glidein/batch"}, "one batch system"},
	{"glidein/batch/sge", []string{"protocol", "glidein/batch"}, "one batch system"},
	{"glidein/batch/exec", []string{"protocol", "glidein/batch"}, "any batch system, through a program of the site's own"},
	{"glidein/batch/glite", []string{"protocol", "glidein/batch"}, "three batch systems that share a language"},
	{"glidein/batch/globus", []string{"protocol", "glidein/batch"}, "one batch system"},
	{"glidein/batch/ssh", []string{"protocol", "glidein/batch", "glidein/batch/exec"}, "any batch system on another machine, spoken to as plugins are"},
	{"glidein/batch/slurm", []string{"protocol", "glidein/batch"}, "one batch system"},
	{"glidein/iceprod", []string{"protocol", "glidein"}, "writes the site's configuration, and checks it"},
	{"glidein/unmonitored", []string{"protocol", "glidein/batch"}, "jobs straight to a batch system"},
	{"glidein/relay", []string{"protocol", "protocol/transport"}, "carries what transport's clients ask for, by passes that transport draws"},
	{"glidein", []string{"protocol", "protocol/sitelog", "protocol/transport", "cache", "glidein/batch", "glidein/relay"}, "one pass; verifies the pilot binary, watches over the relay"},

	{"scripts/account", []string{"protocol", "protocol/transport"}, "asks coordinators, as a client does"},
	{"scripts/chaos", []string{"protocol", "protocol/transport"}, "drives the built programs, as a client does"},

	{"cmd/floe", []string{"*"}, "wires everything"},
	{"cmd/simulation", []string{"*"}, "drives what decides, of coordinators and pilots, in virtual time"},
	{"scripts/benchmarks", []string{"*"}, "measures any part of floe, and the whole"},
	{"cmd/federation", nil, "tests only, which bring all parts together in one bubble"},
	{"cmd/floe-pilot", []string{"protocol", "protocol/transport", "cache", "pilot", "pilot/hardware", "pilot/library", "pilot/payload", "pilot/payload/session", "pilot/stage"}, "small: no coordinator inside"},
}

// keepers are libraries that only the named packages may import.
var keepers = map[string][]string{
	"github.com/hashicorp/raft":         {"coordinator/replica"},
	"github.com/hashicorp/raft-boltdb/": {"coordinator/replica"},
	"github.com/quic-go/quic-go":        {"protocol/transport"},
	"github.com/minio/sha256-simd":      {"cache"},
	"github.com/spf13/cobra":            {"cmd/floe", "cmd/floe-pilot"},
	"github.com/prometheus/":            {"coordinator", "cache/site"},
	"github.com/hanwen/go-fuse/":        {"cache", "coordinator"}, // their tests
	"github.com/go-git/":                {"coordinator/fetch"},
	"github.com/danielgtaylor/huma/":    {"coordinator/server"},
	"github.com/anishathalye/porcupine": {"cmd/simulation"},
	"github.com/stretchr/testify":       nil,
	"C":                                 nil,
	"github.com/ebitengine/purego":      nil,
}

type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Doc          string
	GoFiles      []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	c := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Doc,GoFiles", "floe/...")
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// within tells whether a package is the named one or lies below it: test
// packages and examples follow what they belong to.
func within(pkg, of string) bool { return pkg == of || strings.HasPrefix(pkg, of+"/") }

func TestImportsFollowTheTable(t *testing.T) {
	for _, p := range listPackages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, "floe/")
		if within(pkg, "docs") {
			for _, i := range p.Imports {
				if strings.HasPrefix(i, "floe/") && !within(strings.TrimPrefix(i, "floe/"), "docs") {
					t.Errorf("%s imports %s: examples are payloads and know nothing of floe", pkg, i)
				}
			}
			continue
		}
		row := slices.IndexFunc(layers, func(l struct {
			pkg    string
			may    []string
			reason string
		},
		) bool {
			return l.pkg == pkg
		})
		if row < 0 {
			if len(p.GoFiles) > 0 && !strings.HasSuffix(pkg, "test") {
				t.Errorf("package %s is not in the import table; add it with its reason", pkg)
			}
			continue
		}
		for _, i := range p.Imports {
			name, own := strings.CutPrefix(i, "floe/")
			if own && !slices.Contains(layers[row].may, name) && !slices.Contains(layers[row].may, "*") {
				t.Errorf("%s imports %s; the table allows %v: %s", pkg, name, layers[row].may, layers[row].reason)
			}
		}
	}
}

func TestLibrariesHaveKeepers(t *testing.T) {
	for _, p := range listPackages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, "floe/")
		for _, i := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for library, may := range keepers {
				if i != library && !strings.HasPrefix(i, strings.TrimSuffix(library, "/")+"/") {
					continue
				}
				if !slices.ContainsFunc(may, func(m string) bool { return within(pkg, m) }) {
					t.Errorf("%s imports %s, which only %v may", pkg, i, may)
				}
			}
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range listPackages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
