package protocol

// PilotReleases answers GET /v1/releases: which version of the pilot which sites run.
type PilotReleases struct {
	Stable  string   `json:"stable" doc:"for every site that tries no other; empty before the first release"`
	Before  string   `json:"before,omitempty" doc:"what was stable before, and is again when it is taken back"`
	Tried   string   `json:"tried,omitempty" doc:"being tried; empty is none"`
	Sites   []SiteID `json:"sites,omitempty" doc:"that try it"`
	Percent uint8    `json:"percent,omitempty" doc:"of the others that try it"`
	Since   int64    `json:"since,omitempty" doc:"unix milliseconds of the last change"`

	Assigned []SiteRelease `json:"assigned"`
}

// SiteRelease is what one site runs.
type SiteRelease struct {
	Site    SiteID `json:"site"`
	Share   uint8  `json:"share" doc:"0 to 99: it belongs to N percent of the sites if it is below N"`
	Version string `json:"version,omitempty" doc:"empty: what the site has"`
	// Running are the pilots of the site by the version that they say they are.
	Running map[string]int `json:"running,omitempty"`
}

// ReleaseRequest is POST /v1/releases.
type ReleaseRequest struct {
	Version string   `json:"version,omitempty" maxLength:"128" doc:"of floe-pilot, as it was published"`
	Sites   []SiteID `json:"sites,omitempty" maxItems:"1000" doc:"that try it first"`
	Percent uint8    `json:"percent,omitempty" maximum:"100" doc:"of the other sites; 100 gives it to all"`
	Back    bool     `json:"back,omitempty" doc:"take back what is tried, or else what was released to all last"`
	Reason  string   `json:"reason,omitempty" maxLength:"4096"`
}
