//go:build bench

package writer

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// The figures of the writer (make bench). Ours and the reference take turns on one Postgres, several rounds of
// each, and the medians of the rounds are compared: what disturbs the machine disturbs both.

const (
	benchRounds = 5
	benchTime   = 2 * time.Second
)

func TestBenchFigures(t *testing.T) {
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	w := start(t, Config{URL: pg.APIURL, Logger: slog.New(slog.DiscardHandler)})

	var ours, inserts, copies []float64
	var oursOne, insertOne, oursTail, insertTail []float64
	for range benchRounds {
		ours = append(ours, appendRate(t, w, 256, benchTime))
		inserts = append(inserts, insertRate(t, pg.LoaderURL(t), 32, benchTime))
		copies = append(copies, copyRate(t, pg.LoaderURL(t), 100_000))
		a, b := latencies(t, w, pg.LoaderURL(t), benchTime)
		oursOne, insertOne = append(oursOne, a), append(insertOne, b)
		oursTail = append(oursTail, tail(64, 2000, benchTime, func(_ int, r *argus.Record) error {
			return w.Append(context.Background(), r, false)
		}))
		conns := inserters(t, pg.LoaderURL(t), 64)
		insertTail = append(insertTail, tail(64, 2000, benchTime, func(n int, r *argus.Record) error { return conns[n].insert(r) }))
		conns.close()
	}
	target := 2.5
	if fsync := fdatasync(t, t.TempDir()); fsync < 300*time.Microsecond {
		target = 4
	}
	figure("writer: committed rows/s, 256 callers, against INSERT + commit over 32 connections", median(ours), median(inserts), atLeast(target))
	figure("writer: committed rows/s, 256 callers, against one COPY", median(ours), median(copies), atLeast(0.75))
	figure("writer: one caller's latency, against INSERT + commit (µs)", median(oursOne), median(insertOne), atMost(1.5))
	figure("writer: p99 of a call's wait at 2000 calls/s over 64 callers, against INSERT + commit (µs)", median(oursTail), median(insertTail), atMost(1.5))
}

type bound struct {
	limit float64
	least bool
}

func atLeast(f float64) bound { return bound{f, true} }
func atMost(f float64) bound  { return bound{f, false} }

func figure(name string, ours, reference float64, b bound) {
	ratio := ours / reference
	sign, ok := "≤", ratio <= b.limit
	if b.least {
		sign, ok = "≥", ratio >= b.limit
	}
	verdict := "ok"
	if !ok {
		verdict = "MISS"
	}
	fmt.Printf("FIGURE\t%s\t%.0f\t%.0f\t%.2f\t%s %g×\t%s\n", name, ours, reference, ratio, sign, b.limit, verdict)
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// appendRate is rows a second through the writer.
func appendRate(t testing.TB, w *Writer, callers int, d time.Duration) float64 {
	var n atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range callers {
		wg.Go(func() {
			for i := 0; time.Since(begin) < d; i++ {
				if err := w.Append(context.Background(), exampleRecord(i), false); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(begin).Seconds()
}

// insertRate is the reference: one prepared INSERT and commit a call, over so many connections.
func insertRate(t testing.TB, url string, connections int, d time.Duration) float64 {
	var n atomic.Int64
	var wg sync.WaitGroup
	conns := inserters(t, url, connections)
	defer conns.close()
	begin := time.Now()
	for _, c := range conns {
		wg.Go(func() {
			for i := 0; time.Since(begin) < d; i++ {
				if err := c.insert(exampleRecord(i)); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(begin).Seconds()
}

// latencies are the medians of a lone caller's waits in microseconds, the writer's and an INSERT's, in turns.
func latencies(t testing.TB, w *Writer, url string, d time.Duration) (ours, reference float64) {
	c := newInserter(t, url, 0)
	defer c.conn.Close(context.Background())
	var a, b []float64
	for begin := time.Now(); time.Since(begin) < d; {
		r := exampleRecord(1)
		t0 := time.Now()
		if err := w.Append(context.Background(), r, false); err != nil {
			t.Fatal(err)
		}
		a = append(a, float64(time.Since(t0).Nanoseconds())/1000)
		r = exampleRecord(1)
		t0 = time.Now()
		if err := c.insert(r); err != nil {
			t.Fatal(err)
		}
		b = append(b, float64(time.Since(t0).Nanoseconds())/1000)
	}
	return median(a), median(b)
}

// tail is the 99th percentile, in microseconds, of calls that so many callers make at a fixed rate together.
func tail(callers, perSecond int, d time.Duration, call func(caller int, r *argus.Record) error) float64 {
	var mu sync.Mutex
	var all []float64
	var wg sync.WaitGroup
	period := time.Second * time.Duration(callers) / time.Duration(perSecond)
	begin := time.Now()
	for n := range callers {
		wg.Go(func() {
			var waits []float64
			for at := period * time.Duration(n) / time.Duration(callers); at < d; at += period {
				time.Sleep(time.Until(begin.Add(at)))
				r := exampleRecord(n)
				from := time.Now()
				if err := call(n, r); err != nil {
					panic(err)
				}
				waits = append(waits, float64(time.Since(from).Nanoseconds())/1000)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, waits...)
		})
	}
	wg.Wait()
	slices.Sort(all)
	return all[len(all)*99/100]
}

// inserter is one connection of the reference. It sends the columns in binary, as the writer does.
type inserter struct {
	conn   *pgconn.PgConn
	stmt   *pgconn.StatementDescription
	writer int64
	seq    int64
}

func newInserter(t testing.TB, url string, n int64) *inserter {
	ctx := context.Background()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	var places strings.Builder
	for i := 2; i <= copyColumnCount; i++ {
		fmt.Fprintf(&places, ", $%d", i)
	}
	stmt, err := conn.Prepare(ctx, "insert", `INSERT INTO argus.argus_audit_log (`+copyColumns+`) VALUES ($1`+
		places.String()+`)`, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &inserter{conn: conn, stmt: stmt, writer: time.Now().UnixNano() + n}
}

type connections []*inserter

func inserters(t testing.TB, url string, n int) (c connections) {
	for i := range n {
		c = append(c, newInserter(t, url, int64(i)))
	}
	return c
}

func (c connections) close() {
	for _, i := range c {
		i.conn.Close(context.Background())
	}
}

var binaryFormats = slices.Repeat([]int16{1}, copyColumnCount)

func (c *inserter) insert(r *argus.Record) error {
	c.seq++
	e := newEntry(r, false)
	tuple := appendTuple(nil, e, c.writer, c.seq, argus.Micros(time.Now()))
	e.recycle()
	_, err := c.conn.ExecStatement(context.Background(), c.stmt, values(tuple), binaryFormats, nil).Close()
	return err
}

// values cuts a tuple of COPY into its columns.
func values(tuple []byte) [][]byte {
	v := make([][]byte, 0, copyColumnCount)
	for tuple = tuple[2:]; len(tuple) > 0; {
		n := int32(binary.BigEndian.Uint32(tuple))
		tuple = tuple[4:]
		if n < 0 {
			v = append(v, nil)
			continue
		}
		v = append(v, tuple[:n:n])
		tuple = tuple[n:]
	}
	return v
}

// copyRate is the reference: the same rows, encoded beforehand, in one COPY and one commit.
func copyRate(t testing.TB, url string, rows int) float64 {
	ctx := context.Background()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	data := []byte(copyHeader)
	writer := time.Now().UnixNano()
	for i := range rows {
		e := newEntry(exampleRecord(i), false)
		data = appendTuple(data, e, writer, int64(i+1), argus.Micros(time.Now()))
		e.recycle()
	}
	data = append(data, copyTrailer...)
	begin := time.Now()
	if _, err := conn.CopyFrom(ctx, bytes.NewReader(data), copyInto(auditLog)); err != nil {
		t.Fatal(err)
	}
	return float64(rows) / time.Since(begin).Seconds()
}

// fdatasync is the median time of one on a file in dir.
func fdatasync(t testing.TB, dir string) time.Duration {
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var v []float64
	for range 200 {
		if _, err := f.Write(make([]byte, 8192)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := datasync(f); err != nil {
			t.Fatal(err)
		}
		v = append(v, float64(time.Since(begin)))
	}
	return time.Duration(median(v))
}

// BenchmarkWriter256 is for profiles: go test -tags bench -run '^$' -bench Writer256 -cpuprofile cpu.out ./writer
func BenchmarkWriter256(b *testing.B) { benchmarkWriter(b, 256) }

// BenchmarkWriter1 is one caller alone.
func BenchmarkWriter1(b *testing.B) { benchmarkWriter(b, 1) }

func benchmarkWriter(b *testing.B, callers int) {
	pg := enginetest.StartOwnPostgres(b, engines.PostgresConfig{})
	w := start(b, Config{URL: pg.APIURL, Logger: slog.New(slog.DiscardHandler)})
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := w.Append(context.Background(), exampleRecord(1), false); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
