package protocol

// JoinCoordinatorRequest turns a one-use token into a coordinator's identity
// (POST /v1/coordinators, server name enrol.<cluster>).
type JoinCoordinatorRequest struct {
	Secret string `cbor:"1,keyasint"`
	CSR    []byte `cbor:"2,keyasint"`
	// Address is host:port of the joiner's API, Raft that of its Raft listener, as
	// the other coordinators and the pilots reach them.
	Address string `cbor:"3,keyasint"`
	Raft    string `cbor:"4,keyasint"`
}

// JoinCoordinatorReply is the answer. Secrets is what every coordinator holds:
// the key of the certificate authority and those that passkeys derive from.
type JoinCoordinatorReply struct {
	Certificate []byte   `cbor:"1,keyasint"`
	Node        NodeID   `cbor:"2,keyasint"`
	Cluster     string   `cbor:"3,keyasint"`
	Secrets     []byte   `cbor:"4,keyasint"`
	Addresses   []string `cbor:"5,keyasint"`
}
