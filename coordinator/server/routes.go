package server

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	"floe/protocol"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// routes lists every verb. The people's verbs are served by huma, which checks
// their input and describes them in OpenAPI; the others are plain handlers.
func (s *Server) routes() error {
	routes := []route{
		{"POST /v1/pilots", false, s.enrol},
		{"POST /v1/pilots/renew", false, s.renew},
		{"POST /v1/pilots/exchange", false, s.exchange},
		{"POST /v1/sites", false, s.joinSite},
		{"POST /v1/sites/renew", false, s.renewSite},
		{"POST /v1/sites/launch", false, s.launch},
		{"POST /v1/sites/own", false, s.own},
		{"POST /v1/coordinators", false, s.joinCoordinator},
		{"POST /v1/coordinators/admit", false, s.admitCoordinator},
		{"GET /v1/coordinators/hashes", true, s.hashes},
		{"GET /v1/coordinators/history", true, s.historyStanding},
		{"GET /v1/coordinators/history/journal", true, s.historyJournal},
		{"GET /v1/coordinators/history/sealed/{digest}", true, s.historySealed},
		{"GET /v1/coordinators/blobs", true, s.listBlobs},
		{"PUT /v1/coordinators/logs", true, s.putLogs},
		{"GET /v1/blobs/{digest}", true, s.getBlob},
		{"PUT /v1/blobs/{digest}", true, s.putBlob},
		{"GET /v1/datasets/{dataset}/steering", false, s.steering},
		{"GET /v1/datasets/{dataset}/jobs/{job}/tasks/{task}/log", false, s.log},
		{"GET /v1/events", false, s.events},
		{"GET /v1/cluster/backup", false, s.backup},
		{"GET /metrics", true, s.metrics},
	}
	inner := http.NewServeMux()
	config := huma.DefaultConfig("floe", protocol.Version)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "/v1/openapi", "", "/v1/schemas"
	config.Transformers, config.CreateHooks = nil, nil
	api := humago.New(inner, config)
	// Huma takes a slice of small numbers for bytes in base64; its elements are words.
	api.OpenAPI().Components.Schemas.RegisterTypeAlias(reflect.TypeFor[[]protocol.TaskState](), reflect.TypeFor[[]string]())
	people(s, api, "POST", "/v1/datasets", "submit", "Submit a dataset", s.submit)
	people(s, api, "GET", "/v1/datasets", "datasets", "List datasets", s.datasets)
	people(s, api, "GET", "/v1/datasets/{dataset}", "dataset", "Show a dataset", s.dataset)
	people(s, api, "POST", "/v1/datasets/{dataset}/actions", "act", "Suspend, resume or reset", s.act)
	people(s, api, "POST", "/v1/datasets/{dataset}/jobs", "grow", "Add jobs to a dataset", s.grow)
	people(s, api, "GET", "/v1/datasets/{dataset}/jobs", "jobs", "List jobs", s.jobs)
	people(s, api, "GET", "/v1/datasets/{dataset}/jobs/{job}", "job", "Show a job", s.job)
	people(s, api, "GET", "/v1/datasets/{dataset}/tasks", "tasks", "List tasks", s.tasks)
	people(s, api, "GET", "/v1/datasets/{dataset}/jobs/{job}/tasks/{task}", "task", "Show a task and its attempts", s.task)
	people(s, api, "GET", "/v1/datasets/{dataset}/jobs/{job}/tasks/{task}/explain", "explain", "Say why a task is where it is", s.explain)
	people(s, api, "GET", "/v1/datasets/{dataset}/statistics", "statistics", "Sum up what the modules counted", s.statistics)
	people(s, api, "GET", "/v1/datasets/{dataset}/outputs", "outputs", "List permanent outputs", s.outputs)
	people(s, api, "GET", "/v1/pilots", "pilots", "List pilots", s.pilots)
	people(s, api, "POST", "/v1/pilots/{pilot}/actions", "act-on-pilot", "Drain or revoke a pilot", s.actOnPilot)
	people(s, api, "GET", "/v1/sites", "sites", "List sites", s.sites)
	people(s, api, "GET", "/v1/sites/{site}/explain", "explain-site", "Say what a site offers, what is launched there, and why no more", s.explainSite)
	people(s, api, "POST", "/v1/sites/{site}/actions", "act-on-site", "Pause, resume, drain, reclaim, stop or revoke a site", s.actOnSite)
	people(s, api, "GET", "/v1/sites/{site}/orders", "site-orders", "Show a site's policy and standing orders, and who has taken them", s.orders)
	people(s, api, "GET", "/v1/attempts", "ran", "Say whose payloads ran on a node at a moment", s.ran)
	people(s, api, "GET", "/v1/nodes", "nodes", "List nodes that are not in good standing", s.nodes)
	people(s, api, "POST", "/v1/sites/{site}/nodes", "act-on-node", "Exclude or release a node", s.actOnNode)
	people(s, api, "GET", "/v1/actions", "actions", "List what people did, newest first", s.actions)
	people(s, api, "GET", "/v1/users", "users", "List people", s.users)
	people(s, api, "POST", "/v1/users/{user}/actions", "act-on-user", "Disable or enable a person", s.actOnUser)
	people(s, api, "GET", "/v1/tokens", "tokens", "List tokens and invitations", s.tokens)
	people(s, api, "POST", "/v1/tokens/revoke", "revoke-token", "End a token or an invitation", s.revokeToken)
	people(s, api, "GET", "/v1/software", "list-software", "List the catalog of software", s.listSoftware)
	people(s, api, "POST", "/v1/software", "publish", "Publish a build of software", s.publish)
	people(s, api, "GET", "/v1/software/{name}/{version}", "show-software", "Show a version and what proves it", s.showSoftware)
	people(s, api, "POST", "/v1/software/{name}/{version}/actions", "act-on-software", "Retire or restore a version", s.actOnSoftware)
	people(s, api, "GET", "/v1/releases", "releases", "List which sites run which version of the pilot", s.listReleases)
	people(s, api, "POST", "/v1/releases", "release", "Give sites a version of the pilot, or take it back", s.setRelease)
	people(s, api, "GET", "/v1/publishers", "publishers", "List the keys that software may be signed with", s.publishers)
	people(s, api, "POST", "/v1/publishers", "put-publisher", "Make a publisher's key known, or revoke it", s.putPublisher)
	people(s, api, "GET", "/v1/cluster", "cluster", "Show the coordinators", s.cluster)
	people(s, api, "POST", "/v1/cluster/members", "add-member", "Invite a coordinator", s.addMember)
	people(s, api, "POST", "/v1/cluster/members/{node}/remove", "remove-member", "Remove a coordinator for good", s.removeMember)
	people(s, api, "POST", "/v1/cluster/leader", "transfer-leader", "Hand leadership over", s.transferLeader)
	people(s, api, "POST", "/v1/cluster/snapshot", "snapshot", "Write a snapshot of the record", s.snapshot)
	people(s, api, "POST", "/v1/cluster/format", "upgrade", "Raise the format of the record", s.upgrade)
	people(s, api, "POST", "/v1/tokens", "token", "Make a token", s.token)
	serve := func(w http.ResponseWriter, r *http.Request) error {
		inner.ServeHTTP(w, r)
		return nil
	}
	for path, item := range api.OpenAPI().Paths {
		for method, operation := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post} {
			if operation != nil {
				routes = append(routes, route{method + " " + path, operation.OperationID == "cluster", serve})
			}
		}
	}
	routes = append(routes, route{"GET /v1/openapi.json", true, serve})
	patterns := make([]string, 0, len(routes))
	for _, r := range routes {
		s.mux.Handle(r.pattern, s.admit(r))
		patterns = append(patterns, r.pattern)
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, protocol.Errorf(protocol.CodeNotFound, "no verb %s %s; GET /v1/openapi.json lists them", r.Method, r.URL.Path))
	})
	return s.Policy.Covers(patterns)
}

// people registers a verb with huma.
func people[I, O any](s *Server, api huma.API, method, path, id, summary string, handle func(context.Context, *I) (*O, error)) {
	huma.Register(api, huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, DefaultStatus: http.StatusOK},
		func(ctx context.Context, in *I) (*O, error) {
			out, err := handle(ctx, in)
			if err != nil {
				return nil, s.problem(id, err)
			}
			return out, nil
		})
}

// problem is an error as huma writes it: an RFC 9457 document.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	*refusal
}

// refusal is protocol.Error under a name that leaves its method in reach.
type refusal = protocol.Error

// GetStatus implements huma.StatusError.
func (p *problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *problem) ContentType(string) string { return "application/problem+json" }

func (s *Server) problem(verb string, err error) error {
	var refused *protocol.Error
	if !errors.As(err, &refused) {
		s.Logger.Error("request failed", "verb", verb, "err", err)
		refused = protocol.Errorf(protocol.CodeInternal, "internal error in %s; the coordinator's log has more", verb)
	}
	return &problem{Title: refused.Code.String(), Status: refused.Code.HTTPStatus(), refusal: refused}
}
