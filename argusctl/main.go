// Command argusctl is the operators' CLI of ARGUS: it asks the ops API over HTTP and nothing else.
//
// One file a noun: the noun's command, and for each verb an options struct, a newCmd function and a run
// function. What holds for all of them stands in one place each: how things are printed in output.go, what exit
// codes mean in exit.go, how the server is talked to in client.go.
package main

import "os"

//go:generate go test -run ^TestReference$ -update .

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
