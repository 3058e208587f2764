package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"

	"floe/protocol"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func suspendCommand() *cobra.Command {
	return controlCommand("suspend", "Hold a dataset, or stop some of its tasks and end their running attempts")
}

func resumeCommand() *cobra.Command {
	return controlCommand("resume", "Let suspended tasks go on")
}

func resetCommand() *cobra.Command {
	return controlCommand("reset", "Run tasks again; without --state those in error")
}

// confirmAbove is how many tasks an action may move without a question.
const confirmAbove = 10_000

// controlCommand makes one of the verbs that change many tasks at once.
func controlCommand(action, short string) *cobra.Command {
	c := &cobra.Command{
		Use: action + " DATASET[.JOBS]", Short: short, Args: exactArgs("DATASET[.JOBS]"),
		Long: short + ".\n\nJOBS is a selection such as 7 or 0-9,12. What would change is counted first;\n" +
			"above 10,000 tasks the dataset's number must be typed, or --yes given.",
		RunE: func(c *cobra.Command, args []string) error { return control(c, action, args[0]) },
	}
	c.Flags().StringSlice("task", nil, "only tasks of these names")
	c.Flags().StringSlice("state", nil, "only tasks in these states")
	c.Flags().String("reason", "", "why, for the record")
	c.Flags().Bool("dry-run", false, "only count what would change")
	c.Flags().BoolP("yes", "y", false, "do not ask")
	outputFlag(c)
	return c
}

func control(c *cobra.Command, action, target string) error {
	number, jobs, _ := strings.Cut(target, ".")
	id, err := datasetArg(number)
	if err != nil {
		return err
	}
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	request := protocol.ActionRequest{Action: action, Jobs: jobs, Preview: true}
	request.Tasks, _ = c.Flags().GetStringSlice("task")
	request.Reason, _ = c.Flags().GetString("reason")
	states, _ := c.Flags().GetStringSlice("state")
	for _, word := range states {
		var s protocol.TaskState
		if err := s.UnmarshalText([]byte(word)); err != nil {
			return usageErrorf("%v", err)
		}
		request.States = append(request.States, s)
	}
	api, err := dial(c)
	if err != nil {
		return err
	}
	defer api.Close()
	path := fmt.Sprintf("/v1/datasets/%d/actions", id)
	var would protocol.ActionReply
	if err := api.call(c.Context(), http.MethodPost, path, &request, &would); err != nil {
		return err
	}
	dry, _ := c.Flags().GetBool("dry-run")
	yes, _ := c.Flags().GetBool("yes")
	if !dry {
		if would.Tasks > confirmAbove && !yes {
			if err := confirm(c, id, action, &would); err != nil {
				return err
			}
		}
		request.Preview = false
		if err := api.call(c.Context(), http.MethodPost, path, &request, &would); err != nil {
			return err
		}
	}
	if done, err := p.value(&would); done || err != nil {
		return err
	}
	if whole := jobs == "" && len(request.Tasks) == 0 && len(request.States) == 0; whole && !dry {
		switch action {
		case "suspend":
			p.line("dataset %d is suspended: nothing more of it is leased; what runs may finish", id)
			return nil
		case "resume":
			p.line("dataset %d goes on; tasks that were suspended one by one stay so", id)
			return nil
		}
	}
	verb := action + ": "
	if dry {
		verb = "would " + action + ": "
	}
	extra := ""
	if would.Descendants > 0 {
		extra = fmt.Sprintf(" (%d of them because they follow one that was reset)", would.Descendants)
	}
	p.line("%s%d tasks%s, %d running attempts ended", verb, would.Tasks, extra, would.Leases)
	return nil
}

// confirm asks a person on a terminal to type the dataset's number.
func confirm(c *cobra.Command, id protocol.DatasetID, action string, would *protocol.ActionReply) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usageErrorf("%s would change %d tasks; give --yes to do it without a question", action, would.Tasks)
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s changes %d tasks and ends %d running attempts. Type %d to go on: ", action, would.Tasks, would.Leases, id)
	line, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != fmt.Sprint(id) {
		return withExit(exitInterrupted, fmt.Errorf("nothing was changed"))
	}
	return nil
}

// datasetRetireCommand ends a dataset for good.
func datasetRetireCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "retire DATASET", Short: "End a dataset for good: what runs is withdrawn, and nothing of it runs ever again", Args: exactArgs("DATASET"),
		Long: "End a dataset for good: what runs is withdrawn, and nothing of it runs ever again. Its results,\n" +
			"history and statistics stay. There is no way back, so its number must be typed, or --yes given.",
		RunE: func(c *cobra.Command, args []string) error {
			id, err := datasetArg(args[0])
			if err != nil {
				return err
			}
			return withClient(c, func(p *printer, api *client) error {
				path := fmt.Sprintf("/v1/datasets/%d/actions", id)
				request := protocol.ActionRequest{Action: "retire", Preview: true}
				request.Reason, _ = c.Flags().GetString("reason")
				var reply protocol.ActionReply
				if err := api.call(c.Context(), http.MethodPost, path, &request, &reply); err != nil {
					return err
				}
				if yes, _ := c.Flags().GetBool("yes"); !yes {
					if err := confirm(c, id, "retire", &reply); err != nil {
						return err
					}
				}
				request.Preview = false
				if err := api.call(c.Context(), http.MethodPost, path, &request, &reply); err != nil {
					return err
				}
				if done, err := p.value(&reply); done || err != nil {
					return err
				}
				p.line("dataset %d is retired: %d tasks will not run, %d running attempts ended", id, reply.Tasks, reply.Leases)
				return nil
			})
		},
	}
	c.Flags().String("reason", "", "why, for the record")
	c.Flags().BoolP("yes", "y", false, "do not ask")
	outputFlag(c)
	return c
}
