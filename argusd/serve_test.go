package main

import (
	"testing"
	"time"

	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestOpenPoolOnABusyMachine: a Postgres that takes longer to answer than a call gives it does not end a process that starts, while
// a wrong password does at once.
func TestOpenPoolOnABusyMachine(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	proxy, url := enginetest.ProxyURL(t, pg.APIURL)
	proxy.Freeze()
	defer time.AfterFunc(1500*time.Millisecond, proxy.Heal).Stop()
	pool, err := openPool(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	pool.Close()
	if pool, err := openPool(t.Context(), "postgres://argus_api:wrong"+url[len("postgres://argus_api:"):]); err == nil {
		pool.Close()
		t.Error("a wrong password is taken")
	}
}
