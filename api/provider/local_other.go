//go:build !linux

package provider

import "errors"

// NewLocal needs Linux: only there can a process be told from a later one of the same number.
func NewLocal(LocalConfig) (Provider, error) {
	return nil, errors.New("the local provider needs Linux")
}

// StopLocalWorkers ends the local workers of a data folder: there are none on this system.
func StopLocalWorkers(string) (int, error) { return 0, nil }
