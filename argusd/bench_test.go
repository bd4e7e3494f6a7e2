//go:build bench

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// The figures of the API as a whole process (make bench), of `argusd dev` with its copy to ClickHouse halted: that is
// other machines' work. Ours and the references take turns; the medians of the turns are compared.

const (
	benchTurns   = 5
	benchTime    = 3 * time.Second
	benchClients = 64
	benchRate    = 2000 // calls a second of all together
)

func TestBenchFigures(t *testing.T) {
	d := startDev(t)
	for _, child := range []string{"REPLICATOR", "CLICKHOUSE"} {
		pid := d.pid(child)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(pid, syscall.SIGCONT)
	}
	var tokens []string // a credential has a limit of its own
	for n := range 16 {
		tokens = append(tokens, d.newToken(fmt.Sprint("bench", n), "support-readonly"))
	}
	clients := make([]*http.Client, benchClients)
	for n := range clients {
		clients[n] = &http.Client{Transport: &http.Transport{}}
		defer clients[n].CloseIdleConnections()
	}
	get := func(path string) func(int) error {
		return func(n int) error { return benchGet(clients[n], "http://"+d.addr+path, tokens[n%len(tokens)], 200) }
	}
	inserters := benchInserters(t, d)

	var audited, plain, inserted, alone, beside []float64
	for range benchTurns {
		plain = append(plain, quantile(atRate(t, get("/livez")), 0.99))
		audited = append(audited, quantile(atRate(t, get("/v1/operators/me")), 0.99))
		inserted = append(inserted, quantile(atRate(t, func(n int) error { return inserters[n].insert() }), 0.99))
		alone = append(alone, goodCaller(t, d, tokens[0]))
		stop := badCallers(d)
		beside = append(beside, goodCaller(t, d, tokens[0]))
		stop()
	}
	added := median(audited) - median(plain)
	benchFigure(fmt.Sprintf("API: p99 added by authentication and audit, %d calls/s over %d connections, against INSERT + commit (µs)",
		benchRate, benchClients), added, median(inserted), 1.5)
	benchFigure("API: a good caller's median latency beside 64 connections of bad tokens, against alone (µs)",
		median(beside), median(alone), 1.1)
}

func benchFigure(name string, ours, reference, most float64) {
	verdict := "ok"
	if ours/reference > most {
		verdict = "MISS"
	}
	fmt.Printf("FIGURE\t%s\t%.0f\t%.0f\t%.2f\t≤ %g×\t%s\n", name, ours, reference, ours/reference, most, verdict)
}

func benchGet(client *http.Client, url, token string, want int) error {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if want != 0 && response.StatusCode != want {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// atRate has all clients call at benchRate together, and returns the latencies in microseconds.
func atRate(t *testing.T, call func(client int) error) []float64 {
	t.Helper()
	return atRateOf(t, benchRate, call)
}

func atRateOf(t *testing.T, rate int, call func(client int) error) []float64 {
	t.Helper()
	var mu sync.Mutex
	var all []float64
	var wg sync.WaitGroup
	period := time.Second * benchClients / time.Duration(rate)
	begin := time.Now()
	for n := range benchClients {
		wg.Go(func() {
			var mine []float64
			for at := period * time.Duration(n) / benchClients; at < benchTime; at += period {
				time.Sleep(time.Until(begin.Add(at)))
				from := time.Now()
				if err := call(n); err != nil {
					t.Error(err)
					return
				}
				mine = append(mine, float64(time.Since(from).Nanoseconds())/1000)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine[len(mine)/10:]...) // the first have their connections still to make
		})
	}
	wg.Wait()
	return all
}

// goodCaller is the median latency, in microseconds, of calls one after another with pauses.
func goodCaller(t *testing.T, d *devServer, token string) float64 {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var all []float64
	for begin := time.Now(); time.Since(begin) < benchTime; {
		from := time.Now()
		if err := benchGet(client, "http://"+d.addr+"/v1/operators/me", token, 200); err != nil {
			t.Fatal(err)
		}
		all = append(all, float64(time.Since(from).Nanoseconds())/1000)
		time.Sleep(5 * time.Millisecond)
	}
	return median(all)
}

// badCallers try a new bad token as soon as the one before is rejected, until stopped.
func badCallers(d *devServer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				benchGet(client, "http://"+d.addr+"/v1/operators/me", argus.NewSecret(argus.PATPrefix), 0)
			}
		})
	}
	time.Sleep(time.Second)
	return func() {
		cancel()
		wg.Wait()
	}
}

// benchInserter is one connection of the reference: a prepared INSERT of a row as the API writes it, into a plain table
// with the columns and indexes of the log.
type benchInserter struct {
	conn   *pgx.Conn
	values []any
	id     int
	writer int
	seq    int
	next   int64
}

const benchInsert = "bench"

func benchInserters(t *testing.T, d *devServer) (all []*benchInserter) {
	ctx := context.Background()
	for n := range benchClients {
		conn, err := pgx.Connect(ctx, d.env("admin.env", "ARGUS_POSTGRES_ADMIN_URL"))
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if _, err := conn.Exec(ctx, "CREATE TABLE argus.bench_reference (LIKE argus.argus_audit_log INCLUDING ALL)"); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { conn.Close(ctx) })
		i := &benchInserter{conn: conn, next: 1}
		rows, err := conn.Query(ctx, "SELECT * FROM argus.argus_audit_log LIMIT 1")
		if err != nil {
			t.Fatal(err)
		}
		var names, parameters []string
		for k, f := range rows.FieldDescriptions() {
			names = append(names, f.Name)
			parameters = append(parameters, fmt.Sprintf("$%d", k+1))
		}
		for rows.Next() {
			if i.values, err = rows.Values(); err != nil {
				t.Fatal(err)
			}
		}
		if err := rows.Err(); err != nil || i.values == nil {
			t.Fatal("no row to insert again", err)
		}
		i.id, i.writer, i.seq = slices.Index(names, "id"), slices.Index(names, "writer_id"), slices.Index(names, "seq")
		i.values[i.writer] = time.Now().UnixNano() + int64(n)
		if _, err := conn.Prepare(ctx, benchInsert, "INSERT INTO argus.bench_reference ("+strings.Join(names, ",")+
			") VALUES ("+strings.Join(parameters, ",")+")"); err != nil {
			t.Fatal(err)
		}
		all = append(all, i)
	}
	return all
}

func (i *benchInserter) insert() error {
	i.values[i.id], i.values[i.seq] = uuid.New(), i.next
	i.next++
	_, err := i.conn.Exec(context.Background(), benchInsert, i.values...)
	return err
}

func quantile(v []float64, q float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[int(float64(len(v))*q)]
}

func median(v []float64) float64 { return quantile(v, 0.5) }
