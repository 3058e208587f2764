package auth

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The files of a cluster's folder; see the package's doc.
const (
	rootFile    = "root.pem"
	rootKeyFile = "root.key"
	secretsFile = "secrets.cbor"
	chainFile   = "coordinator.pem"
	keyFile     = "coordinator.key"
)

// emptyDir makes the folder, or accepts one that holds nothing.
func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of keys: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("make folder of keys: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: it holds %s; keys are never overwritten", dir, entries[0].Name())
	}
	return nil
}

// writeFile replaces a file whole: temp beside it, sync, rename, sync of the folder.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write %s: sync folder: %w", path, err)
	}
	return nil
}

func writeKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func readKey(path string) (crypto.Signer, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s: no private key in PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a %T cannot sign", path, key)
	}
	return signer, nil
}

// LoadRoot reads the root's certificate and its key, which lies only in the folder of
// the coordinator that the cluster was made with, and may have been taken away.
func LoadRoot(dir string) (*x509.Certificate, crypto.Signer, error) {
	text, err := os.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		return nil, nil, fmt.Errorf("load root: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, nil, fmt.Errorf("load root: %s: no certificate in PEM", rootFile)
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("load root: %s: %w", rootFile, err)
	}
	key, err := readKey(filepath.Join(dir, rootKeyFile))
	if err != nil {
		return nil, nil, fmt.Errorf("load root: %w", err)
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(root.PublicKey) {
		return nil, nil, fmt.Errorf("load root: %s is not the key of %s", rootKeyFile, rootFile)
	}
	return root, key, nil
}
