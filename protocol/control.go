package protocol

// NodeStanding is where a node stands, or its GPUs alone. Nodes in good standing
// that did not fail of late are not listed.
type NodeStanding struct {
	Site  SiteID `json:"site"`
	Host  string `json:"host"`
	GPUs  bool   `json:"gpus,omitempty" doc:"the standing is that of its GPUs alone"`
	State string `json:"state" doc:"watched (in good standing, failed of late), quarantined, canary, excluded"`
	// Since is when it came to the state, by the coordinators' clocks.
	Since    int64  `json:"since" doc:"unix milliseconds"`
	Left     int64  `json:"left_ms,omitempty" doc:"milliseconds of the cluster's time until the quarantine ends"`
	Reason   string `json:"reason,omitempty"`
	By       UserID `json:"by,omitempty" doc:"who excluded it"`
	Failures uint32 `json:"failures,omitempty" doc:"quick failures in a row"`
	Next     int64  `json:"next_ms,omitempty" doc:"milliseconds that the next quarantine would last, if longer than the first"`
	Pilots   int    `json:"pilots" doc:"pilots there now"`
}

// NodePage is a page of nodes by site, part and host.
type NodePage struct {
	Nodes []NodeStanding `json:"nodes"`
	Next  string         `json:"next,omitempty"`
}

// NodeAction is POST /v1/sites/{site}/nodes.
type NodeAction struct {
	Action string `json:"action" enum:"exclude,release" doc:"exclude: give it nothing until it is released; release: into good standing, its GPUs, too"`
	Host   string `json:"host" minLength:"1" maxLength:"256"`
	GPUs   bool   `json:"gpus,omitempty" doc:"exclude its GPUs alone"`
	Reason string `json:"reason,omitempty" maxLength:"512"`
}

// PilotAction is POST /v1/pilots/{pilot}/actions.
type PilotAction struct {
	Action string `json:"action" enum:"drain,undrain,revoke" doc:"drain: finish what it holds and leave; revoke: end what it holds and bar it"`
	Reason string `json:"reason,omitempty" maxLength:"512"`
}

// SiteAction is POST /v1/sites/{site}/actions.
type SiteAction struct {
	Action string `json:"action" enum:"pause,resume,drain,reclaim,stop,revoke" doc:"pause: no more pilots and tasks; drain: also have its pilots finish and leave; reclaim: have them save their work and be gone in a time; stop: the same at once; revoke: end what runs and bar its credentials"`
	Reason string `json:"reason,omitempty" maxLength:"512"`
	// Within is the time of a reclaim.
	Within Seconds `json:"within,omitempty" doc:"seconds, of a reclaim: 60 to 604800"`
}

// UserAction is POST /v1/users/{user}/actions.
type UserAction struct {
	Action string `json:"action" enum:"disable,enable" doc:"disable: refuse every token of theirs"`
	Reason string `json:"reason,omitempty" maxLength:"512"`
}

// RevokeRequest is POST /v1/tokens/revoke.
type RevokeRequest struct {
	// Digest is that of the token's secret, or enough of its first hexadecimal digits to
	// mean one token.
	Digest string `json:"digest" minLength:"8" maxLength:"71"`
	Reason string `json:"reason,omitempty" maxLength:"512"`
}

// DoneReply says what an action on a pilot, site, node, user or token did.
type DoneReply struct {
	Changed bool   `json:"changed" doc:"false: it was so already"`
	Detail  string `json:"detail" doc:"a sentence"`
	Pilots  int    `json:"pilots,omitempty" doc:"pilots that were told to drain, or barred"`
	Leases  int    `json:"leases,omitempty" doc:"running attempts ended"`
}

// TokenInfo is what the record knows of a token: never the token.
type TokenInfo struct {
	Digest      Digest `json:"digest" doc:"of its secret"`
	Kind        string `json:"kind" doc:"user, site or coordinator: what it lets in"`
	Name        string `json:"name" doc:"of the user, or of the site or coordinator invited"`
	Role        string `json:"role,omitempty"`
	Description string `json:"description,omitempty"`
	Created     int64  `json:"created,omitempty" doc:"unix milliseconds"`
	Left        int64  `json:"left_ms,omitempty" doc:"milliseconds of the cluster's time until it ends; absent: never"`
	Uses        uint32 `json:"uses,omitempty" doc:"left, of an invitation"`
}

// TokenList is a page of tokens: those of people by user, then invitations.
type TokenList struct {
	Tokens []TokenInfo `json:"tokens"`
	Next   string      `json:"next,omitempty"`
}

// UserInfo is one person.
type UserInfo struct {
	User     UserID    `json:"user"`
	Role     string    `json:"role"`
	Groups   []GroupID `json:"groups,omitempty"`
	Disabled bool      `json:"disabled,omitempty"`
	Created  int64     `json:"created" doc:"unix milliseconds"`
	Tokens   int       `json:"tokens" doc:"that are good now"`
}

// UserPage is a page of people by name.
type UserPage struct {
	Users []UserInfo `json:"users"`
	Next  string     `json:"next,omitempty"`
}

// ActionRecord is one control action, as it is kept for good.
type ActionRecord struct {
	Index  uint64 `json:"index" doc:"log index"`
	Time   int64  `json:"time" doc:"unix milliseconds"`
	Actor  UserID `json:"actor" doc:"a user, or a part of floe in angle brackets"`
	From   string `json:"from,omitempty" doc:"address"`
	Action string `json:"action"`
	Object string `json:"object"`
	Reason string `json:"reason,omitempty"`
	Result Code   `json:"result" doc:"ok, or why it was refused"`
	Answer string `json:"answer,omitempty"`
	Tasks  uint64 `json:"tasks,omitempty" doc:"moved"`
	Leases uint64 `json:"leases,omitempty" doc:"running attempts ended"`
}

// ActionPage is a page of control actions, newest first. With a filter a page may
// be short, even empty, and not be the last.
type ActionPage struct {
	Actions []ActionRecord `json:"actions"`
	Next    string         `json:"next,omitempty"`
}
