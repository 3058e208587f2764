package protocol

// JoinCoordinatorRequest turns a one-use token into a coordinator's identity
// (POST /v1/coordinators, server name enrol.<cluster>).
type JoinCoordinatorRequest struct {
	Secret string `cbor:"1,keyasint"`
	CSR    []byte `cbor:"2,keyasint"`
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

// AdmitRequest is how a coordinator that has its certificate asks for membership,
// or says that it moved (POST /v1/coordinators/admit, server name peer.<cluster>).
// Address is host:port of its API, Raft that of its Raft listener, as the others reach them.
type AdmitRequest struct {
	Address string `cbor:"1,keyasint"`
	Raft    string `cbor:"2,keyasint"`
}
