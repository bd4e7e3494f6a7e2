package api

import (
	"log/slog"
	"net/http"
	"time"
)

// What one connection may take before it is a call.
const (
	maxHeaderBytes = 64 << 10
	headerTimeout  = 5 * time.Second  // for the headers
	readTimeout    = 20 * time.Second // for headers and body
	writeTimeout   = 90 * time.Second // from the headers to the end of the answer; streams extend it
	idleTimeout    = 2 * time.Minute
)

// NewServer makes a server that bounds what slow and greedy clients take. Register API.Drain with its
// RegisterOnShutdown, and give it a listener of API.Listener.
func NewServer(addr string, handler http.Handler) *http.Server {
	return &http.Server{
		Addr: addr, Handler: handler,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug), // mostly what clients do wrong
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ConnContext: withConnection,
		// OPTIONS * goes the way of every other request, instead of being answered by net/http.
		DisableGeneralOptionsHandler: true,
	}
}
