//go:build noengines

package main

const withEngines = false
