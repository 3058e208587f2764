package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/coordinator/auth"
	"floe/coordinator/blob"
	"floe/coordinator/history"
	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
)

// What carries a record into a cluster of its own, after a backup was restored or
// the majority was lost, keeps apart from whatever the old cluster has done since:
// its log begins far beyond, so that no LeaseID comes twice; every pilot is revoked,
// so that no attempt of before is accepted; and dataset numbers are skipped.
const (
	afreshIndexes  = 1 << 32 // log indexes left to the old cluster
	afreshDatasets = 1000    // dataset numbers left to it, by default
	afreshCommands = 1000    // in one entry
)

// AfreshConfig says what the first coordinator of the new cluster is.
type AfreshConfig struct {
	Dir         string // its directory
	Cluster     string // Restore only: the new cluster's name; empty is the old one's
	Node        protocol.NodeID
	Address     string // of the API
	RaftAddress string
	// SkipDatasets is how many dataset numbers may have been given out since; 0 is 1,000.
	SkipDatasets int
	Logger       *slog.Logger
}

// Afresh says what has become of a record.
type Afresh struct {
	Cluster string          `json:"cluster"`
	Node    protocol.NodeID `json:"node"`
	// Index is the last log index of the old cluster that is in it; Record and History
	// are the digests there, before anything was changed.
	Index   uint64          `json:"index"`
	Record  protocol.Digest `json:"record"`
	History protocol.Digest `json:"history"`
	// Pilots were revoked, and Leases of theirs ended; NextDataset is the next number.
	Pilots      int                `json:"pilots"`
	Leases      int                `json:"leases"`
	NextDataset protocol.DatasetID `json:"next_dataset"`
	Blobs       int                `json:"blobs"`
	// Token is the new administrator's (Restore only).
	Token protocol.Token `json:"-"`
}

// Restore makes the first coordinator of a new cluster of a backup, in a directory
// that is empty or does not exist. Before anything is changed record and history must
// have the digests that the manifest gives. The new cluster has an authority and keys
// of its own: nothing that the old one certified, no token and no passkey, is good
// in it. Errors: ErrBackup.
func Restore(ctx context.Context, c AfreshConfig, backup io.Reader) (*Afresh, error) {
	result, err := restore(ctx, c, backup)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return result, nil
}

func restore(ctx context.Context, c AfreshConfig, backup io.Reader) (_ *Afresh, err error) {
	if entries, err := os.ReadDir(c.Dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty; nothing is restored over what is there", c.Dir)
	}
	final := c.Dir
	c.Dir = filepath.Clean(final) + ".restoring"
	if err := os.RemoveAll(c.Dir); err != nil { // of a restore that was broken off
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(c.Dir))
		}
	}()
	manifest, err := ReadBackup(backup, func(name string, r io.Reader) error {
		path := filepath.Join(c.Dir, "restored", filepath.FromSlash(name))
		if rest, ok := strings.CutPrefix(name, "history/"); ok {
			path = filepath.Join(c.Dir, "history", filepath.FromSlash(rest))
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return writeTo(path, func(w io.Writer) error {
			_, err := io.Copy(w, r)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	a := afresh{config: c, result: Afresh{Cluster: c.Cluster, Node: c.Node, Index: manifest.Index}}
	if a.result.Cluster == "" {
		a.result.Cluster = manifest.Cluster
	}
	if err := a.load(ctx, manifest); err != nil {
		return nil, err
	}
	cluster, err := auth.InitCluster(KeysDir(c.Dir), a.result.Cluster, c.Node)
	if err != nil {
		return nil, err
	}
	a.result.Token = cluster.NewToken(protocol.TokenUser, c.Address)
	a.result.Token.ID = "admin"
	token := filepath.Join(c.Dir, "admin.token")
	if err := os.WriteFile(token, []byte(a.result.Token.Text()+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := a.blobs(ctx, manifest); err != nil {
		return nil, err
	}
	if err := a.begin(ctx, filepath.Join(c.Dir, "record")); err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(c.Dir, "restored")), os.Remove(final)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return &a.result, os.Rename(c.Dir, final)
}

// Recover makes a new cluster of one of the only coordinator that is left of an old
// one whose majority is lost for good. It takes all that is in this coordinator's
// log, also what was never acknowledged. Keys and tokens stay good; the others are
// removed by name. The old record stays beside the new one.
func Recover(ctx context.Context, c AfreshConfig) (*Afresh, error) {
	result, err := recoverAlone(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	return result, nil
}

func recoverAlone(ctx context.Context, c AfreshConfig) (*Afresh, error) {
	cluster, err := auth.LoadCluster(KeysDir(c.Dir))
	if err != nil {
		return nil, err
	}
	if err := checkEvidence(c.Dir); err != nil {
		return nil, err
	}
	c.Node = cluster.Node()
	record := filepath.Join(c.Dir, "record")
	if !replica.Exists(record) {
		return nil, fmt.Errorf("%w: %s is empty", replica.ErrRecordLost, record)
	}
	a := afresh{config: c, result: Afresh{Cluster: cluster.Name(), Node: c.Node}}
	if err := a.replay(ctx, record); err != nil {
		return nil, err
	}
	fresh := record + ".recovering"
	if err := os.RemoveAll(fresh); err != nil {
		return nil, err
	}
	if err := a.begin(ctx, fresh); err != nil {
		return nil, err
	}
	if err := auth.RenewEpoch(KeysDir(c.Dir)); err != nil {
		return nil, err
	}
	before := fmt.Sprintf("%s.before-%d", record, a.result.Index)
	return &a.result, errors.Join(os.Rename(record, before), os.Rename(fresh, record))
}

// afresh carries one record into a new cluster.
type afresh struct {
	config  AfreshConfig
	machine *machine
	chain   chain
	term    uint64 // the highest that is known of the old cluster
	result  Afresh
}

// load reads the record of a restored backup and compares it and the history with
// the manifest.
func (a *afresh) load(_ context.Context, m *Manifest) error {
	f, err := os.Open(filepath.Join(a.config.Dir, "restored", filepath.FromSlash(backupState)))
	if err != nil {
		return fmt.Errorf("%w: it holds no record: %w", ErrBackup, err)
	}
	var record *state.Machine
	a.chain, record, err = readState(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	a.machine = &machine{state: record, chain: a.chain, hashes: newHashes(), observe: func([]state.Event) {}}
	a.term = record.Term()
	a.result.Record = record.Snapshot().Digest()
	var applied uint64
	if a.result.History, applied, err = history.ReadStill(filepath.Join(a.config.Dir, "history")); err != nil {
		return err
	}
	switch {
	case a.result.Record != m.Record || record.Index() != m.Index:
		return fmt.Errorf("%w: the record restores to digest %v at %d, want %v at %d", ErrBackup, a.result.Record, record.Index(), m.Record, m.Index)
	case a.result.History != m.History || applied != m.Index:
		return fmt.Errorf("%w: history has digest %v at %d, want %v at %d", ErrBackup, a.result.History, applied, m.History, m.Index)
	}
	return nil
}

// replay applies what the directory of a stopped coordinator holds.
func (a *afresh) replay(ctx context.Context, record string) error {
	return a.withLedger(ctx, func(ledger *history.Ledger) error {
		a.machine = &machine{state: state.New(), hashes: newHashes(), ledger: ledger, observe: func([]state.Event) {}}
		// Oldest first: the last one that is whole stays, if the log goes on from there.
		var covered uint64
		var damage error
		err := replica.ReadSnapshots(record, func(index uint64, body io.Reader) error {
			if err := a.machine.Restore(body); err != nil {
				damage = err
			} else {
				covered = index
			}
			return nil
		})
		if err != nil {
			return err
		}
		log, err := replica.ReadLog(record)
		if err != nil {
			return err
		}
		if len(log) > 0 && log[0].Index > covered+1 || len(log) == 0 && damage != nil {
			return errors.Join(fmt.Errorf("%w: the newest good snapshot ends at %d and the log does not go on from there", replica.ErrDamaged, covered), damage)
		}
		a.term = a.machine.state.Term()
		for _, e := range log {
			a.term = max(a.term, e.Term)
			if e.Data == nil || e.Index <= a.machine.state.Index() {
				continue
			}
			if _, err := a.machine.Apply(e.Index, e.Term, e.Data); err != nil {
				return err
			}
		}
		a.result.Index = a.machine.state.Index()
		a.result.Record = a.machine.state.Snapshot().Digest()
		still, err := ledger.Still(ctx, a.result.Index)
		if err != nil {
			return err
		}
		defer still.Close()
		a.result.History, err = still.Digest()
		return err
	})
}

// withLedger runs do with the ledger open and written.
func (a *afresh) withLedger(ctx context.Context, do func(*history.Ledger) error) error {
	ledger, err := history.Open(history.Config{Dir: filepath.Join(a.config.Dir, "history"), Logger: a.config.Logger})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- ledger.Run(running) }()
	err = do(ledger)
	stop()
	return errors.Join(err, <-ended, ledger.Close())
}

// blobs puts the files of a backup into the store.
func (a *afresh) blobs(ctx context.Context, m *Manifest) error {
	// What the backup holds was within the limits of its cluster, which may be others.
	limits := map[blob.Class]blob.Limit{}
	for _, class := range blob.Classes {
		limits[class] = blob.Limit{Quota: protocol.MaxByteSize, MaxSize: protocol.MaxByteSize}
	}
	store, err := blob.Open(blob.Config{Dir: filepath.Join(a.config.Dir, "blobs"), Logger: a.config.Logger, Limits: limits})
	if err != nil {
		return err
	}
	for _, b := range m.Blobs {
		if err := a.blob(ctx, store, &b); err != nil {
			return errors.Join(fmt.Errorf("file %v: %w", b.Digest, err), store.Close())
		}
		a.result.Blobs++
	}
	return store.Close()
}

func (a *afresh) blob(ctx context.Context, store *blob.Store, b *ManifestBlob) error {
	class, err := blob.ParseClass(b.Class)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	f, err := os.Open(filepath.Join(a.config.Dir, "restored", "blobs", b.Digest.Hex()))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	fi, err := f.Stat()
	if err == nil {
		info := blob.Info{Digest: b.Digest, Size: protocol.ByteSize(fi.Size()), Class: class, Owner: b.Owner, Added: b.Added}
		if _, err = store.Refer([]blob.Info{info}); err == nil { // keeps its age
			_, err = store.Put(ctx, info, f)
		}
	}
	return errors.Join(err, f.Close())
}

// begin ends what the old cluster had under way and writes the replica's directory
// of the new one.
func (a *afresh) begin(ctx context.Context, dir string) error {
	return a.withLedger(ctx, func(ledger *history.Ledger) error {
		a.machine.ledger = ledger
		index := a.result.Index + afreshIndexes
		a.term++
		for chunk := range slices.Chunk(a.commands(), afreshCommands) {
			if err := a.apply(index, chunk); err != nil {
				return err
			}
			index++
		}
		a.result.NextDataset = a.machine.state.NextDataset()
		snapshot, err := a.machine.Snapshot()
		if err != nil {
			return err
		}
		self := replica.Member{ID: a.config.Node, Address: a.config.RaftAddress, Voter: true}
		if err := replica.Seed(dir, self, a.machine.state.Index(), a.term, snapshot); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(a.config.Dir, memberFile), []byte(string(a.config.Node)+"\n"), 0o600)
	})
}

// commands are what makes the record a new cluster's.
func (a *afresh) commands() (all []state.Command) {
	m := a.machine.state
	by := state.Action{Actor: "<operator>", Reason: fmt.Sprintf("a new cluster begins after log index %d of an old one", a.result.Index)}
	for p := range m.Pilots("") {
		if !p.Revoked {
			all = append(all, &state.RevokePilot{By: by, Pilot: p.ID})
			a.result.Pilots++
			a.result.Leases += len(p.Leases)
		}
	}
	ends := map[protocol.SiteID]*state.EndLaunches{}
	for l := range m.Launches() {
		if l.Pilot != "" {
			continue // it ends with its pilot
		}
		if ends[l.Site] == nil {
			ends[l.Site] = &state.EndLaunches{Site: l.Site, Reason: "the cluster is a new one"}
			all = append(all, ends[l.Site])
		}
		ends[l.Site].Launches = append(ends[l.Site].Launches, l.ID)
	}
	skip := protocol.DatasetID(a.config.SkipDatasets)
	if skip == 0 {
		skip = afreshDatasets
	}
	all = append(all, &state.SkipDatasets{By: by, Next: m.NextDataset() + skip})
	for x := range m.Members() {
		if x.Node != a.config.Node && x.Removed == 0 {
			all = append(all, &state.RemoveMember{By: by, Node: x.Node})
		}
	}
	all = append(all, &state.PutMember{Node: a.config.Node, Address: a.config.Address, Raft: a.config.RaftAddress})
	if t := a.result.Token; t.Secret != "" {
		user := protocol.UserID(t.ID)
		if _, known := m.User(user); !known {
			all = append(all, &state.PutUser{By: by, User: user, Role: "admin"})
		}
		all = append(all, &state.PutToken{By: by, Hash: t.Secret.Digest(), User: user, Role: "admin", Description: "made by floe cluster restore"})
	}
	return all
}

// apply applies commands as one entry of the new cluster's log.
func (a *afresh) apply(index uint64, commands []state.Command) error {
	e := state.Entry{Term: a.term, Wall: state.UnixMillis(time.Now().UnixMilli())}
	for _, c := range commands {
		if err := c.Validate(); err != nil {
			return fmt.Errorf("%T: %w", c, err)
		}
		b, err := state.EncodeCommand(c)
		if err != nil {
			return err
		}
		e.Commands = append(e.Commands, b)
	}
	answers, err := a.machine.Apply(index, a.term, state.EncodeEntry(&e))
	if err != nil {
		return err
	}
	for i, answer := range answers {
		if refusal, ok := answer.(state.Answer); ok && refusal.Err() != nil {
			return fmt.Errorf("%T: %w", commands[i], refusal.Err())
		}
	}
	return nil
}
