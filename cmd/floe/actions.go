package main

import (
	"fmt"

	"floe/protocol"

	"github.com/spf13/cobra"
)

func actionsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "actions", Short: "List what people did, newest first", Args: exactArgs(),
		Long: "List every control action: who did what to what, from where, why, and what came of it. They are\nkept for good.",
		RunE: func(c *cobra.Command, _ []string) error {
			q := listQuery(c)
			for _, name := range []string{"dataset", "object", "actor"} {
				if f := c.Flags().Lookup(name); f.Changed {
					q.Set(name, f.Value.String())
				}
			}
			return get(c, withQuery("/v1/actions", q), func(p *printer, page *protocol.ActionPage) error {
				var rows [][]string
				for i := range page.Actions {
					a := &page.Actions[i]
					rows = append(rows, []string{
						moment(a.Time), visible(string(a.Actor)), a.From, a.Action, visible(a.Object), a.Result.String(), firstOf(visible(a.Reason), "-"), fmt.Sprint(a.Index),
					})
				}
				defer p.more(page.Next)
				return p.rows([]string{"time", "who", "from", "did", "to", "result", "reason", "log index"}, rows)
			})
		},
	}
	c.Flags().Int("dataset", 0, "only actions on this dataset")
	c.Flags().String("object", "", "only actions on this, as the list names it")
	c.Flags().String("actor", "", "only actions of this user")
	pageFlags(c)
	return c
}
