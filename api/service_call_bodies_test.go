package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/services"
)

// pattern gives n bytes that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i >> (i % 3 * 8))
	}
	return b
}

// unsized hides a body's length, so that it is sent in chunks.
type unsized struct{ io.Reader }

// TestDoorBodies: small bodies are held, large ones streamed; the row and the assertion have the digest of what was sent.
func TestDoorBodies(t *testing.T) {
	d := newDoor(t, "    body_limit: 8MiB\n    timeout: 2m")
	token := d.admin()
	for _, size := range []int{0, 1, 32 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 8 << 20} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprint(size, chunked), func(t *testing.T) {
				body := pattern(size)
				var reader io.Reader = bytes.NewReader(body)
				if chunked {
					reader = unsized{reader}
				}
				req, _ := http.NewRequest("POST", d.url+"/svc/billing/v1/invoices", reader)
				req.Header.Set("Authorization", "Bearer "+token)
				if chunked {
					req.Trailer = http.Header{services.BodyAssertionTrailer: {"forged"}}
				}
				resp, err := d.client.Do(req)
				d.must(err)
				resp.Body.Close()
				got, row := d.up.one(), d.row()
				if resp.StatusCode != 200 || got.body != string(body) || !row.BodyHashed || row.BodySHA256 != sha256.Sum256(body) || row.BodyBytes != int64(size) {
					t.Fatalf("%d, heard %d bytes, row %x %d", resp.StatusCode, len(got.body), row.BodySHA256, row.BodyBytes)
				}
				claims, trailer := d.claimsOf(got.header.Get("Argus-Assertion")), got.trailer.Get(services.BodyAssertionTrailer)
				sum := sha256.Sum256(body)
				if size <= 1<<20 {
					if claims.BodySHA256 != hex.EncodeToString(sum[:]) || trailer != "" || got.header.Get("Content-Length") != fmt.Sprint(size) {
						t.Errorf("%+v, trailer %q, %v", claims, trailer, got.header)
					}
					return
				}
				last := d.claimsOf(trailer)
				if claims.BodySHA256 != "" || last.BodySHA256 != hex.EncodeToString(sum[:]) || last.ID != claims.ID || last.URL != claims.URL {
					t.Errorf("%+v\n%+v", claims, last)
				}
			})
		}
	}
	// Larger than the service takes, found out on the way: it is cut off, and told so.
	resp := d.do(token, "POST", "/svc/billing/v1/invoices", unsized{bytes.NewReader(pattern(8<<20 + 1))})
	if row := d.row(); resp.status != 413 || resp.code() != argus.CodeBodyTooLarge || row.BodyHashed || row.Status != 413 || !d.audit.wasIntended(row.ID) {
		t.Errorf("%d %s, row %+v", resp.status, resp.body, row)
	}
	// The caller stops in the middle of a streamed body.
	conn, r := d.raw("POST /svc/billing/v1/invoices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nContent-Length: 3000000\r\n\r\n")
	conn.Write(pattern(2 << 20))
	conn.(*net.TCPConn).CloseWrite()
	line, _ := r.ReadString('\n')
	if row := d.row(); !strings.Contains(line, " 400 ") || row.ErrorCode != "body_incomplete" || row.BodyHashed || row.BodyBytes != 2<<20 {
		t.Errorf("%q, row %+v", line, row)
	}
}

// TestDoorAnswersEarly: a service that answers before it read the body, and one that answers 100 MiB.
func TestDoorAnswersEarly(t *testing.T) {
	big := int64(100 << 20)
	address := rawService(t, func(_ int, conn net.Conn) {
		head := readHead(conn)
		switch {
		case strings.HasPrefix(head, "POST /v1/invoices "):
			io.WriteString(conn, "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno")
			hang(conn)
		case strings.HasPrefix(head, "GET /v1/events"):
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", big)
			piece := make([]byte, 1<<20)
			for range big >> 20 {
				conn.Write(piece)
			}
		}
	})
	d := newDoorTo(t, address, "    body_limit: 64MiB", nil)
	token := d.admin()
	// A streamed body of which the last part never comes: the answer does not wait for it.
	conn, r := d.raw("POST /svc/billing/v1/invoices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nContent-Length: 30000000\r\n\r\n")
	conn.Write(pattern(1<<20 + 100))
	line, err := r.ReadString('\n')
	if row := d.row(); err != nil || !strings.Contains(line, " 409 ") || row.Status != 409 || row.BodyHashed || row.ErrorCode != "" {
		t.Errorf("%q %v, row %+v", line, err, row)
	}
	resp := d.do(token, "GET", "/svc/billing/v1/events", nil)
	if row := d.row(); resp.status != 200 || int64(len(resp.body)) != big || row.Status != 200 {
		t.Errorf("%d, %d bytes", resp.status, len(resp.body))
	}
	if used := d.api.door.memory.Used(); used != 0 {
		t.Errorf("%d bytes are held still", used)
	}
}

// TestDoorMemory: bodies and answers share one bound of memory, and give it back.
func TestDoorMemory(t *testing.T) {
	d := newDoor(t, "    answer_limit: 8MiB", func(c *Config) { c.heldMemory = 2 << 20 })
	token := d.admin()
	d.up.set(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 3<<20)) })
	for _, method := range []string{"GET", "POST"} {
		resp := d.do(token, method, "/svc/billing/v1/invoices", nil)
		if row := d.row(); resp.status != 503 || resp.code() != argus.CodeServiceBusy || resp.header.Get("Retry-After") == "" || row.ErrorCode != "service_busy" ||
			strings.Contains(string(resp.body), "may have happened") != (method == "POST") {
			t.Errorf("%s: %d %s", method, resp.status, resp.body)
		}
	}
	d.up.taken()
	d.api.door.memory = services.NewMemory(100 << 10) // for bodies
	if resp := d.do(token, "POST", "/svc/billing/v1/invoices", strings.Repeat("x", 200<<10)); resp.status != 503 || len(d.up.taken()) != 0 {
		t.Errorf("%d %s", resp.status, resp.body)
	}
	if row := d.row(); row.BodyHashed || d.audit.wasIntended(row.ID) {
		t.Errorf("row %+v", row)
	}
	eventually(t, "everything is given back", func() bool { return d.api.door.memory.Used() == 0 })
}

// TestDoorMemoryShares: one person whose answers are held, because the service does not end them, keeps no other out.
func TestDoorMemoryShares(t *testing.T) {
	d := newDoor(t, "    answer_limit: 8MiB\n    timeout: 30s", func(c *Config) { c.heldMemory = 8 << 20 })
	d.clerkScopes()
	hog, other := d.token("user_2ada"), d.token("user_2grace")
	going := make(chan struct{})
	d.up.set(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 1<<20))
		if r.URL.Query().Has("hang") {
			_ = http.NewResponseController(w).Flush()
			<-going
		}
	})
	var all sync.WaitGroup
	var refused atomic.Int64
	for range 9 {
		all.Go(func() {
			resp, err := d.try(hog, "GET", "/svc/billing/v1/invoices?hang", nil)
			if err != nil {
				t.Error(err)
			} else if resp.status == 503 {
				refused.Add(1)
			}
		})
	}
	eventually(t, "the memory of one person is full", func() bool { return refused.Load() > 0 && int64(d.service().UnderWay())+refused.Load() == 9 })
	if resp := d.do(other, "GET", "/svc/billing/v1/invoices", nil); resp.status != 200 {
		t.Errorf("another person: %d %s", resp.status, resp.body)
	}
	close(going)
	all.Wait()
	eventually(t, "everything is given back", func() bool { return d.api.door.memory.Used() == 0 })
}

// TestDoorHTTP2: TLS with HTTP/2 carries the same as plain HTTP/1, trailers and HEAD included. No call is sent twice, even
// when the service says that it did not look at one.
func TestDoorHTTP2(t *testing.T) {
	u := &upstream{t: t}
	u.server = httptest.NewUnstartedServer(http.HandlerFunc(u.serve))
	u.server.EnableHTTP2 = true
	u.server.StartTLS()
	t.Cleanup(u.server.Close)
	dir := t.TempDir()
	ca := writePEM(t, dir, u.server.Certificate().Raw)
	d := newDoorTo(t, u.server.URL, "    tls: {ca: "+ca+", server_name: example.com}\n    body_limit: 4MiB", u)
	token := d.admin()
	var proto atomic.Value
	u.set(func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto)
		h := w.Header()
		h.Set("Trailer", "X-Sum")
		h.Add("Trailer", "Set-Cookie")
		h.Set("Content-Length", "5")
		if r.Method != "HEAD" {
			io.WriteString(w, "hello")
		}
		h.Set("X-Sum", "17")
		h.Set("Set-Cookie", "stolen")
	})
	for _, path := range []string{"/v1/invoices", "/v1/events"} {
		for _, method := range []string{"GET", "HEAD"} {
			req, _ := http.NewRequest(method, d.url+"/svc/billing"+path, nil)
			req.Header.Set("Authorization", "Bearer "+token)
			resp, err := d.client.Do(req)
			d.must(err)
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			row := d.row()
			if err != nil || resp.StatusCode != 200 || proto.Load() != "HTTP/2.0" || row.Route != method+" /svc/billing"+path {
				t.Errorf("%s %s: %d %v, %v, row %s", method, path, resp.StatusCode, err, proto.Load(), row.Route)
			}
			if method == "GET" && (string(body) != "hello" || resp.Trailer.Get("X-Sum") != "17" || resp.Trailer.Get("Set-Cookie") != "") {
				t.Errorf("%s: %q, trailers %v", path, body, resp.Trailer)
			}
			if method == "HEAD" && (len(body) != 0 || resp.ContentLength != 5) {
				t.Errorf("HEAD %s: %q, length %d", path, body, resp.ContentLength)
			}
		}
	}
	u.set(nil)
	u.taken()
	for _, size := range []int{0, 10, 2 << 20} {
		resp := d.do(token, "POST", "/svc/billing/v1/invoices", string(pattern(size)))
		if got, row := u.one(), d.row(); resp.status != 200 || len(got.body) != size || row.BodySHA256 != sha256.Sum256(pattern(size)) {
			t.Errorf("%d bytes: %d, heard %d", size, resp.status, len(got.body))
		}
	}
	var times atomic.Int64
	u.set(func(w http.ResponseWriter, r *http.Request) { times.Add(1); panic(http.ErrAbortHandler) })
	for _, method := range []string{"GET", "POST"} {
		times.Store(0)
		resp := d.do(token, method, "/svc/billing/v1/invoices", nil, "Idempotency-Key", "again")
		if row := d.row(); resp.code() != argus.CodeServiceBroken || times.Load() != 1 || row.Status != 502 {
			t.Errorf("%s: %s, heard %d times", method, resp.body, times.Load())
		}
	}
}

// TestDoorBusy: a service with all its calls hanging lets some wait, tells the rest at once, and harms no other route.
func TestDoorBusy(t *testing.T) {
	d := newDoor(t, "    concurrency: 2\n    timeout: 20s", func(c *Config) { c.Limits = Limits{Calls: 10} })
	token := d.admin()
	going := make(chan struct{})
	d.up.set(func(w http.ResponseWriter, r *http.Request) { <-going })
	var all sync.WaitGroup
	statuses := make(chan int, 32)
	call := func() {
		resp, err := d.try(token, "GET", "/svc/billing/v1/invoices", nil)
		if err != nil {
			t.Error(err)
			return
		}
		statuses <- resp.status
	}
	for range 2 {
		all.Go(call)
	}
	eventually(t, "both are with the service", func() bool { return len(d.up.server.URL) > 0 && d.service().UnderWay() == 2 })
	// Three callers, so that with those that hang the places of the API suffice, also while an answered call leaves its own.
	left := make(chan struct{}, 20)
	for range 20 {
		left <- struct{}{}
	}
	close(left)
	for range 3 {
		all.Go(func() {
			for range left {
				call()
			}
		})
	}
	for range 20 {
		if status := <-statuses; status != 503 {
			t.Errorf("%d while the service is busy", status)
		}
		if resp := d.do(token, "GET", "/v1/operators/me", nil); resp.status != 200 {
			t.Errorf("another route: %d", resp.status)
		}
	}
	close(going)
	all.Wait()
	for range 2 {
		if status := <-statuses; status != 200 {
			t.Errorf("%d of a call that was with the service", status)
		}
	}
	busy := 0
	for _, row := range d.audit.taken() {
		if row.ErrorCode == "service_busy" && row.Status == 503 {
			busy++
		}
	}
	if busy != 20 || d.service().UnderWay() != 0 {
		t.Errorf("%d rows of busy ones", busy)
	}
}

func (d *doorHarness) service() *services.Running { return d.config.Services.Services()[0] }

// TestDoorStreams: events leave as they come, and the row is there before them. A stream ends with its caller, with its
// credential, and with the server.
func TestDoorStreams(t *testing.T) {
	d := newDoor(t, "", func(c *Config) { c.recheckEvery = 50 * time.Millisecond })
	d.clerkScopes()
	ended := make(chan struct{}, 8)
	d.up.set(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := 0; ; n++ {
			fmt.Fprintf(w, "data: %d\n\n", n)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				ended <- struct{}{}
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	for _, method := range []string{"GET /v1/events", "POST /v1/export"} {
		method, path, _ := strings.Cut(method, " ")
		for _, end := range []string{"caller", "credential"} {
			t.Run(method+" "+end, func(t *testing.T) {
				token := d.token("user_2ada")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, method, d.url+"/svc/billing"+path, nil)
				req.Header.Set("Authorization", "Bearer "+token)
				resp, err := d.client.Do(req)
				d.must(err)
				defer resp.Body.Close()
				line, err := bufio.NewReader(resp.Body).ReadString('\n')
				row := d.row()
				if err != nil || line != "data: 0\n" || row.Status != 200 || row.Service != "billing" || resp.Header.Get("Content-Type") != "text/event-stream" ||
					resp.Header.Get(argus.AuditIDHeader) != row.ID.String() || d.audit.wasIntended(row.ID) != (method == "POST") {
					t.Errorf("%q %v, row %+v", line, err, row)
				}
				if end == "caller" {
					cancel()
				} else {
					d.revoke(token)
				}
				<-ended
				if _, err := io.ReadAll(resp.Body); err == nil {
					t.Error("the stream looks complete")
				}
			})
		}
	}
	eventually(t, "places are given back", func() bool { return d.service().UnderWay() == 0 && d.api.limits.streams.total() == 0 })
}

// TestDoorStreamPlaces: a stream with effects for which there is no place is rejected before its service hears of it.
func TestDoorStreamPlaces(t *testing.T) {
	d := newDoor(t, "", func(c *Config) { c.Limits.StreamsEach = 1 })
	d.up.set(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	token := d.admin()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", d.url+"/svc/billing/v1/events", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := d.client.Do(req)
	d.must(err)
	defer resp.Body.Close()
	d.row()
	d.up.taken()
	no := d.do(token, "POST", "/svc/billing/v1/export", nil)
	if row := d.row(); no.status != 429 || row.Status != 429 || d.audit.wasIntended(row.ID) {
		t.Errorf("%d %s, row %+v", no.status, no.body, row)
	}
	if heard := d.up.taken(); len(heard) != 0 {
		t.Errorf("the service heard %+v", heard)
	}
}

type readDeadline struct {
	http.ResponseWriter
	at time.Time
}

func (r *readDeadline) SetReadDeadline(at time.Time) error {
	r.at = at
	return nil
}

// TestBodyEndsWithoutDeadline: the bound on reading a body that is streamed on does not outlive the body. It would end the
// stream that answers it.
func TestBodyEndsWithoutDeadline(t *testing.T) {
	w := &readDeadline{}
	b := &body{Reader: strings.NewReader("text"), control: http.NewResponseController(w), begun: time.Now(), grace: time.Second, most: time.Minute}
	if _, err := b.Read(make([]byte, 8)); err != nil || w.at.IsZero() {
		t.Fatal("a body is read without a bound", err)
	}
	if _, err := b.Read(make([]byte, 8)); err != io.EOF || !w.at.IsZero() {
		t.Errorf("%v, and reading ends at %v", err, w.at)
	}
}

// TestDoorUpgrade: a WebSocket passes both ways, and does not outlive its credential.
func TestDoorUpgrade(t *testing.T) {
	gone, full := make(chan struct{}, 4), make(chan struct{}, 1)
	address := rawService(t, func(_ int, conn net.Conn) {
		head := readHead(conn)
		_, protocol, asked := strings.Cut(head, "\r\nUpgrade: ")
		if !asked || strings.Contains(head, "Bearer") {
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			return
		}
		protocol, _, _ = strings.Cut(protocol, "\r\n") // a service that switches to any protocol it is asked for
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\nSec-WebSocket-Accept: x\r\nSet-Cookie: stolen\r\n\r\n")
		_ = conn.SetReadDeadline(time.Time{})
		if strings.Contains(head, "flood") {
			for {
				_ = conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
				if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
					full <- struct{}{}
					hang(conn)
					return
				}
			}
		}
		_, _ = io.Copy(conn, conn)
		gone <- struct{}{}
	})
	d := newDoorTo(t, address, "", nil, func(c *Config) { c.recheckEvery = 50 * time.Millisecond })
	d.clerkScopes()
	token := d.token("user_2ada")
	ask := func(path, protocol string) (net.Conn, *bufio.Reader, string) {
		conn, r := d.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n")
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := r.ReadString('\n')
			d.must(err)
			head += line
		}
		return conn, r, head
	}
	conn, r, head := ask("/svc/billing/v1/events", "websocket")
	row := d.row()
	if !strings.HasPrefix(head, "HTTP/1.1 101 ") || strings.Contains(head, "Cookie") || !strings.Contains(head, row.ID.String()) || row.Status != 101 {
		t.Fatalf("%s, row %+v", head, row)
	}
	io.WriteString(conn, "ping\n")
	if line, err := r.ReadString('\n'); err != nil || line != "ping\n" {
		t.Errorf("%q %v", line, err)
	}
	d.revoke(token)
	<-gone
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := r.ReadString('\n'); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("the caller's side: %v", err)
	}
	// On a route that is no stream the service never hears of the wish.
	token = d.token("user_2ada")
	if _, _, head = ask("/svc/billing/v1/invoices", "websocket"); !strings.HasPrefix(head, "HTTP/1.1 400 ") || d.row().Status != 400 {
		t.Error(head)
	}
	// Nor of one for a protocol in which other routes could be called.
	for _, protocol := range []string{"h2c", "TLS/1.0", "websocket, h2c", "h2c\r\nUpgrade: websocket"} {
		_, _, head = ask("/svc/billing/v1/events", protocol)
		if row := d.row(); !strings.HasPrefix(head, "HTTP/1.1 400 ") || row.Status != 400 {
			t.Errorf("Upgrade: %s: %s", protocol, head)
		}
	}
	// A caller that neither reads nor sends cannot outlive its credential.
	if _, _, head = ask("/svc/billing/v1/events?flood=1", "websocket"); !strings.HasPrefix(head, "HTTP/1.1 101 ") || d.row().Status != 101 {
		t.Fatal(head)
	}
	<-full
	d.revoke(token)
	eventually(t, "places are given back", func() bool { return d.service().UnderWay() == 0 && d.api.limits.streams.total() == 0 })
}

// TestDoorShutdown: a call that hangs in its service when the server is about to end gets its answer and its row.
func TestDoorShutdown(t *testing.T) {
	d := newDoor(t, "")
	token := d.admin()
	arrived := make(chan struct{})
	d.up.set(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	answered := make(chan *response)
	go func() {
		resp, _ := d.try(token, "POST", "/svc/billing/v1/invoices", nil)
		answered <- resp
	}()
	<-arrived
	d.api.Drain()
	d.api.cut() // a while later
	resp := <-answered
	if row := d.row(); resp == nil || resp.status != 504 || resp.code() != argus.CodeServiceTimeout || row.Status != 504 || !strings.Contains(string(resp.body), "ARGUS stops") {
		t.Errorf("%+v, row %+v", resp, row)
	}
}
