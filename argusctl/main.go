// Command argusctl is the operators' CLI of ARGUS: it asks the ops API over HTTP and nothing else.
//
// One file a noun: the noun's command, and for each verb an options struct, a newCmd function and a run function. What holds
// for all of them stands in one place each. File output.go prints, exit.go has the exit codes, and client.go talks to the
// server.
package main

import (
	"io"
	"log"
	"os"
)

//go:generate go test -run ^TestReference$ -update .

func main() {
	log.SetOutput(io.Discard) // net/http writes there what a peer did; a command says itself what went wrong
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
