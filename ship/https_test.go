package ship

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// receiver is an HTTPS receiver that fails in every way. It keeps what it acknowledged, in its order.
type receiver struct {
	t      testing.TB
	server *httptest.Server

	mu     sync.Mutex
	bodies [][]byte
	fail   func(n int, w http.ResponseWriter, b received) (handled bool) // n counts requests
	n      int
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{t: t}
	r.server = httptest.NewTLSServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	sent, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	mac := hmac.New(sha256.New, []byte("shared"))
	fmt.Fprintf(mac, "%s.%s.%s", req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp"), sent)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); req.Header.Get("webhook-signature") != want {
		r.t.Errorf("the signature is %s", req.Header.Get("webhook-signature"))
	}
	zipped, err := gzip.NewReader(bytes.NewReader(sent))
	if err != nil {
		r.t.Error(err)
		return
	}
	body, err := io.ReadAll(zipped)
	if err != nil {
		r.t.Error(err)
		return
	}
	b := parseBatch(r.t, body)
	if req.Header.Get("webhook-id") != b.Sink+"_"+b.Batch {
		r.t.Errorf("webhook-id is %s", req.Header.Get("webhook-id"))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	if r.fail != nil && r.fail(r.n, w, b) {
		return
	}
	r.bodies = append(r.bodies, body)
}

func (r *receiver) batches() (all []received) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, body := range r.bodies {
		all = append(all, parseBatch(r.t, body))
	}
	return all
}

// rows counts what it has, repetitions too.
func (r *receiver) rows() (n int) {
	for _, b := range r.batches() {
		n += len(b.lines)
	}
	return n
}

// verify is what argusctl ship verify does with the bodies.
func (r *receiver) verify() proof.ShipmentReport {
	r.t.Helper()
	s := &proof.Shipment{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, body := range r.bodies {
		if err := s.Read(fmt.Sprint("body ", i), bytes.NewReader(body)); err != nil {
			r.t.Fatal(err)
		}
	}
	return s.Report()
}

// sinks gives a sinks file for the receiver.
func (r *receiver) sinks(dir, more string) string {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw})
	for name, data := range map[string][]byte{"ca.pem": ca, "secret": []byte("shared\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	return fmt.Sprintf(`sinks:
  - name: siem
    linger: 0s
    batch_rows: 40
%s    https: {url: "%s", private: true, secret: {file: secret}, tls: {ca: ca.pem, server_name: example.com}, timeout: 1s}
`, more, r.server.URL+"/in?token=x")
}

// TestReceiver ships to a receiver that fails in every way, while the shipper is killed at random. Each row of the log is
// there, in the order of each writer. What is there twice is a whole batch with the same name and the same bytes.
func TestReceiver(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	rng := rand.New(rand.NewPCG(1, 2)) // of the receiver, which has a goroutine of its own
	kills := rand.New(rand.NewPCG(3, 4))
	kept := map[string]bool{} // a receiver that has kept a batch does not reject it afterwards
	r.fail = func(n int, out http.ResponseWriter, b received) bool {
		switch rng.IntN(9) {
		case 0:
			out.WriteHeader(http.StatusInternalServerError)
		case 1:
			out.Header().Set("Retry-After", "0")
			out.WriteHeader(http.StatusTooManyRequests)
		case 2: // cut off before it kept anything
			panic(http.ErrAbortHandler)
		case 3: // kept, and cut off before the acknowledgement arrives
			var body bytes.Buffer
			b2 := b
			fmt.Fprintf(&body, "%s%s\n", manifestLine(b2.Manifest), strings.Join(b.lines, "\n"))
			r.bodies = append(r.bodies, body.Bytes())
			kept[b.Batch] = true
			panic(http.ErrAbortHandler)
		case 4:
			if len(b.lines) > 3 && !kept[b.Batch] && rng.IntN(2) == 0 {
				out.WriteHeader(http.StatusRequestEntityTooLarge)
			} else {
				http.Redirect(out, &http.Request{}, "https://127.0.0.1:1/", http.StatusTemporaryRedirect)
			}
		default:
			kept[b.Batch] = true
			return false
		}
		return true
	}
	path := w.file(r.sinks(w.dir, ""))
	a, b := w.open(), w.open()
	for i := range 8 {
		child := w.child(path, []string{"decided", "sent", "moved", "halved", ""}[i%5], kills.IntN(3))
		kill := time.AfterFunc(time.Duration(300+kills.IntN(300))*time.Millisecond, func() { child.Process.Kill() })
		w.write(b, 60)
		w.write(a, 90)
		w.write(b, 30)
		child.Wait()
		kill.Stop()
	}
	_, stop := w.run(r.sinks(w.dir, ""))
	w.acknowledged("siem", w.written)
	stop()
	got := r.batches()
	w.check(got, nil)
	if len(got) == len(slices.CompactFunc(slices.Clone(got), func(x, y received) bool { return x.Batch == y.Batch })) {
		t.Error("no batch came twice: the test shows nothing")
	}
	if report := r.verify(); !report.HoleFree() || report.Rows != int64(w.written) {
		t.Errorf("%+v", report)
	}
}

// TestDropped: a receiver acknowledges what it drops. The hole is found by what it kept, and named.
func TestDropped(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	var dropped received
	r.fail = func(n int, _ http.ResponseWriter, b received) bool {
		if dropped.Batch == "" && n == 3 {
			dropped = b
			return true
		}
		return false
	}
	writer := w.open()
	w.write(writer, 300)
	_, stop := w.run(r.sinks(w.dir, ""))
	w.acknowledged("siem", 300)
	stop()
	report := r.verify()
	want := dropped.Ranges[0]
	if report.HoleFree() || len(report.Missing) != 1 || report.Missing[0].WriterID != writer || report.Missing[0].From != want.From || report.Missing[0].To != want.To {
		t.Errorf("dropped %+v, told %+v", want, report)
	}
}

// TestRejected: rows that a receiver rejects for good are found by halving, set aside and told. All others arrive.
func TestRejected(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	bad := map[string]bool{}
	r.fail = func(_ int, out http.ResponseWriter, b received) bool {
		for _, line := range b.lines {
			if strings.Contains(line, "poison") {
				out.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(out, "I do not take poison")
				return true
			}
		}
		return false
	}
	a, b := w.open(), w.open()
	poison := func(r *argus.Record) {
		if r.Seq%50 == 17 {
			r.UserAgent = "poison"
			bad[fmt.Sprint(r.WriterID, "/", r.Seq)] = true
		}
	}
	w.write(a, 200, poison)
	w.write(b, 110, poison)
	s, stop := w.run(r.sinks(w.dir, ""))
	w.acknowledged("siem", w.written-len(bad))
	w.until("the status tells it", func() bool {
		return w.number("SELECT (status ->> 'rejected_rows')::bigint FROM argus.sinks WHERE sink = 'siem'") == int64(len(bad))
	})
	stop()
	_ = s
	w.check(r.batches(), func(r *argus.Record) bool { return r.UserAgent != "poison" })
	if n := w.number("SELECT count(*) FROM argus.sink_rejects WHERE reason = 'rejected' AND from_seq = to_seq AND from_seq % 50 = 17 AND error LIKE '%poison%'"); n != int64(len(bad)) {
		t.Errorf("%d of %d rows are set aside", n, len(bad))
	}
	report := r.verify()
	if len(report.Missing) != len(bad) {
		t.Errorf("verify names %+v", report.Missing)
	}
	for _, m := range report.Missing {
		if m.From != m.To || !bad[fmt.Sprint(m.WriterID, "/", m.From)] {
			t.Errorf("verify names %s", m)
		}
	}
}

// TestRejectsAll: a receiver that rejects everything does not empty the log into the rejects.
func TestRejectsAll(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	r.fail = func(_ int, out http.ResponseWriter, _ received) bool {
		out.WriteHeader(http.StatusUnprocessableEntity)
		return true
	}
	writer := w.open()
	w.write(writer, 200)
	_, stop := w.run(r.sinks(w.dir, ""))
	w.until("the sink is held", func() bool {
		return w.number("SELECT count(*) FROM argus.sinks WHERE status ->> 'last_error' LIKE '%held%'") == 1
	})
	if n := w.number("SELECT count(*) FROM argus.sink_rejects"); n != maxRejectsInARow {
		t.Errorf("%d rows are set aside", n)
	}
	stop()
}

// TestFilter: a filtered stream has numbers of its own, without holes, and its ranges are what was looked at.
func TestFilter(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	a, b := w.open(), w.open()
	file := r.sinks(w.dir, "    filter: {method: [POST]}\n")
	posts := 0
	count := func(r *argus.Record) {
		if r.Method == "POST" {
			posts++
		}
	}
	for i := range 6 {
		w.write(a, 70, count)
		w.write(b, 3, func(r *argus.Record) { r.Method = "GET" })
		_, stop := w.run(file)
		w.acknowledged("siem", posts)
		if i == 3 {
			w.exec("UPDATE argus.audit_writers SET closed_at = now() WHERE writer_id = $1", b)
			b = w.open()
		}
		stop()
	}
	next := int64(1)
	for _, got := range r.batches() {
		for _, line := range got.lines {
			if want := fmt.Sprintf(`,"stream_seq":%d}`, next); !strings.HasSuffix(line, want) {
				t.Fatalf("row %d ends with %.60s", next, line[max(0, len(line)-60):])
			}
			next++
		}
	}
	w.check(r.batches(), func(r *argus.Record) bool { return r.Method == "POST" })
	if report := r.verify(); !report.HoleFree() || !report.Filtered {
		t.Errorf("%+v", report)
	}
}
