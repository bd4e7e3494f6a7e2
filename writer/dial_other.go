//go:build !linux

package writer

import "syscall"

// setUserTimeout has no equivalent here; every round trip has its own deadline anyway.
func setUserTimeout(string, string, syscall.RawConn) error { return nil }
