package blob

import "errors"

// The refusals. Each is wrapped with the digest, class or limit it is about.
var (
	// ErrNotFound: no reference names the blob.
	ErrNotFound = errors.New("no such blob")
	// ErrMissing: a reference names the blob, but this coordinator has no good copy;
	// ask a peer and put it again.
	ErrMissing = errors.New("blob is missing here")
	// ErrDigest: the bytes have another digest than announced.
	ErrDigest = errors.New("wrong digest")
	// ErrSize: there are more or fewer bytes than announced.
	ErrSize = errors.New("wrong size")
	// ErrTooLarge: the blob is over the largest size of its class.
	ErrTooLarge = errors.New("too large for its class")
	// ErrQuota: the class has no room for the blob.
	ErrQuota = errors.New("quota of the class is used up")
	// ErrWatermark: the disk is so full that only what exists is served.
	ErrWatermark = errors.New("disk is almost full")
	// ErrReference: the class is unknown, or the owner is empty or too long.
	ErrReference = errors.New("invalid reference")
)
