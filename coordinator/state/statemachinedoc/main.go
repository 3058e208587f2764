// Command statemachinedoc writes docs/state-machine.md from the tables of
// coordinator/state. It is run by go generate in that folder.
package main

import (
	"log"
	"os"

	"floe/coordinator/state"
)

func main() {
	if err := os.WriteFile("../../docs/state-machine.md", state.Document(), 0o644); err != nil {
		log.Fatal(err)
	}
}
