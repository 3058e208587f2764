package main

import (
	"floe/pilot/library"

	"github.com/spf13/cobra"
)

// moduleStepCommand is what floe run calls itself with to run a predefined module
// under the limits of its task.
func moduleStepCommand() *cobra.Command {
	return &cobra.Command{
		Use: library.Command + " FILE", Short: "Run a predefined module, as the pilot does", Hidden: true, Args: exactArgs("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			return withExit(exitFailure, library.Main(c.Context(), args[0], c.OutOrStdout()))
		},
	}
}
