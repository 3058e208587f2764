package protocol

// Member is one coordinator of the cluster.
type Member struct {
	ID      NodeID `json:"id"`
	Address string `json:"address" doc:"of the API"`
	Raft    string `json:"raft"`
	Voter   bool   `json:"voter" doc:"one that does not vote is catching up"`
	Leader  bool   `json:"leader"`
	Self    bool   `json:"self,omitempty"`
	// What the leader has heard of it.
	Healthy bool   `json:"healthy" doc:"the leader heard of it within the heartbeat timeout"`
	Behind  uint64 `json:"behind" doc:"log entries it lacks"`
	Contact int64  `json:"contact_ms" doc:"milliseconds since the leader heard of it; -1 is never"`
	// What it says of itself, for people.
	Status  *NodeStatus `json:"status,omitempty"`
	Problem string      `json:"problem,omitempty" doc:"why it could not be asked"`
}

// NodeStatus is how one coordinator stands, by its own word.
type NodeStatus struct {
	Version   string   `json:"version"`
	Supports  uint32   `json:"supports" doc:"newest format of the record that it can use"`
	Applied   uint64   `json:"applied" doc:"log index"`
	History   uint64   `json:"history" doc:"log index the ledger covers"`
	RSS       ByteSize `json:"rss" doc:"resident memory in bytes"`
	LogBytes  ByteSize `json:"log_bytes" doc:"size of the raft log on disk"`
	DiskFree  ByteSize `json:"disk_free" doc:"bytes free where it keeps its record"`
	DiskTotal ByteSize `json:"disk_total"`
	DiskLow   bool     `json:"disk_low,omitempty" doc:"too little is free to lead or to take submissions"`
}

// ClusterReply is GET /v1/cluster.
type ClusterReply struct {
	Cluster string `json:"cluster"`
	Node    NodeID `json:"node" doc:"that answers"`
	NodeStatus
	Leader  NodeID   `json:"leader,omitempty"`
	Term    uint64   `json:"term"`
	Format  uint32   `json:"format" doc:"of the record"`
	Members []Member `json:"members"`
	Queued  uint64   `json:"queued" doc:"tasks that may be pulled"`
	Running uint64   `json:"running" doc:"tasks leased"`
	Pilots  uint64   `json:"pilots"`
}

// AddMemberRequest is POST /v1/cluster/members: the invitation of a coordinator.
type AddMemberRequest struct {
	Node    NodeID  `json:"node" minLength:"1" maxLength:"128" doc:"a name that was never used in this cluster"`
	Address string  `json:"address" minLength:"1" maxLength:"256" doc:"host:port of its API, as others will reach it"`
	TTL     Seconds `json:"ttl,omitempty" doc:"how long the invitation is good; 0 is an hour"`
}

// AddMemberReply carries the invitation; it is shown once.
type AddMemberReply struct {
	Token   string `json:"token"`
	Expires int64  `json:"expires" doc:"unix milliseconds"`
	Command string `json:"command" doc:"to run on the new machine"`
}

// RemoveMemberRequest is POST /v1/cluster/members/{node}/remove.
type RemoveMemberRequest struct {
	Reason string `json:"reason,omitempty" maxLength:"512"`
	// Force removes also where what is left cannot write, and a name nobody knows.
	Force bool `json:"force,omitempty"`
}

// RemoveMemberReply says what is left.
type RemoveMemberReply struct {
	Node   NodeID `json:"node"`
	Voters int    `json:"voters" doc:"that are left"`
	Note   string `json:"note,omitempty" doc:"what to think of next"`
}

// TransferRequest is POST /v1/cluster/leader.
type TransferRequest struct {
	To NodeID `json:"to,omitempty" doc:"a voter; empty takes the one whose log is most complete"`
}

// TransferReply says who leads now.
type TransferReply struct {
	From   NodeID `json:"from"`
	Leader NodeID `json:"leader"`
	Term   uint64 `json:"term"`
}

// SnapshotReply is POST /v1/cluster/snapshot: the newest snapshot of the leader.
type SnapshotReply struct {
	Node  NodeID   `json:"node"`
	Index uint64   `json:"index" doc:"log index of the last entry in it"`
	Bytes ByteSize `json:"bytes"`
	Taken bool     `json:"taken" doc:"false: there was nothing new since the last one"`
}

// UpgradeRequest is POST /v1/cluster/format.
type UpgradeRequest struct {
	To uint32 `json:"to,omitempty" doc:"the format; 0 is the newest that the leader supports"`
}

// UpgradeReply says which format the record had, and has.
type UpgradeReply struct {
	From uint32 `json:"from"`
	To   uint32 `json:"to"`
}
