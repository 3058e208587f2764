package main

import (
	"net/http"
	"time"

	"floe/protocol"

	"github.com/spf13/cobra"
)

func tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Make, list and end tokens"}
	create := &cobra.Command{
		Use: "create ROLE NAME", Short: "Make a token, shown once", Args: exactArgs("ROLE", "NAME"),
		Long: "Make a token, shown once.\n\nROLE is site or coordinator (an invitation, good once and for an hour), or\nviewer, producer, operator or admin (a person's token, good for 90 days).",
		RunE: func(c *cobra.Command, args []string) error {
			return withClient(c, func(p *printer, api *client) error {
				life, _ := c.Flags().GetDuration("ttl")
				request := protocol.TokenRequest{Role: args[0], Name: args[1], TTL: protocol.SecondsOf(life)}
				var reply protocol.TokenReply
				if err := api.call(c.Context(), http.MethodPost, "/v1/tokens", &request, &reply); err != nil {
					return err
				}
				if done, err := p.value(&reply); done || err != nil {
					return err
				}
				p.line("%s", reply.Token)
				if p.tty {
					p.line("good until %s; it is not shown again", time.UnixMilli(reply.Expires).UTC().Format(time.RFC3339))
				}
				return nil
			})
		},
	}
	create.Flags().Duration("ttl", 0, "how long it is good")
	outputFlag(create)
	c.AddCommand(create, tokenListCommand(), tokenRevokeCommand())
	return c
}
