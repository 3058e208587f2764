package auth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"log/slog"

	"floe/protocol"
)

// Secrets are what every coordinator of a cluster holds and nobody else. They
// travel to a joining coordinator over a connection whose server it has verified
// by its token, and lie in secrets.cbor.
type Secrets struct {
	Cluster string `cbor:"1,keyasint"`
	Root    []byte `cbor:"2,keyasint"` // certificate, DER
	Issuing []byte `cbor:"3,keyasint"` // certificate, DER
	// IssuingKey is the key of the issuing certificate, PKCS 8.
	IssuingKey []byte `cbor:"4,keyasint"`
	// Epoch is what passkeys derive from, Sealing what stored credentials are sealed
	// with, Address what coordinators share for QUIC (transport.ServerConfig).
	Epoch   [32]byte `cbor:"5,keyasint"`
	Sealing [32]byte `cbor:"6,keyasint"`
	Address [32]byte `cbor:"7,keyasint"`
}

// LogValue hides all of it.
func (Secrets) LogValue() slog.Value { return slog.StringValue("[secrets]") }

// Format hides all of it.
func (Secrets) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secrets]")) }

// parseSecrets reads what Cluster.Secrets writes.
func parseSecrets(b []byte) (*Secrets, error) {
	s := new(Secrets)
	if err := protocol.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("cluster secrets: %w", err)
	}
	if s.Epoch == [32]byte{} || s.Sealing == [32]byte{} || s.Address == [32]byte{} {
		return nil, fmt.Errorf("cluster secrets: a key is missing")
	}
	return s, nil
}

const passkeyPrefix = "floe_pk_" // so that scanners for leaked secrets find it

var passkeyText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Passkey derives the secret of one attempt from the epoch key:
//
//	HKDF-SHA256(key = epoch, salt = nonce,
//	  info = "floe passkey v1\0" ‖ dataset u32 ‖ job u32 ‖ task u16 ‖ index u64 ‖ ordinal u32 ‖ fingerprint)
//
// all big-endian. The nonce is that of the log entry that granted the lease, the
// fingerprint that of the pilot's key.
func Passkey(epoch [32]byte, task protocol.TaskID, lease protocol.LeaseID, fingerprint protocol.Digest, nonce [16]byte) protocol.Passkey {
	info := make([]byte, 0, 128)
	info = append(info, "floe passkey v1\x00"...)
	info = binary.BigEndian.AppendUint32(info, uint32(task.Dataset))
	info = binary.BigEndian.AppendUint32(info, uint32(task.Job))
	info = binary.BigEndian.AppendUint16(info, uint16(task.Task))
	id := lease.Bytes()
	info = append(append(info, id[:]...), fingerprint[:]...)
	// HKDF of one block (RFC 5869). crypto/hkdf takes 26 allocations for it, and every
	// task needs two passkeys.
	extracted := hmacSHA256(nonce[:], epoch[:])
	key := hmacSHA256(extracted[:], append(info, 1))
	text := make([]byte, len(passkeyPrefix), len(passkeyPrefix)+passkeyText.EncodedLen(len(key)))
	copy(text, passkeyPrefix)
	return protocol.Passkey(passkeyText.AppendEncode(text, key[:]))
}

// hmacSHA256 is HMAC-SHA-256 (RFC 2104) of a short message under a key of at most a
// block, without allocations.
func hmacSHA256(key, message []byte) [sha256.Size]byte {
	if len(key) > sha256.BlockSize || len(message) > hmacMessage {
		panic("hmacSHA256: key or message too long")
	}
	var inner [sha256.BlockSize + hmacMessage]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range sha256.BlockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	digest := sha256.Sum256(append(inner[:sha256.BlockSize], message...))
	copy(outer[sha256.BlockSize:], digest[:])
	return sha256.Sum256(outer[:])
}

// hmacMessage is the longest message of hmacSHA256.
const hmacMessage = 128

// Seal encrypts for the coordinators of the cluster. What is sealed for one
// purpose does not open for another, so sealed values cannot be exchanged.
func (s *Secrets) Seal(purpose string, plain []byte) []byte {
	return s.sealer().Seal(nil, nil, plain, []byte(purpose))
}

// Open decrypts what Seal made for the purpose.
func (s *Secrets) Open(purpose string, sealed []byte) ([]byte, error) {
	plain, err := s.sealer().Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return nil, fmt.Errorf("open sealed %s: damaged, or sealed by another cluster", purpose)
	}
	return plain, nil
}

func (s *Secrets) sealer() cipher.AEAD {
	block, err := aes.NewCipher(s.Sealing[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // AES has the block size of GCM
	}
	return aead
}

func drawKey() (key [32]byte) {
	_, _ = rand.Read(key[:]) // documented never to fail
	return key
}
