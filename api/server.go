package api

import (
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// What one connection may take before it is a call.
const (
	maxHeaderBytes = 64 << 10
	headerTimeout  = 5 * time.Second  // for the headers
	readTimeout    = 20 * time.Second // for headers and body
	writeTimeout   = 90 * time.Second // from the headers to the end of the answer; streams extend it
	idleTimeout    = 2 * time.Minute
	maxConnections = 16_384
)

// NewServer makes a server that bounds what slow and greedy clients take. Register API.Drain with its
// RegisterOnShutdown, and give it a listener with LimitConnections.
func NewServer(addr string, handler http.Handler) *http.Server {
	return &http.Server{
		Addr: addr, Handler: handler,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug), // mostly what clients do wrong
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		// OPTIONS * goes the way of every other request, instead of being answered by net/http.
		DisableGeneralOptionsHandler: true,
	}
}

// LimitConnections bounds how many connections a listener has open at once.
func LimitConnections(l net.Listener) net.Listener { return netutil.LimitListener(l, maxConnections) }
