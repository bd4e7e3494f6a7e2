package analytics

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestFollowOverAHungPostgres: a server that accepts and never answers does not hold a stream for ever. Each step of a poll has its
// bound, and the stream goes on where it stood.
func TestFollowOverAHungPostgres(t *testing.T) {
	w := newWorld(t)
	proxy, through := enginetest.ProxyURL(t, w.pg.APIURL)
	pool := w.pg.Pool(t, through)
	log := &audittest.Buffer{}
	a := w.analytics(func(c *Config) { c.Postgres, c.Logger = pool, slog.New(slog.NewTextHandler(log, nil)) })
	id := w.openWriter()
	rng := rand.New(rand.NewPCG(5, 6))
	following, stop := context.WithCancel(ctx(t))
	defer stop()
	rows := make(chan argus.Record, 10)
	done := make(chan error, 1)
	started := make(chan struct{})
	begun := sync.OnceFunc(func() { close(started) })
	go func() {
		done <- a.Follow(following, argus.FollowRequest{}, func(e argus.FollowEvent) error {
			begun()
			if e.Record != nil {
				rows <- *e.Record
			}
			return nil
		})
	}()
	w.write(id, randomRecord(rng, time.Now()))
	<-started
	for len(rows) > 0 {
		<-rows
	}
	proxy.Freeze()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), "the live stream cannot read Postgres"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the poll waits for ever")
		}
	}
	want := randomRecord(rng, time.Now())
	w.write(id, want)
	proxy.Heal()
	for got := (argus.Record{}); got.ID != want.ID; {
		select {
		case got = <-rows:
		case err := <-done:
			t.Fatalf("the stream ended: %v", err)
		case <-time.After(time.Minute):
			t.Fatal("the stream does not go on")
		}
	}
	stop()
	<-done
}

// TestQuestionsOverAHungPostgres: a server that accepts and never answers ends no statement. A question gives it up by itself, long
// before its caller would: so the caller is told that the log cannot be read.
func TestQuestionsOverAHungPostgres(t *testing.T) {
	w := newWorld(t)
	proxy, through := enginetest.ProxyURL(t, w.pg.APIURL)
	pool := w.pg.Pool(t, through)
	a := w.analytics(func(c *Config) { c.Postgres = pool })
	caller, cancel := context.WithTimeout(ctx(t), time.Minute)
	defer cancel()
	proxy.Freeze()
	now := time.Now()
	for name, ask := range map[string]func() error{
		"a page": func() error {
			_, err := a.Search(caller, argus.SearchRequest{Filter: argus.Filter{Since: now.Add(-time.Hour), Until: now}})
			return err
		},
		"perf": func() error {
			_, err := a.Perf(caller, argus.PerfRequest{Filter: argus.Filter{Since: now.Add(-time.Hour), Until: now}})
			return err
		},
	} {
		err := ask()
		var known *argus.Error
		if !errors.As(err, &known) || known.Code != argus.CodeUnavailable || caller.Err() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
