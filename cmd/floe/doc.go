// Command floe is everything people and daemons at rest run: coordinator,
// glidein pass and client.
//
// Each verb lives in the file named after it and holds flags, wiring and
// printing only. The verbs that ask a coordinator share client.go; output.go
// prints tables and JSON; exit.go holds the exit codes, which are a contract.
package main
