//go:build !unix

package replicator

import "net"

func setReadLowWater(net.Conn, int) bool { return false }
