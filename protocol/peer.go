package protocol

// RecordHash is what a coordinator's record is known by at one log index.
type RecordHash struct {
	Index uint64 `cbor:"1,keyasint"`
	Hash  Digest `cbor:"2,keyasint"`
}

// HashesReply lets coordinators compare their records (GET
// /v1/coordinators/hashes?at=INDEX). Equal logs that were applied alike have equal
// hashes; unequal ones mean that a record has gone astray.
type HashesReply struct {
	Node    NodeID `cbor:"1,keyasint"`
	Applied uint64 `cbor:"2,keyasint"`
	// At is the chain at the index that was asked for; nil where it is not applied
	// yet, or too old.
	At *RecordHash `cbor:"3,keyasint,omitempty"`
	// Chain are values of the running hash over entries and events, at the first entry
	// from each multiple of 1,024 on, oldest first.
	Chain []RecordHash `cbor:"4,keyasint,omitempty"`
	// Checkpoints are digests of the whole record, right after checkpoint entries.
	Checkpoints []RecordHash `cbor:"5,keyasint,omitempty"`
}

// BlobReference is one reason why a coordinator keeps a file.
type BlobReference struct {
	Digest    Digest   `cbor:"1,keyasint"`
	Size      ByteSize `cbor:"2,keyasint"`
	Owner     string   `cbor:"3,keyasint"`
	AddedUnix int64    `cbor:"4,keyasint"`
	Failed    bool     `cbor:"5,keyasint,omitempty"`
}

// BlobsReply lists the files of a class that a coordinator has (GET
// /v1/coordinators/blobs?class=CLASS&cursor=CURSOR). Next is the cursor of the next
// page; empty at the end.
type BlobsReply struct {
	Blobs []BlobReference `cbor:"1,keyasint"`
	Next  []byte          `cbor:"2,keyasint,omitempty"`
}

// LogsRequest gives another coordinator copies of small logs (PUT /v1/coordinators/logs).
type LogsRequest struct {
	Logs []StoredLog `cbor:"1,keyasint"`
}

// StoredLog is a log of at most MaxReportLog bytes.
type StoredLog struct {
	Owner  string `cbor:"1,keyasint"`
	Data   []byte `cbor:"2,keyasint"`
	Failed bool   `cbor:"3,keyasint,omitempty"`
}

// HistoryReply says whether a coordinator's history can be copied (GET
// /v1/coordinators/history).
type HistoryReply struct {
	// Applied is the log index up to which it is durable.
	Applied uint64 `cbor:"1,keyasint"`
	// Incomplete says that it misses entries itself.
	Incomplete bool `cbor:"2,keyasint,omitempty"`
}
