package main

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"floe/protocol"
	"floe/protocol/software"

	"github.com/spf13/cobra"
)

func softwareCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "software", Short: "Publish software, and see what is published",
		Long: "Publish software, and see what is published.\n\nA build is a tarball under a name, a version and a platform. It is signed by its publisher and\n" +
			"never changes. Trays name software as projects; see docs/software.md.",
	}
	c.AddCommand(softwareKeyCommand(), softwareTrustCommand(), softwareRevokeCommand(), publishersCommand(),
		publishCommand(), softwareListCommand(), softwareShowCommand(), softwareVerifyCommand(), softwareGetCommand(), softwareRetireCommand(), softwareReleaseCommand())
	return c
}

func softwarePath(name, version string) string {
	return "/v1/software/" + url.PathEscape(name) + "/" + url.PathEscape(version)
}

func softwareListCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "list [NAME]", Short: "List the catalog, or what a dataset was given of it", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if dataset, _ := c.Flags().GetUint32("dataset"); dataset != 0 {
				return listPinned(c, protocol.DatasetID(dataset))
			}
			q := listQuery(c)
			if len(args) > 0 {
				q.Set("name", args[0])
			}
			if all, _ := c.Flags().GetBool("all"); all {
				q.Set("all", "true")
			}
			return get(c, withQuery("/v1/software", q), func(p *printer, page *protocol.SoftwarePage) error {
				defer p.more(page.Next)
				return printSoftware(p, page.Software)
			})
		},
	}
	c.Flags().Bool("all", false, "retired builds, too")
	c.Flags().Uint32("dataset", 0, "list what this dataset was given when it was submitted")
	pageFlags(c)
	return c
}

func printSoftware(p *printer, list []protocol.Software) error {
	var rows [][]string
	for i := range list {
		x := &list[i]
		state := "active"
		if x.Retired != 0 {
			state = "retired"
		}
		rows = append(rows, []string{
			x.Build.Name, x.Build.Version, x.Build.Platform, state, string(x.Build.Publisher), x.Build.Size.String(), x.Build.Digest.String(), moment(x.Published),
		})
	}
	return p.rows([]string{"name", "version", "platform", "state", "publisher", "size", "digest", "published"}, rows)
}

// listPinned lists the builds that the tasks of a dataset may use. They are read from
// its bill, and verified.
func listPinned(c *cobra.Command, id protocol.DatasetID) error {
	return withClient(c, func(p *printer, api *client) error {
		var d protocol.Dataset
		if err := api.call(c.Context(), http.MethodGet, fmt.Sprintf("/v1/datasets/%d", id), nil, &d); err != nil {
			return err
		}
		builds := []protocol.SignedBuild{}
		if !d.Software.IsZero() {
			text, err := api.blob(c.Context(), d.Software, software.MaxBillBytes)
			if err != nil {
				return err
			}
			bill, err := software.DecodeBill(text)
			if err != nil {
				return err
			}
			trust, err := personTrust()
			if err != nil {
				return err
			}
			if builds, err = bill.Verified(trust); err != nil {
				return err
			}
		}
		if done, err := p.value(builds); done || err != nil {
			return err
		}
		var rows [][]string
		for i := range builds {
			b := &builds[i].Build
			rows = append(rows, []string{b.Name, b.Version, b.Platform, string(b.Publisher), b.Size.String(), b.Digest.String()})
		}
		return p.rows([]string{"name", "version", "platform", "publisher", "size", "digest"}, rows)
	})
}

// personTrust is what a person believes by their token: all that the cluster's root
// has certified.
func personTrust() (*software.Trust, error) {
	token, err := personToken()
	if err != nil {
		return nil, err
	}
	return &software.Trust{Cluster: token.Cluster, Pin: token.Pin}, nil
}

func softwareShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "show NAME VERSION", Short: "Show the builds of a version, or their files", Args: exactArgs("NAME", "VERSION"),
		Long: "Show the builds of a version, or their files.\n\nWith -o json the answer holds all that it takes to verify them: signatures, certificates and the root's certificate.",
		RunE: func(c *cobra.Command, args []string) error {
			files, _ := c.Flags().GetBool("files")
			platform, _ := c.Flags().GetString("platform")
			return withClient(c, func(p *printer, api *client) error {
				proof, err := api.proof(c.Context(), args[0], args[1], platform)
				if err != nil {
					return err
				}
				if files {
					return showFiles(c, p, api, proof)
				}
				if done, err := p.value(proof); done || err != nil {
					return err
				}
				for i := range proof.Software {
					x := &proof.Software[i]
					state := "active"
					if x.Retired != 0 {
						state = "retired " + moment(x.Retired)
					}
					p.line("%s %s for %s: %s", x.Build.Name, x.Build.Version, x.Build.Platform, state)
					rows := [][]string{
						{"digest", x.Build.Digest.String()},
						{"size", fmt.Sprintf("%v, %d files of %v unpacked", x.Build.Size, x.Build.Files, x.Build.Unpacked)},
						{"manifest", x.Build.Manifest.String()},
						{"published", moment(x.Published) + " by " + string(x.Build.Publisher)},
						{"signed with", x.Key.String()},
						{"kept at", firstOf(visible(x.URL), "the coordinators")},
					}
					if x.Group != "" {
						rows = append(rows, []string{"group", string(x.Group)})
					}
					if err := p.rows([]string{"", ""}, rows); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().Bool("files", false, "list the files of each build")
	c.Flags().String("platform", "", "only the build for this platform")
	outputFlag(c)
	return c
}

// showFiles lists the files of the builds by their manifests.
func showFiles(c *cobra.Command, p *printer, api *client, proof *protocol.SoftwareProof) error {
	type listed struct {
		Platform string          `json:"platform"`
		Files    []software.File `json:"files"`
	}
	var all []listed
	var rows [][]string
	for i := range proof.Software {
		b := &proof.Software[i].Build
		m, err := api.manifest(c.Context(), b)
		if err != nil {
			return err
		}
		all = append(all, listed{b.Platform, m.Files})
		for _, f := range m.Files {
			rows = append(rows, []string{b.Platform, f.Kind.String(), f.Size.String(), visible(f.Path), firstOf(f.Digest.String(), visible(f.Target), "-")})
		}
	}
	if done, err := p.value(all); done || err != nil {
		return err
	}
	return p.rows([]string{"platform", "kind", "size", "path", "digest or target"}, rows)
}

func softwareRetireCommand() *cobra.Command {
	c := actionCommand("retire NAME VERSION", "Keep a version from new datasets",
		"Datasets that were submitted with it go on, and can be grown and reset. Nothing is deleted.\n--undo lets new datasets have it again.", []string{"NAME", "VERSION"},
		func(args []string) string { return softwarePath(args[0], args[1]) + "/actions" },
		func(c *cobra.Command, _ []string, reason string) (any, error) {
			request := &protocol.SoftwareAction{Action: "retire", Reason: reason}
			request.Platform, _ = c.Flags().GetString("platform")
			if undo, _ := c.Flags().GetBool("undo"); undo {
				request.Action = "restore"
			}
			return request, nil
		})
	c.Flags().String("platform", "", "only the build for this platform")
	c.Flags().Bool("undo", false, "let new datasets have it again")
	return c
}

func publishersCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "publishers", Short: "List the keys that software may be signed with", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return get(c, "/v1/publishers", func(p *printer, list *protocol.PublisherList) error {
				var rows [][]string
				for i := range list.Publishers {
					x := &list.Publishers[i]
					state := "good"
					if x.Revoked != 0 {
						state = "revoked " + moment(x.Revoked)
					}
					until := "-"
					if c, err := x509.ParseCertificate(x.Certificate); err == nil {
						until = moment(c.NotAfter.UnixMilli())
					}
					rows = append(rows, []string{string(x.User), x.Key.String(), state, moment(x.Added), until})
				}
				return p.rows([]string{"publisher", "key", "state", "known since", "may publish until"}, rows)
			})
		},
	}
	outputFlag(c)
	return c
}

func softwareRevokeCommand() *cobra.Command {
	c := actionCommand("revoke KEY", "Let nothing more be published with a key, for good",
		"What was published with it stays; with --retire no new dataset can have it.\nKEY is as floe software publishers lists it.", []string{"KEY"},
		func([]string) string { return "/v1/publishers" },
		func(c *cobra.Command, args []string, reason string) (any, error) {
			request := &protocol.PutPublisherRequest{Reason: reason}
			request.Retire, _ = c.Flags().GetBool("retire")
			if err := request.Revoke.UnmarshalText([]byte(strings.TrimSpace(args[0]))); err != nil {
				return nil, usageErrorf("%v", err)
			}
			return request, nil
		})
	c.Flags().Bool("retire", false, "retire what was signed with it, too")
	return c
}
