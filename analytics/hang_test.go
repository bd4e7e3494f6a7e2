package analytics

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines/enginetest"
)

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
