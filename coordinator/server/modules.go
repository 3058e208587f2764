package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"floe/coordinator/blob"
	"floe/coordinator/fetch"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/steering"
)

// External modules are fetched before a dataset is proposed, so that no job has to:
// see package fetch. What came is kept as durable blobs under the digest of the
// dataset's protocol.ModulePins, which the record names.

// modulesOwner is whose the blobs of a dataset's external modules are.
func modulesOwner(pins protocol.Digest) string { return modulesPrefix + pins.Hex() }

const modulesPrefix = "modules "

// fetchedModules remembers what references that always mean the same were when they
// were fetched last, so that they are fetched once.
type fetchedModules struct {
	mu    sync.Mutex
	known map[string]protocol.ModulePin // guarded by mu: by the pinned reference
}

// maxFetched is how many are remembered; when there are more, all are forgotten.
const maxFetched = 20_000

func (f *fetchedModules) find(pinned string) (protocol.ModulePin, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pin, ok := f.known[pinned]
	return pin, ok
}

func (f *fetchedModules) keep(pin protocol.ModulePin) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil || len(f.known) >= maxFetched {
		f.known = map[string]protocol.ModulePin{}
	}
	f.known[pin.Pinned] = pin
}

// submission is what is fetched for one dataset while it is being submitted.
type submission struct {
	server  *Server
	user    protocol.UserID
	request *protocol.SubmitRequest
	doc     *steering.Document
	session *fetch.Session // nil until something is fetched
	// uses are those of the dataset's number: listing them may take long.
	uses   []steering.ExternalUse
	listed protocol.DatasetID
	// pins has what is here, by the text of the reference; files where it is, "" for
	// what the blob store has.
	mu    sync.Mutex
	pins  map[string]protocol.ModulePin // guarded by mu
	files map[protocol.Digest]string    // guarded by mu
	// warnings are about modules.
	warnings steering.Problems
}

func (n *submission) close() {
	if n.session != nil {
		_ = n.session.Close()
	}
}

// externals lists what the document names under a dataset's number.
func (n *submission) externals(compile steering.CompileInput) ([]steering.ExternalUse, error) {
	if n.listed == compile.Dataset {
		return n.uses, nil
	}
	uses, problems := steering.Externals(n.doc, compile)
	if problems.HasErrors() {
		return nil, refuseProblems(n.request.File, n.quote(problems))
	}
	n.uses, n.listed = uses, compile.Dataset
	return uses, nil
}

func (n *submission) quote(problems steering.Problems) steering.Problems {
	return steering.NewSource(n.request.File, []byte(n.request.Steering)).Quote(problems)
}

// fetchedAtOnce is how many modules of one dataset are fetched at once.
const fetchedAtOnce = 4

// fetchLimit is how long the modules of one submission may take together.
const fetchLimit = 9 * time.Minute

// fetch brings what is named and not here yet. Everything that goes wrong is told.
func (n *submission) fetch(ctx context.Context, uses []steering.ExternalUse) error {
	var missing []steering.ExternalUse
	for _, u := range uses {
		if !n.has(u.Text) {
			missing = append(missing, u)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if n.server.Modules == nil {
		return protocol.Errorf(protocol.CodeForbidden, "%s: this cluster fetches no external modules", missing[0].Where)
	}
	if n.session == nil {
		session, err := n.server.Modules.Begin(n.user)
		if err != nil {
			return moduleError(err)
		}
		n.session = session
	}
	begun := time.Now()
	ctx, stop := context.WithTimeout(ctx, fetchLimit)
	defer stop()
	wrong := make([]error, len(missing))
	var work sync.WaitGroup
	next := make(chan int)
	for range min(fetchedAtOnce, len(missing)) {
		work.Go(func() {
			for i := range next {
				wrong[i] = n.bring(ctx, &missing[i])
			}
		})
	}
	for i := range missing {
		next <- i
	}
	close(next)
	work.Wait()
	var problems steering.Problems
	worst := protocol.CodeBadRequest
	for i, err := range wrong {
		if err == nil {
			continue
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err() // who asked has gone
		}
		if code := protocol.CodeOf(moduleError(err)); code != protocol.CodeBadRequest {
			worst = code
		}
		at := missing[i].Position
		problems = append(problems, steering.Problem{
			Line: at.Line, Column: at.Column, Severity: steering.SeverityError, Message: fmt.Sprintf("%s: %s: %v", missing[i].Where, missing[i].Text, err),
		})
	}
	n.server.Logger.Info("external modules fetched", "user", n.user, "modules", len(missing), "refused", len(problems), "took", time.Since(begun))
	if len(problems) == 0 {
		return nil
	}
	e := protocol.Errorf(worst, "%s: %d external modules cannot be fetched", first(n.request.File, "steering"), len(problems))
	e.Details = texts(n.quote(problems.Sort()))
	return e
}

// moduleError gives an error of fetching its code.
func moduleError(err error) error {
	code := protocol.CodeBadRequest
	switch {
	case errors.Is(err, fetch.ErrBusy):
		code = protocol.CodeBusy
	case errors.Is(err, fetch.ErrTooLarge):
		code = protocol.CodeTooLarge
	}
	return protocol.Errorf(code, "%v", err)
}

func (n *submission) has(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.pins[text]
	return ok
}

// bring brings one module, or finds that the blob store has it from another time.
func (n *submission) bring(ctx context.Context, use *steering.ExternalUse) error {
	pinned, ok, err := n.session.Pin(ctx, use.External)
	if err != nil {
		return err
	}
	var pin protocol.ModulePin
	file := ""
	if ok {
		if pin, ok = n.server.fetched.find(pinned.String()); ok {
			stat, err := n.server.Blobs.Stat(pin.Digest)
			ok = err == nil && !stat.Missing
		}
	}
	if !ok {
		m, err := n.session.Module(ctx, use.External)
		if err != nil {
			return err
		}
		pin = protocol.ModulePin{Pinned: m.Pinned.String(), Digest: m.Digest, Size: m.Size, Path: m.Path}
		file = m.File
	}
	if use.Program && pin.Path == "" {
		return fmt.Errorf("%w: it is a folder; name the program behind a #, or give the module a class", fetch.ErrRefused)
	}
	pin.URL, pin.Where = use.Text, use.Where
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pins[use.Text] = pin
	if file != "" {
		n.files[pin.Digest] = file
	}
	return nil
}

// pinned are the pins of exactly what is named.
func (n *submission) pinned(uses []steering.ExternalUse) ([]protocol.ModulePin, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	pins := make([]protocol.ModulePin, 0, len(uses))
	for _, u := range uses {
		pin, ok := n.pins[u.Text]
		if !ok {
			return nil, false
		}
		pins = append(pins, pin)
	}
	return pins, true
}

// store keeps what was fetched, on a majority of coordinators, and returns the name
// of the pins; zero for no modules. It may be repeated.
func (n *submission) store(ctx context.Context, pins []protocol.ModulePin) (protocol.Digest, error) {
	if len(pins) == 0 {
		return protocol.Digest{}, nil
	}
	b, err := protocol.EncodeModulePins(pins)
	if err != nil {
		return protocol.Digest{}, err
	}
	name := protocol.DigestOf(b)
	owner := modulesOwner(name)
	distinct := map[protocol.Digest]protocol.ByteSize{}
	for _, p := range pins {
		distinct[p.Digest] = p.Size
	}
	for _, d := range slices.SortedFunc(maps.Keys(distinct), func(a, b protocol.Digest) int { return strings.Compare(a.Hex(), b.Hex()) }) {
		if err := n.storeOne(ctx, blob.Info{Digest: d, Size: distinct[d], Class: blob.Durable, Owner: owner}); err != nil {
			return name, err
		}
	}
	if _, err := n.server.keep(ctx, blob.Durable, owner, b); err != nil {
		return name, err
	}
	for _, p := range pins {
		n.server.fetched.keep(p)
	}
	return name, nil
}

func (n *submission) storeOne(ctx context.Context, info blob.Info) error {
	n.mu.Lock()
	file := n.files[info.Digest]
	n.mu.Unlock()
	in, err := os.Open(file)
	if file == "" {
		// It is here under another owner, or was a moment ago.
		in, err = os.Open(os.DevNull)
	}
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := n.server.Blobs.Put(ctx, info, in); err != nil {
		if file == "" && (errors.Is(err, blob.ErrSize) || errors.Is(err, blob.ErrDigest)) {
			return protocol.Errorf(protocol.CodeUnknown, "module %v was removed meanwhile; repeat", info.Digest)
		}
		return blobError(err)
	}
	return n.server.replicate(ctx, info, n.server.copies(info.Class))
}

// sweepAfter is how old the modules of a submission are that no dataset came of,
// before they are removed: longer than any submission takes.
const sweepAfter = time.Hour

// sweepModules removes modules that no dataset of the record names: their submission
// was refused at the end, or nobody knows what became of it. Every coordinator does
// so for its own copies.
func (s *Server) sweepModules(ctx context.Context, now time.Time) {
	named := map[string]bool{}
	s.Record.Read(func(m *state.Machine) {
		for d := range m.Datasets(0) {
			if !d.Facts.Modules.IsZero() {
				named[modulesOwner(d.Facts.Modules)] = true
			}
		}
	})
	removed := 0
	for cursor := ""; ctx.Err() == nil; {
		infos, next, err := s.Blobs.List(blob.Durable, cursor, inventoryMax)
		if err != nil {
			s.Logger.Warn("modules without a dataset not looked for", "err", err)
			return
		}
		for _, i := range infos {
			if !strings.HasPrefix(i.Owner, modulesPrefix) || named[i.Owner] || now.Sub(i.Added) < sweepAfter {
				continue
			}
			if err := s.Blobs.Delete(i.Digest, blob.Durable, i.Owner); err != nil {
				s.Logger.Warn("modules without a dataset stay", "digest", i.Digest, "err", err)
				continue
			}
			removed++
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if removed > 0 {
		s.Logger.Info("modules without a dataset removed", "blobs", removed)
	}
}

// modulePins are the external modules of a dataset.
func (s *Server) modulePins(ctx context.Context, name protocol.Digest) (*protocol.ModulePins, error) {
	if name.IsZero() {
		return &protocol.ModulePins{}, nil
	}
	b, err := s.documentText(ctx, name)
	if err != nil {
		return nil, err
	}
	return protocol.DecodeModulePins(b)
}

// checkGrown refuses jobs whose modules were not fetched when the dataset was submitted.
func (s *Server) checkGrown(ctx context.Context, d *state.Dataset, doc *steering.Document, total uint32) error {
	uses, problems := steering.Externals(doc, steering.CompileInput{Dataset: d.ID, Seed: d.Facts.Seed, JobCount: total, Options: optionsOf(d.Facts)})
	if problems.HasErrors() {
		return refuseProblems("steering", problems)
	}
	if len(uses) == 0 {
		return nil
	}
	pins, err := s.modulePins(ctx, d.Facts.Modules)
	if err != nil {
		return err
	}
	for _, u := range uses {
		if _, ok := pins.Find(u.Text); !ok {
			return protocol.Errorf(protocol.CodeBadRequest, "%s: with %d jobs it needs %s, which was not fetched when the dataset was submitted; submit the further jobs as a dataset of their own", u.Where, total, u.Text)
		}
	}
	return nil
}
