//go:build !unix

package wal

import "net"

func setReadLowWater(net.Conn, int) bool { return false }
