package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"floe/protocol"

	"github.com/spf13/cobra"
)

func logsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "logs DATASET.JOB.TASK", Short: "Print the log of a task's newest attempt", Args: exactArgs("DATASET.JOB.TASK"),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := taskPath(args[0])
			if err != nil {
				return err
			}
			follow, _ := c.Flags().GetBool("follow")
			attempt, _ := c.Flags().GetUint32("attempt")
			api, err := dial(c)
			if err != nil {
				return err
			}
			defer api.Close()
			return printLog(c, api, path+"/log", attempt, follow)
		},
	}
	c.Flags().BoolP("follow", "f", false, "go on as the log grows, until the attempt ends")
	c.Flags().Uint32("attempt", 0, "of this attempt, counted from 1; default: the newest")
	return c
}

// followWait is how long one request waits for more of a live log, in seconds.
const followWait = 20

// printLog copies a log to standard output; one that is still growing is followed
// to its end where asked.
func printLog(c *cobra.Command, api *client, path string, attempt uint32, follow bool) error {
	q := url.Values{}
	if attempt > 0 {
		q.Set("attempt", fmt.Sprint(attempt))
	}
	begun := false
	for offset := int64(0); ; {
		q.Set("offset", fmt.Sprint(offset))
		if follow && begun {
			q.Set("wait", fmt.Sprint(followWait))
		}
		header, body, err := api.fetch(c.Context(), withQuery(path, q))
		var refused *protocol.Error
		if err != nil && begun && errors.As(err, &refused) && refused.Code == protocol.CodeNotFound {
			return nil // the attempt has ended and left no stored log
		}
		if err != nil {
			return err
		}
		live := header.Get("Floe-Live") == "yes"
		at, err := strconv.ParseInt(header.Get("Floe-Offset"), 10, 64)
		if err != nil {
			at = offset
		}
		if at > offset && offset > 0 {
			fmt.Fprintf(c.ErrOrStderr(), "floe: %d bytes of the log are not kept any more\n", at-offset)
		}
		n, err := io.Copy(terminalSafe{c.OutOrStdout()}, body)
		body.Close()
		if err != nil {
			return err
		}
		offset = at + n
		// A live log comes in pieces; without -f, print what there is and stop.
		if !live || !follow && n == 0 {
			return nil
		}
		begun = true
	}
}

// terminalSafe replaces control characters that a payload may have written for
// the terminal of whoever reads its log.
type terminalSafe struct{ w io.Writer }

func (t terminalSafe) Write(b []byte) (int, error) {
	clean := make([]byte, len(b))
	for i, x := range b {
		if x < 0x20 && x != '\n' && x != '\t' && x != '\r' || x == 0x7f {
			x = '?'
		}
		clean[i] = x
	}
	return t.w.Write(clean)
}
