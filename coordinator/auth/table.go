package auth

// Table is who may use which verb. What is not listed is refused to all.
var Table = []Rule{
	// Machines. Enrolling and joining are open to anonymous callers: the ticket or
	// token in the body decides.
	{Pattern: "POST /v1/pilots", Any: Anonymous},
	{Pattern: "POST /v1/pilots/renew", Any: Pilot},
	{Pattern: "POST /v1/pilots/exchange", Any: Pilot},
	{Pattern: "POST /v1/sites", Any: Anonymous},
	{Pattern: "POST /v1/sites/renew", Any: Site},
	{Pattern: "POST /v1/sites/launch", Any: Site},
	{Pattern: "POST /v1/sites/own", Any: Site},
	{Pattern: "POST /v1/coordinators", Any: Anonymous},
	{Pattern: "POST /v1/coordinators/admit", Any: Coordinator},
	{Pattern: "GET /v1/coordinators/hashes", Any: Coordinator},
	{Pattern: "GET /v1/coordinators/history", Any: Coordinator},
	{Pattern: "GET /v1/coordinators/history/journal", Any: Coordinator},
	{Pattern: "GET /v1/coordinators/history/sealed/{digest}", Any: Coordinator},
	{Pattern: "GET /v1/coordinators/blobs", Any: Coordinator},
	{Pattern: "PUT /v1/coordinators/logs", Any: Coordinator},

	// Files. What a pilot may store is bounded by the verb to its own attempts.
	{Pattern: "GET /v1/blobs/{digest}", Any: People | Machines},
	{Pattern: "PUT /v1/blobs/{digest}", Any: Producer | Operators | Pilot | Site | Coordinator},

	// People. Everybody who may look may look at everything: a federation shares
	// one queue, and explaining it needs the whole.
	{Pattern: "POST /v1/datasets", Any: Producer | Operators},
	{Pattern: "GET /v1/datasets", Any: People},
	{Pattern: "GET /v1/datasets/{dataset}", Any: People},
	{Pattern: "GET /v1/datasets/{dataset}/steering", Any: People},
	{Pattern: "POST /v1/datasets/{dataset}/actions", Any: Operators, Own: Producer},
	{Pattern: "GET /v1/datasets/{dataset}/jobs", Any: People},
	{Pattern: "POST /v1/datasets/{dataset}/jobs", Any: Operators, Own: Producer},
	{Pattern: "GET /v1/datasets/{dataset}/jobs/{job}", Any: People},
	{Pattern: "GET /v1/datasets/{dataset}/tasks", Any: People},
	{Pattern: "GET /v1/datasets/{dataset}/jobs/{job}/tasks/{task}", Any: People},
	{Pattern: "GET /v1/datasets/{dataset}/jobs/{job}/tasks/{task}/explain", Any: People},
	{Pattern: "GET /v1/datasets/{dataset}/jobs/{job}/tasks/{task}/log", Any: People},
	{Pattern: "GET /v1/datasets/{dataset}/statistics", Any: People},
	{Pattern: "GET /v1/datasets/{dataset}/outputs", Any: People},
	{Pattern: "GET /v1/pilots", Any: People},
	{Pattern: "POST /v1/pilots/{pilot}/actions", Any: Operators},
	{Pattern: "GET /v1/sites", Any: People},
	{Pattern: "GET /v1/sites/{site}/explain", Any: People},
	{Pattern: "POST /v1/sites/{site}/actions", Any: Operators},
	{Pattern: "GET /v1/sites/{site}/orders", Any: People},
	{Pattern: "GET /v1/attempts", Any: People},
	{Pattern: "GET /v1/nodes", Any: People},
	{Pattern: "POST /v1/sites/{site}/nodes", Any: Operators},
	{Pattern: "GET /v1/actions", Any: People},
	{Pattern: "GET /v1/cluster", Any: People | Machines},
	{Pattern: "POST /v1/cluster/members", Any: Admin},
	{Pattern: "POST /v1/cluster/members/{node}/remove", Any: Admin},
	{Pattern: "POST /v1/cluster/leader", Any: Operators},
	{Pattern: "POST /v1/cluster/snapshot", Any: Operators},
	{Pattern: "POST /v1/cluster/format", Any: Admin},
	{Pattern: "GET /v1/events", Any: People},
	{Pattern: "GET /v1/cluster/backup", Any: Admin},
	{Pattern: "GET /metrics", Any: People},
	{Pattern: "POST /v1/tokens", Any: Admin},
	{Pattern: "GET /v1/tokens", Any: Admin},
	{Pattern: "POST /v1/tokens/revoke", Any: Admin},
	{Pattern: "GET /v1/users", Any: Operators},
	{Pattern: "POST /v1/users/{user}/actions", Any: Admin},
	{Pattern: "GET /v1/openapi.json", Any: Everybody},

	// Software. A name is of whoever publishes under it first, and of a group; only
	// whoever has the root's key can certify a publisher's.
	{Pattern: "GET /v1/software", Any: People | Site},
	{Pattern: "GET /v1/software/{name}/{version}", Any: People | Site | Pilot},
	{Pattern: "POST /v1/software", Any: Operators, Own: Producer},
	{Pattern: "POST /v1/software/{name}/{version}/actions", Any: Operators, Own: Producer},
	{Pattern: "GET /v1/releases", Any: People | Site},
	{Pattern: "POST /v1/releases", Any: Operators},
	{Pattern: "GET /v1/publishers", Any: People | Site},
	{Pattern: "POST /v1/publishers", Any: Admin},
}
