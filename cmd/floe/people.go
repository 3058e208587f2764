package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"floe/protocol"

	"github.com/spf13/cobra"
)

func userCommand() *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "List people, keep one out"}
	list := &cobra.Command{
		Use: "list", Short: "People, their roles and groups", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return get(c, withQuery("/v1/users", listQuery(c)), func(p *printer, page *protocol.UserPage) error {
				var rows [][]string
				for _, u := range page.Users {
					state := "active"
					if u.Disabled {
						state = "disabled"
					}
					groups := make([]string, len(u.Groups))
					for i, g := range u.Groups {
						groups[i] = string(g)
					}
					rows = append(rows, []string{string(u.User), u.Role, firstOf(strings.Join(groups, ","), "-"), state, fmt.Sprint(u.Tokens), moment(u.Created)})
				}
				defer p.more(page.Next)
				return p.rows([]string{"user", "role", "groups", "state", "tokens", "known since"}, rows)
			})
		},
	}
	pageFlags(list)
	verb := func(action, short, long string) *cobra.Command {
		return actionCommand(action+" USER", short, long, []string{"USER"},
			func(args []string) string { return "/v1/users/" + url.PathEscape(args[0]) + "/actions" },
			func(_ *cobra.Command, _ []string, reason string) (any, error) {
				return &protocol.UserAction{Action: action, Reason: reason}, nil
			})
	}
	c.AddCommand(list,
		verb("disable", "Refuse every token of a person", "What they submitted goes on. floe user enable undoes it."),
		verb("enable", "Let a disabled person in again", "The tokens that they had are good again, as far as they have not ended."))
	return c
}

func tokenListCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "Tokens of people, and invitations that are still good", Args: exactArgs(),
		Long: "List what is known of tokens: never the tokens themselves.",
		RunE: func(c *cobra.Command, _ []string) error {
			return get(c, withQuery("/v1/tokens", listQuery(c)), func(p *printer, page *protocol.TokenList) error {
				var rows [][]string
				for i := range page.Tokens {
					t := &page.Tokens[i]
					left := "never"
					if t.Left > 0 {
						left = (time.Duration(t.Left) * time.Millisecond).Round(time.Minute).String()
					}
					rows = append(rows, []string{t.Digest.Hex()[:16], t.Kind, t.Name, firstOf(t.Role, "-"), moment(t.Created), left, firstOf(visible(t.Description), "-")})
				}
				defer p.more(page.Next)
				return p.rows([]string{"digest", "kind", "name", "role", "made", "ends in", "description"}, rows)
			})
		},
	}
	pageFlags(c)
	return c
}

func tokenRevokeCommand() *cobra.Command {
	return actionCommand("revoke TOKEN|DIGEST", "End a token or an invitation",
		"Given the token itself, as text or as @ and a file that holds it, only its digest is sent.\nElse DIGEST is what floe token list shows, or its first 8 digits and more.", []string{"TOKEN|DIGEST"},
		func([]string) string { return "/v1/tokens/revoke" },
		func(_ *cobra.Command, args []string, reason string) (any, error) {
			digest := args[0]
			if strings.HasPrefix(digest, "@") || strings.HasPrefix(digest, "FLOE") {
				token, err := readToken(digest)
				if err != nil {
					return nil, err
				}
				digest = token.Secret.Digest().Hex()
			}
			return &protocol.RevokeRequest{Digest: digest, Reason: reason}, nil
		})
}
