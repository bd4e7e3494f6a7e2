package sinktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/sink"
)

// Kit is a sink and its receiver, for Faults.
type Kit struct {
	Upstream string // host:port of the receiver
	Path     *Path  // the way to it; nil makes one

	// Open makes a sink that reaches the receiver at addr, and trusts the authority in the file ca.
	Open func(t *testing.T, addr, ca string) sink.Sink
	// Received gives what the receiver holds, a row or a manifest an element, in its order.
	Received func(t *testing.T) []string

	// Secrets must be in no error.
	Secrets []string
	// Once: a repetition overwrites, so the receiver holds each batch once.
	Once bool
	// Mingled: the receiver works at connections side by side. So rows of one that was cut off may be written among those of the next.
	Mingled bool
	// Huge is what the sink says to the largest row that the log can hold; 0 when it must arrive.
	Huge sink.Kind
	// Preamble is about how many bytes a sender has sent when it begins with the batch; 1500, of a handshake, without it.
	Preamble int
}

// Faults is the table of what befalls a batch on its way. Of each, Send says that the batch was not acknowledged,
// and the repetition arrives: every row at least once, in the order of its writer, and the same bytes.
func Faults(t *testing.T, k Kit) {
	if k.Preamble == 0 {
		k.Preamble = 1500
	}
	path := k.Path
	if path == nil {
		path = NewPath(t, k.Upstream)
	}
	seed := 10
	var said []string
	hear := func(err error) error {
		if err != nil {
			said = append(said, err.Error())
		}
		return err
	}
	faults := []struct {
		name  string
		fault Fault
	}{
		{"refused", Fault{Refuse: true}},
		{"killed before the batch", Fault{CutAt: k.Preamble / 2}},
		{"killed in the middle of the batch", Fault{CutAt: k.Preamble + 16<<10}},
		{"silent before the batch", Fault{StallAt: k.Preamble / 2}},
		{"silent in the middle of the batch", Fault{StallAt: k.Preamble + 16<<10}},
		{"cut off after acknowledging", Fault{DeafAt: k.Preamble + 16<<10}},
	}
	for _, f := range faults {
		seed++
		t.Run(f.name, func(t *testing.T) {
			s := k.Open(t, path.Addr, "ca.pem")
			defer s.Close()
			b := Batch(t, seed, 400, incompressible(seed))
			lines := bytes.Clone(b.Lines)
			path.Set(f.fault)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			err := hear(s.Send(ctx, b))
			cancel()
			path.Set(Fault{})
			if err == nil {
				t.Fatal("Send says that the batch was acknowledged")
			}
			if kind, _ := sink.KindOf(err); kind != sink.KindRetry {
				t.Fatalf("Send gives the batch up: %v", err)
			}
			again(t, s, b, hear)
			if !bytes.Equal(b.Lines, lines) {
				t.Fatal("Send changed the batch")
			}
			k.arrived(t, b)
		})
	}
	t.Run("a batch after the other", func(t *testing.T) {
		s := k.Open(t, path.Addr, "ca.pem")
		defer s.Close()
		for range 3 {
			seed++
			b := Batch(t, seed, 7, nil)
			again(t, s, b, hear)
			k.arrived(t, b)
		}
	})
	t.Run("no rows", func(t *testing.T) { // of a filtered stream: what was looked at, and nothing passed
		s := k.Open(t, path.Addr, "ca.pem")
		defer s.Close()
		seed++
		b := Batch(t, seed, 0, nil)
		b.Ranges = []argus.ManifestRange{{WriterID: int64(seed), From: 1, To: 5000}}
		again(t, s, b, hear)
	})
	t.Run("the largest row", func(t *testing.T) {
		s := k.Open(t, path.Addr, "ca.pem")
		defer s.Close()
		seed++
		b := Batch(t, seed, 1, largest)
		if k.Huge == 0 {
			again(t, s, b, hear)
			k.arrived(t, b)
			return
		}
		if kind, _ := sink.KindOf(hear(s.Send(context.Background(), b))); kind != k.Huge {
			t.Fatalf("it is of kind %d", kind)
		}
	})
	t.Run("a call that is over", func(t *testing.T) {
		s := k.Open(t, path.Addr, "ca.pem")
		defer s.Close()
		seed++
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if hear(s.Send(ctx, Batch(t, seed, 3, nil))) == nil || hear(s.Test(ctx)) == nil {
			t.Fatal("it went well")
		}
	})
	t.Run("test", func(t *testing.T) {
		s := k.Open(t, path.Addr, "ca.pem")
		defer s.Close()
		if err := hear(s.Test(context.Background())); err != nil {
			t.Fatal(err)
		}
		path.Set(Fault{Refuse: true})
		defer path.Set(Fault{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if hear(s.Test(ctx)) == nil {
			t.Fatal("it went well, and there is no receiver")
		}
	})
	t.Run("a receiver without a known certificate", func(t *testing.T) {
		other := t.TempDir()
		Authority(t, other)
		s := k.Open(t, path.Addr, other+"/ca.pem")
		defer s.Close()
		seed++
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := hear(s.Send(ctx, Batch(t, seed, 3, nil))); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Fatalf("Send says %v", err)
		}
	})
	for _, text := range said {
		for _, secret := range k.Secrets {
			if strings.Contains(text, secret) {
				t.Errorf("an error holds a secret: %s", text)
			}
		}
	}
}

// Quiet fails the test when a goroutine outlives it.
func Quiet(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// again sends the batch as the engine does, until the receiver acknowledges it.
func again(t *testing.T, s sink.Sink, b *sink.Batch, hear func(error) error) {
	t.Helper()
	for try := 0; ; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := hear(s.Send(ctx, b))
		cancel()
		if err == nil {
			return
		}
		if kind, _ := sink.KindOf(err); try == 5 || kind != sink.KindRetry {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// arrived waits until the receiver holds the batch: an acknowledgement may say that it was read, and not yet written.
func (k *Kit) arrived(t *testing.T, b *sink.Batch) {
	t.Helper()
	var err error
	for range 100 {
		if err = k.holds(k.Received(t), b); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal(err)
}

// holds checks that the receiver holds the batch: of each writer all rows in their order, lastly, and no torn row.
func (k *Kit) holds(received []string, b *sink.Batch) error {
	want, got := map[int64][]string{}, map[int64][]string{}
	for _, r := range b.Rows {
		want[r.Record.WriterID] = append(want[r.Record.WriterID], string(r.Line))
	}
	manifests := 0
	for _, line := range received {
		var key struct {
			WriterID int64  `json:"writer_id"`
			Batch    string `json:"batch"`
		}
		if err := json.Unmarshal([]byte(line), &key); err != nil {
			return fmt.Errorf("the receiver holds a torn row: %w in %.200q", err, line)
		}
		if key.Batch == b.Batch {
			manifests++
		}
		if want[key.WriterID] != nil {
			got[key.WriterID] = append(got[key.WriterID], line)
		}
	}
	if manifests == 0 {
		return errors.New("the receiver has no manifest of the batch")
	}
	for writer, rows := range want {
		n := len(got[writer])
		if k.Mingled {
			if !inOrder(got[writer], rows) {
				return fmt.Errorf("of writer %d the receiver holds %d rows, and not all of the batch's %d in their order", writer, n, len(rows))
			}
			continue
		}
		if n < len(rows) || !slices.Equal(got[writer][n-len(rows):], rows) {
			return fmt.Errorf("of writer %d the receiver holds %d rows, and they do not end with the batch's %d", writer, n, len(rows))
		}
		if k.Once && n != len(rows) {
			return fmt.Errorf("of writer %d the receiver holds %d rows for %d", writer, n, len(rows))
		}
	}
	return nil
}

// inOrder reports whether all rows are among got, in their order.
func inOrder(got, rows []string) bool {
	for _, line := range got {
		if len(rows) > 0 && line == rows[0] {
			rows = rows[1:]
		}
	}
	return len(rows) == 0
}

// incompressible gives each row texts that no compression makes small, so that a batch has a middle on its way.
func incompressible(seed int) func(*argus.Record) {
	return func(r *argus.Record) {
		r.Reason = fmt.Sprintf("%x", r.ComputeHash())
		r.UserAgent = fmt.Sprintf("%x %d", r.ComputeHash(), seed)
		r.PathParams, r.Workload = nil, nil
	}
}

// largest fills every text of the row.
func largest(r *argus.Record) {
	long := strings.Repeat("\x01é", 4000) // the control character becomes six bytes of JSON
	r.ActorID, r.ImpersonatorID, r.Scope, r.Route, r.UserAgent, r.ClientRequestID = long, long, long, long, long, long
	r.TraceID, r.Release, r.ErrorCode, r.Agent, r.Reason = long, long, long, long, long
	for i := range 20 {
		r.PathParams = append(r.PathParams, argus.PathParam{Name: fmt.Sprint(i, long), Value: long})
	}
	r.MakeStorable()
}
