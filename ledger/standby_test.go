package ledger

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// TestSignsNoUnconfirmedTree: leaves that only the primary has are not signed, though they are visible. After a failover without
// them, a signed tree would be a fork.
func TestSignsNoUnconfirmedTree(t *testing.T) {
	w := ownWorld(t)
	writer := w.open()
	w.mustWrite(writer, 1, 20)
	s := w.sealer(w.config(filepath.Join(t.TempDir(), "anchor")))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	w.sealed()
	cancel()
	<-done

	signed := 0
	failpoint = func(place string) {
		if place == "signed" {
			signed++
		}
	}
	defer func() { failpoint = func(string) {} }()
	stall := func(names string) {
		if err := w.pg.Engine().Set(t.Context(), "synchronous_standby_names", names); err != nil {
			t.Fatal(err)
		}
		for is := "-"; is != names; time.Sleep(10 * time.Millisecond) {
			if err := s.pool.QueryRow(t.Context(), "SHOW synchronous_standby_names").Scan(&is); err != nil {
				t.Fatal(err)
			}
		}
	}
	stall("absent")
	short, end := context.WithTimeout(t.Context(), time.Second)
	defer end()
	if err := s.publish(short); err == nil || signed > 0 {
		t.Errorf("with no standby: signed %d times, %v", signed, err)
	}
	stall("")
	if err := s.publish(t.Context()); err != nil || signed != 1 {
		t.Errorf("with the standby back: signed %d times, %v", signed, err)
	}
}
