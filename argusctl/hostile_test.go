package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// These tests play the server, the network and the holder of the key, through the commands. No verdict is better than what
// was shown. What argusctl remembers of a log is never replaced by what an attacker shows.

// endless writes text until the caller goes away.
func endless(w http.ResponseWriter, begin, text string) {
	_, err := w.Write([]byte(begin))
	for text = strings.Repeat(text, 32<<10/len(text)); err == nil; {
		_, err = w.Write([]byte(text))
	}
}

// slow writes a byte, and no more.
func (s *logServer) slow(w http.ResponseWriter, r *http.Request, begin string) {
	w.Write([]byte(begin))
	w.(http.Flusher).Flush()
	select {
	case <-r.Context().Done():
	case <-s.unblocked:
	}
}

// cutOff announces more than it sends.
func cutOff(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	w.Write(b[:len(b)/2])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// patienceWith is the --timeout against a server that is slow, and against the others.
func patienceWith(name string) string {
	if strings.Contains(name, "slow") {
		return "400ms"
	}
	return "20s"
}

// on tells a lie at one path, and the truth elsewhere.
func on(path string, lie func(w http.ResponseWriter, r *http.Request)) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path {
			return false
		}
		lie(w, r)
		return true
	}
}

// TestHostileWatch: argusctl ledger watch has seen 300 leaves. Then the server, or the network before it, shows other things.
func TestHostileWatch(t *testing.T) {
	t.Parallel()
	now := time.Now()
	log := newHistory(t, 500, now, 500, "")
	fork := newHistory(t, 500, now, 120, "another")
	key, _ := signingKey(1)
	_, stranger := signingKey(2)
	s := newLogServer(t, log, 300)
	env := s.environment(t)
	watch := func(want int, name, said string, args ...string) {
		t.Helper()
		code, out, errOut := runArgusctl(t, env, append([]string{"ledger", "watch", "--once", "--key", key.String()}, args...)...)
		if code != want || !strings.Contains(out+errOut, said) {
			t.Errorf("%s: exit %d, want %d and %q: %s%s", name, code, want, said, out, errOut)
		}
	}
	watch(0, "at first", "checkpoint 300")
	file, seen := remembered(t, env)
	ledger := func(lie func(w http.ResponseWriter, r *http.Request)) func(http.ResponseWriter, *http.Request) bool {
		return on("/v1/ledger", lie)
	}
	show := func(msg []byte, rest string) func(http.ResponseWriter, *http.Request) bool {
		return ledger(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"checkpoint":%q,"sealed_at":%q%s}`, msg, now.UTC().Format("2006-01-02T15:04:05.000000Z"), rest)
		})
	}
	_, signer := signingKey(1)
	claim := func(size int64) []byte {
		c := log.at(300)
		c.Size = size
		msg, err := note.Sign(&note.Note{Text: c.Text()}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	greatest, claims := claim(1<<63-1), claim(proof.MaxSize)
	flipped := bytes.Replace(log.signed(300, signer), []byte("\n300\n"), []byte("\n301\n"), 1)
	for _, c := range []struct {
		name string
		lie  func(http.ResponseWriter, *http.Request) bool
		code int
		said string
	}{
		{"an older checkpoint", show(log.signed(200, signer), ""), 9, "had 300 leaves and has 200"},
		{"no checkpoint any more", ledger(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"checkpoint":null,"sealed_at":null}`) }), 9, "no checkpoint now"},
		{"fewer leaves", ledger(func(w http.ResponseWriter, _ *http.Request) { fail(w, 409, string(argus.CodeNotSealed), "Fewer.", "") }), 9, "has fewer"},
		{"a fork of the same size", show(fork.signed(300, signer), ""), 9, "a fork"},
		{"a larger fork without a proof", show(fork.signed(400, signer), ""), 9, "a fork"},
		{"a proof of a million hashes", ledger(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"checkpoint":%q,"sealed_at":"2026-01-01T00:00:00.000000Z","consistency":[%s"%s"]}`, log.signed(400, signer),
				strings.Repeat(`"`+proof.Hash{}.String()+`",`, 1_000_000), proof.Hash{})
		}), 9, "a fork"},
		{"a size that was not signed", show(flipped, ""), 9, "not valid"},
		{"the greatest size, signed", show(greatest, ""), 9, "malformed"},
		{"a size that no tree has, signed", show(claims, ""), 9, "a fork"},
		{"no note", show([]byte("garbage"), ""), 9, "malformed"},
		{"an empty note", show(nil, ""), 9, "malformed"},
		{"signed by a stranger", show(log.signed(400, stranger), ""), 10, "no key"},
		{"of another log", show(bytes.Replace(log.signed(400, stranger), []byte(madeOrigin), []byte("other.test/log"), -1), ""), 10, "no key"},
		{"no JSON", ledger(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\x00\xff garbage") }), 1, "not understood"},
		{"a web page", ledger(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!doctype html>") }), 1, "not understood"},
		{"an endless body", ledger(func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"checkpoint":"`, "a") }), 1, "longer than"},
		{"a slow body", ledger(func(w http.ResponseWriter, r *http.Request) { s.slow(w, r, `{"checkpoint":"`) }), 3, "did not answer within"},
		{"a slow header", ledger(func(w http.ResponseWriter, r *http.Request) { s.slow(w, r, "") }), 3, "did not answer within"},
		{"a body cut off", ledger(func(w http.ResponseWriter, _ *http.Request) { cutOff(w, []byte(`{"checkpoint":"a.test"}`)) }), 3, "cut the connection"},
		{"an error", ledger(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }), 3, "500"},
	} {
		s.change(func() { s.lie = c.lie })
		watch(c.code, c.name, c.said, "--timeout", patienceWith(c.name))
		if _, now := remembered(t, env); now != seen {
			t.Fatalf("%s: argusctl now remembers %v", c.name, now)
		}
	}
	s.change(func() { s.lie, s.log, s.size = nil, fork, 400 })
	watch(9, "a whole fork, with its proofs", "a fork")
	s.change(func() { s.log, s.size, s.sealed = log, 300, now.Add(-time.Hour) })
	watch(10, "a checkpoint of an hour ago", "old, more than 10m0s")
	// The network shows the same view again and again. Its word for the time does not help.
	s.change(func() { s.sealed = time.Now() })
	watch(0, "the same checkpoint, a moment later", "proven")
	if err := os.Chtimes(file, now, now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	watch(10, "the same checkpoint for an hour", "has been the same since")
	watch(0, "the same checkpoint for an hour, and two are fine", "proven", "--max-age", "2h")
	s.change(func() { s.size = 301 })
	watch(0, "it has grown", "checkpoint 301")
}

// TestHostileWatchGoesOn: while it runs, the watch outlives a server that is away, and ends at the fork.
func TestHostileWatchGoesOn(t *testing.T) {
	t.Parallel()
	now := time.Now()
	log, fork := newHistory(t, 400, now, 400, ""), newHistory(t, 400, now, 105, "another")
	key, _ := signingKey(1)
	s := newLogServer(t, log, 100)
	looks := 0
	s.lie = func(w http.ResponseWriter, r *http.Request) bool {
		looks++
		s.change(func() {
			s.size = min(s.size+10, 340)
			if looks > 6 {
				s.log, s.size = fork, 350
			}
		})
		switch {
		case looks == 2:
			w.WriteHeader(503)
		case looks == 3:
			cutOff(w, []byte(`{"checkpoint":"a.test"}`))
		case looks == 4:
			s.slow(w, r, "")
		case looks > 30: // the watch has not ended at the fork
			fail(w, 401, "unauthenticated", "That is enough.", "")
		default:
			return false
		}
		return true
	}
	code, out, errOut := runArgusctl(t, s.environment(t), "ledger", "watch", "--every", "100ms", "--timeout", "300ms", "--key", key.String())
	if code != 9 || strings.Count(out, "proven: checkpoint") < 2 || !strings.Contains(out, "a fork") {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
}

// TestKeyHolderForks: who has the key signs a second history, and the server shows it. A memory finds the fork. Without
// one, a policy of witnesses leaves undecided what they have not cosigned.
func TestKeyHolderForks(t *testing.T) {
	t.Parallel()
	now := time.Now()
	log, fork := newHistory(t, 500, now, 500, ""), newHistory(t, 500, now, 120, "another")
	key, signer := signingKey(1)
	witness, cosigns := cosigner(t, now)
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy")
	write := func(name string, b []byte) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	write("policy", fmt.Appendf(nil, "log %s\nwitness w1 %s\nquorum w1\n", key, witness))
	server := func() (*logServer, map[string]string) {
		s := newLogServer(t, log, 300)
		s.cosigner, s.cosigned = cosigns, 250
		return s, s.environment(t)
	}
	s, env := server()
	verify := func(want int, name, said string, args ...string) {
		t.Helper()
		code, out, errOut := runArgusctl(t, env, append([]string{"logs", "verify", "--timeout", "5s"}, args...)...)
		if code != want || !strings.Contains(out+errOut, said) {
			t.Errorf("%s: exit %d, want %d and %q: %s%s", name, code, want, said, out, errOut)
		}
	}
	byKey, byPolicy := []string{"--key", key.String()}, []string{"--policy", policy}
	verify(0, "by the key", "checkpoint 300", byKey...)
	verify(0, "by the policy", "checkpoint 250", byPolicy...)
	code, out, errOut := runArgusctl(t, env, "ledger", "watch", "--once", "--policy", policy)
	if code != 0 || !strings.Contains(out, "checkpoint 250") || !strings.Contains(out, "by a witness's clock") {
		t.Errorf("watched by the policy: exit %d: %s%s", code, out, errOut)
	}
	s.change(func() { s.forged = fork })
	verify(9, "an older checkpoint is a fork's", "a fork: checkpoint 200 has the root", byKey...)
	s.change(func() { s.forged, s.behind = nil, 100 })
	verify(10, "a copy that lags, by the key", "the copy is complete only up to leaf 199", append(byKey, "--source", "clickhouse")...)
	verify(0, "a copy that may lag, by the key", "200 rows checked", append(byKey, "--source", "clickhouse", "--max-age", "2h")...)
	verify(0, "a copy by its name", `"copy":"west"`, append(byKey, "--source", "clickhouse", "--copy", "west", "--max-age", "2h", "--json")...)
	verify(2, "a copy of Postgres", "--copy goes with --source clickhouse", append(byKey, "--copy", "west")...)
	s.change(func() { s.behind = 0 })
	_, seen := remembered(t, env)
	if seen.Size != 300 {
		t.Errorf("argusctl remembers %d leaves, not the newest", seen.Size)
	}
	// It has another history for the rows, which its holder has signed. Each view is whole in itself.
	s.change(func() { s.stream = fork })
	verify(9, "rows of a fork, by the key", "a fork", byKey...)
	streamed := false
	s.change(func() {
		s.stream = nil
		s.lie = func(_ http.ResponseWriter, r *http.Request) bool { // continues each view by its own
			s.change(func() {
				s.log, s.size = log, 340
				switch {
				case r.URL.Path == "/v1/ledger/entries":
					s.log, s.size, streamed = fork, 345, true
				case streamed:
					s.size = 350
				}
				if r.URL.Query().Get("from") == "345" {
					s.log = fork
				}
			})
			return false
		}
	})
	verify(9, "a split view, by the key", "the server shows one of 350", byKey...)
	if _, now := remembered(t, env); now != log.at(340) {
		t.Errorf("after a split view argusctl remembers %v", now)
	}

	// A caller without a memory of the log.
	s, env = server()
	s.log, s.cosigned = fork, 0
	verify(0, "a fork, by the key, at first sight", "proven", byKey...)
	s, env = server()
	s.log, s.cosigned = fork, 0
	verify(10, "a fork, by the policy", "cosigned", byPolicy...)
	s, env = server()
	s.log, s.cosigner = fork, signer // a line that is no witness's
	verify(10, "a fork that no witness has cosigned, by the policy", "fewer witnesses", byPolicy...)
	s, env = server()
	s.lie = func(_ http.ResponseWriter, r *http.Request) bool { // the cosigned checkpoint of the one, the newest of the other
		s.change(func() {
			s.log = log
			if r.URL.Query().Get("witnessed") == "" {
				s.log = fork
			}
		})
		return false
	}
	verify(9, "a fork behind a cosigned checkpoint", "a fork", byPolicy...)
	s, env = server()
	_, s.cosigner = cosigner(t, now.Add(-time.Hour))
	verify(10, "cosigned an hour ago, by the policy", "old", byPolicy...)
	s, env = server()
	s.lie = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("witnessed") != "" && r.URL.Path == "/v1/ledger" {
			msg := s.note(250)
			fmt.Fprintf(w, `{"checkpoint":%q,"sealed_at":%q}`, altered([]byte(msg)), "2026-01-01T00:00:00.000000Z")
			return true
		}
		return false
	}
	verify(9, "a cosignature with a flipped bit", "not valid", byPolicy...)

	// Proof files.
	s, _ = server()
	honest := s.file(log.rows[130].ID.String())
	s.log, s.cosigned = fork, 0
	forged := s.file(fork.rows[130].ID.String())
	flipped := altered(honest)
	renamed := bytes.Replace(honest, []byte("— "+madeWitness), []byte("— "+"witness.test/w2"), 1)
	for _, c := range []struct {
		name     string
		file     []byte
		key, pol int
	}{
		{"honest", honest, 0, 0},
		{"of the fork", forged, 0, 10},
		{"a flipped bit in the cosignature", flipped, 0, 9},
		{"another witness's name", renamed, 0, 9},
		{"cut off before the cosignature", honest[:bytes.Index(honest, []byte("— "+madeWitness))], 0, 10},
	} {
		name := write("file", c.file)
		for want, pin := range map[*int][]string{&c.key: byKey, &c.pol: byPolicy} {
			if code, out, errOut := runArgusctl(t, nil, append([]string{"proof", "check", name}, pin...)...); code != *want {
				t.Errorf("the file %s, by %s: exit %d, want %d: %s%s", c.name, pin[0], code, *want, out, errOut)
			}
		}
	}
}

// altered has another digit in its last line, which is a signature in base64.
func altered(b []byte) []byte {
	b = bytes.Clone(b)
	at := len(b) - 30
	b[at] = map[bool]byte{true: 'B', false: 'A'}[b[at] == 'A']
	return b
}

// TestHostileProve: a server gives argusctl logs prove other things than the proof. No file is left behind, unless it is a
// proof file, which argusctl proof check then judges.
func TestHostileProve(t *testing.T) {
	t.Parallel()
	now := time.Now()
	log := newHistory(t, 300, now, 300, "")
	key, _ := signingKey(1)
	s := newLogServer(t, log, 300)
	away := newLogServer(t, log, 300)
	id, other := log.rows[42].ID.String(), log.rows[43].ID.String()
	whole := s.file(id)
	env := s.environment(t)
	path := "/v1/audit-log/" + id + "/proof"
	give := func(b []byte) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.Write(b) }
	}
	f, err := proof.ParseFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	f.Path[1][7] ^= 1
	for _, c := range []struct {
		name         string
		lie          func(http.ResponseWriter, *http.Request)
		prove, check int // -1: there is no file
		said         string
	}{
		{"the proof", give(whole), 0, 0, "leaf 42"},
		{"a wrong hash", give(f.Marshal()), 0, 9, "leaf 42"},
		{"the proof of another call", give(s.file(other)), 1, -1, "another call"},
		{"half of it", give(whole[:len(whole)/2]), 1, -1, "cut off"},
		{"half of it, and the connection cut", func(w http.ResponseWriter, _ *http.Request) { cutOff(w, whole) }, 3, -1, "cut the connection"},
		{"nothing", give(nil), 1, -1, "empty"},
		{"a file without an end", func(w http.ResponseWriter, _ *http.Request) { endless(w, string(whole), "A") }, 1, -1, "too long"},
		{"a web page", give([]byte("<!doctype html>\n<p>hello")), 1, -1, "no proof file"},
		{"a slow body", func(w http.ResponseWriter, r *http.Request) { s.slow(w, r, string(whole[:100])) }, 3, -1, "did not answer within"},
		{"another host's", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, away.URL+path, http.StatusFound) }, 1, -1, "redirects"},
		{"a circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, path, http.StatusFound) }, 1, -1, "circles"},
		{"an error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, 3, -1, "502"},
	} {
		s.change(func() { s.lie = on(path, c.lie) })
		file := filepath.Join(t.TempDir(), "call.tlog-proof")
		code, out, errOut := runArgusctl(t, env, "logs", "prove", id, "-o", file, "--wait", "100ms", "--timeout", patienceWith(c.name))
		if code != c.prove || !strings.Contains(out+errOut, c.said) {
			t.Errorf("%s: exit %d, want %d and %q: %.500s%.500s", c.name, code, c.prove, c.said, out, errOut)
		}
		left, err := os.ReadDir(filepath.Dir(file))
		if err != nil || (len(left) == 1) != (c.check >= 0) {
			t.Errorf("%s: %d files are left (%v)", c.name, len(left), err)
		}
		if c.check >= 0 {
			if code, out, errOut := runArgusctl(t, nil, "proof", "check", file, "--key", key.String()); code != c.check {
				t.Errorf("%s, checked: exit %d, want %d: %s%s", c.name, code, c.check, out, errOut)
			}
		}
	}
	if len(away.asked) > 0 {
		t.Errorf("another host was asked: %v", away.asked)
	}
}

// TestHostileTiles: an export is checked against tiles that come from elsewhere.
func TestHostileTiles(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const size = 600
	log, fork := newHistory(t, size, now, size, ""), newHistory(t, size, now, 120, "another")
	key, signer := signingKey(1)
	s, away := newLogServer(t, log, size), newLogServer(t, log, size)
	dir := t.TempDir()
	var lines []byte
	for i := range log.rows {
		line := log.rows[i].AppendJSON(nil)
		lines = append(fmt.Appendf(append(lines, line[:len(line)-1]...), `,"leaf":%d}`, i), '\n')
	}
	write := func(name string, b []byte) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	export := write("export.ndjson", lines)
	older, newer := write("older", log.signed(300, signer)), write("newer", log.signed(size, signer))
	verify := func(want int, name, said string, args ...string) {
		t.Helper()
		code, out, errOut := runArgusctl(t, nil, append([]string{"logs", "verify", export, "--tiles", s.URL, "--key", key.String(), "--timeout", patienceWith(name)}, args...)...)
		if code != want || !strings.Contains(out+errOut, said) {
			t.Errorf("%s: exit %d, want %d and %q: %.500s%.500s", name, code, want, said, out, errOut)
		}
	}
	month := log.entries[0].Month.String()
	verify(0, "whole", "600 rows checked")
	verify(0, "the month whole", "600 rows checked", "--month", month, "--checkpoint", older)

	type lie = func(w http.ResponseWriter, r *http.Request)
	truth := func(path string) []byte {
		if path == "/checkpoint" {
			return log.signed(size, signer)
		}
		return log.tile(path[1:], size)
	}
	give := func(b []byte) lie { return func(w http.ResponseWriter, _ *http.Request) { w.Write(b) } }
	flip := func(path string) lie {
		b := bytes.Clone(truth(path))
		b[len(b)/2] ^= 1
		return give(b)
	}
	const leaves, partial, parents, bundle = "/tile/0/000", "/tile/0/002.p/88", "/tile/1/000.p/2", "/tile/entries/001"
	for _, path := range []string{"/checkpoint", leaves, partial, parents, bundle} {
		for _, c := range []struct {
			name string
			lie  lie
			code int
		}{
			{"a wrong hash", flip(path), 9},
			{"half of it", give(truth(path)[:len(truth(path))/2]), 9},
			{"too much", give(append(bytes.Clone(truth(path)), truth(path)...)), 9},
			{"another file", give(truth(map[string]string{"/checkpoint": leaves, leaves: "/tile/0/001", partial: parents, parents: leaves, bundle: "/tile/entries/000"}[path])), 9},
			{"a text", give([]byte("hello")), 9},
			{"a file without an end", func(w http.ResponseWriter, _ *http.Request) { endless(w, string(truth(path)), "A") }, 9},
			{"a web page", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				fmt.Fprint(w, "<!doctype html>")
			}, 3},
			{"half of it, and the connection cut", func(w http.ResponseWriter, _ *http.Request) { cutOff(w, truth(path)) }, 3},
			{"a slow body", func(w http.ResponseWriter, r *http.Request) { s.slow(w, r, string(truth(path)[:8])) }, 3},
			{"a circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, path, http.StatusFound) }, 3},
			{"an error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, 3},
			{"not there", http.NotFound, 10},
			{"the same of another host", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, away.URL+path, http.StatusFound) }, 0},
		} {
			s.change(func() { s.lie = on(path, c.lie) })
			verify(c.code, path+", "+c.name, "", "--month", month)
		}
	}
	s.change(func() { s.lie = nil })
	s.change(func() { s.size = 300 })
	verify(9, "an older checkpoint than the one seen before", "had 600 leaves", "--checkpoint", newer)
	verify(10, "older tiles than the export", "no leaf of 300 rows")
	s.change(func() { s.log, s.size = fork, size })
	verify(9, "a fork", "not the row of this leaf")
	verify(9, "a fork of the one seen before", "a fork", "--checkpoint", older)
	verify(9, "a fork, with a proof of its own", "a fork", "--checkpoint", newer)
	// The key's holder signs a size that no tree has.
	for _, claimed := range []int64{1 << 40, proof.MaxSize, 1<<62 + 3, 1<<63 - 1} {
		c := log.at(size)
		c.Size = claimed
		msg, err := note.Sign(&note.Note{Text: c.Text()}, signer)
		if err != nil {
			t.Fatal(err)
		}
		write("claimed", msg)
		verify(9, fmt.Sprintf("after a tree of %d leaves", claimed), "", "--checkpoint", filepath.Join(dir, "claimed"))
		s.change(func() { s.log, s.lie = log, on("/checkpoint", give(msg)) })
		code, out, errOut := runArgusctl(t, nil, "logs", "verify", export, "--tiles", s.URL, "--key", key.String(), "--month", month)
		if code != 9 && code != 10 {
			t.Errorf("a tree of %d leaves: exit %d: %s%s", claimed, code, out, errOut)
		}
	}
	verify(2, "--max-age with a file", "tiles carry no time", "--max-age", "1h")
	verify(2, "--copy with a file", "does not go with a file", "--copy", "east")
	verify(2, "--accept-loss with a file", "does not go with a file", "--accept-loss", "1..2")
}
