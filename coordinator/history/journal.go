package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"floe/coordinator/boltfile"
	"floe/protocol"
)

// The journal on disk, one bolt file. Values are CBOR unless said otherwise; each is
// followed by its checksum (see checksum.go).
//
//	meta        "standing" → standing, "seals" → []Seal
//	journal     generation (its first log index, 8 bytes) → bucket of
//	              log index 8 ‖ ordinal 4 → row (see row.go)
//	statistics  dataset 4 ‖ name ‖ 0 ‖ task 2 → accumulator
//	totals      dataset 4 ‖ task 2 ‖ site → Totals
//
// One transaction writes the rows of some log entries, what follows from them in
// statistics and totals, and the standing. So whatever a crash leaves is the exact
// fold of the rows up to the standing, and no event is ever folded twice.
var (
	bucketMeta       = []byte("meta")
	bucketJournal    = []byte("journal")
	bucketStatistics = []byte("statistics")
	bucketTotals     = []byte("totals")

	keyStanding = []byte("standing")
	keySeals    = []byte("seals")
)

const (
	journalFile   = "journal.db"
	journalFormat = 2 // 1 had no checksums
)

func sealedDir(dir string) string { return filepath.Join(dir, "sealed") }

// standing is how far the ledger has come.
type standing struct {
	Format  uint32 `cbor:"1,keyasint"`
	Applied uint64 `cbor:"2,keyasint"`
	Gap     Gap    `cbor:"3,keyasint"`
}

func openJournal(path string) (db *bbolt.DB, err error) {
	err = boltfile.Guard(path, func() error { db, err = prepareJournal(path); return err })
	return db, err
}

func prepareJournal(path string) (*bbolt.DB, error) {
	if err := boltfile.Create(path, &bbolt.Options{Timeout: time.Second}); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: 5 * time.Second, FreelistType: bbolt.FreelistMapType,
		InitialMmapSize: 1 << 30, // address space only: growing would wait for readers
	})
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketMeta) != nil {
			return nil
		}
		for _, name := range [][]byte{bucketMeta, bucketJournal, bucketStatistics, bucketTotals} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		if _, err := tx.Bucket(bucketJournal).CreateBucket(generationName(0)); err != nil {
			return err
		}
		return errors.Join(
			store(tx.Bucket(bucketMeta), keyStanding, standing{Format: journalFormat}),
			store(tx.Bucket(bucketMeta), keySeals, []Seal(nil)))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare journal %s: %w", path, err), db.Close())
	}
	return db, nil
}

// loadJournal reads the standing, the keys of all rows and the names of the sealed
// files.
func loadJournal(db *bbolt.DB) (v *view, seals []Seal, err error) {
	v = &view{db: db}
	err = db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if protocol.Unmarshal(meta.Get(keyStanding), &v.standing) != nil { // as format 1 wrote it
			if v.standing, _, err = load[standing](meta, keyStanding); err != nil {
				return err
			}
		}
		if v.standing.Format != journalFormat {
			return fmt.Errorf("journal has format %d, this build reads %d", v.standing.Format, journalFormat)
		}
		if seals, _, err = load[[]Seal](meta, keySeals); err != nil {
			return err
		}
		all := tx.Bucket(bucketJournal)
		return all.ForEachBucket(func(name []byte) error {
			g := newGeneration(binary.BigEndian.Uint64(name))
			v.generations = append(v.generations, g)
			return all.Bucket(name).ForEach(func(at, value []byte) error {
				raw, err := checked(at, value)
				if err != nil {
					return err
				}
				r := row(raw)
				if err := r.check(); err != nil {
					return err
				}
				g.keys.Set(r.key())
				return nil
			})
		})
	})
	if err == nil && len(v.generations) == 0 {
		err = errors.New("journal has no generation")
	}
	return v, seals, err
}

func generationName(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// generationRows returns the rows of a generation, nil once it is sealed.
func generationRows(tx *bbolt.Tx, number uint64) *bbolt.Bucket {
	return tx.Bucket(bucketJournal).Bucket(generationName(number))
}

// removeUnnamed removes files that no journal names: a crash during sealing or
// Install leaves them.
func (l *Ledger) removeUnnamed(seals []Seal) error {
	named := make(map[string]bool, len(seals))
	for _, s := range seals {
		named[s.Digest.Hex()] = true
	}
	entries, err := os.ReadDir(sealedDir(l.config.Dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if named[e.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(sealedDir(l.config.Dir), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func load[T any](b *bbolt.Bucket, key []byte) (v T, ok bool, err error) {
	raw := b.Get(key)
	if raw == nil {
		return v, false, nil
	}
	return v, true, decode(key, raw, &v)
}

func store(b *bbolt.Bucket, key []byte, v any) error {
	raw, err := protocol.Marshal(v)
	if err != nil {
		return err
	}
	return put(b, key, raw)
}
