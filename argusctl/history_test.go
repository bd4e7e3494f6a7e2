package main

import (
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

const madeOrigin, madeWitness = "audit.test/argus", "witness.test/w1"

// signingKey is a key of the log or, with a witness's name, one that cosigns.
func signingKey(seed byte) (proof.Key, note.Signer) {
	private := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
	key := proof.NewKey(madeOrigin, private.Public().(ed25519.PublicKey))
	return key, proof.NewSigner(key, func(m []byte) ([]byte, error) { return ed25519.Sign(private, m), nil })
}

// history is a log in memory: the calls of one writer, and their tree.
type history struct {
	rows    []argus.Record
	entries []proof.Entry
	hashes  storedHashes
}

type storedHashes []tlog.Hash

func (s storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	all := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if at >= int64(len(s)) {
			return nil, errors.New("beyond the tree")
		}
		all[i] = s[at]
	}
	return all, nil
}

// newHistory makes calls of just now. From the call with that number on they are others than those of another history.
func newHistory(t testing.TB, calls int, now time.Time, from int, agent string) *history {
	h := &history{}
	canned := cannedRows()
	for i := range calls {
		r := canned[0]
		r.WriterID, r.Seq, r.ID[15], r.ID[14] = 7, int64(i+1), byte(i), byte(i>>8)
		r.OccurredAt, r.RecordedAt = argus.Micros(now), argus.Micros(now)
		if i >= from {
			r.UserAgent = agent
		}
		r.RowHash = r.ComputeHash()
		e, err := proof.EntryOf(&r)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := tlog.StoredHashesForRecordHash(int64(i), e.Leaf(), h.hashes)
		if err != nil {
			t.Fatal(err)
		}
		h.rows, h.entries, h.hashes = append(h.rows, r), append(h.entries, e), append(h.hashes, stored...)
	}
	return h
}

func (h *history) at(size int64) proof.Checkpoint {
	root, err := tlog.TreeHash(size, h.hashes)
	if err != nil {
		panic(err)
	}
	return proof.Checkpoint{Origin: madeOrigin, Size: size, Root: root}
}

func (h *history) signed(size int64, signers ...note.Signer) []byte {
	msg, err := h.at(size).Sign(signers...)
	if err != nil {
		panic(err)
	}
	return msg
}

// tile is a file of the mirror of that size, nil when it has none of that path.
func (h *history) tile(path string, size int64) []byte {
	t, err := proof.ParseTilePath(path)
	if err != nil || !t.In(size) {
		return nil
	}
	if t.Level == proof.Bundle {
		from := t.N * proof.TileWidth
		run := proof.Run{FirstLeaf: from, Kind: proof.Call, Month: h.entries[0].Month, WriterID: 7, FirstSeq: from + 1}
		for _, e := range h.entries[from : from+int64(t.Width)] {
			run.Digests = append(run.Digests, e.Digest[:]...)
		}
		return run.AppendBundle(nil)
	}
	b, err := tlog.ReadTileData(tlog.Tile{H: 8, L: t.Level, N: t.N, W: t.Width}, h.hashes)
	if err != nil {
		panic(err)
	}
	return b
}

// logServer serves a history as the API and the ledger's listener do, and lies where it is told to.
type logServer struct {
	*httptest.Server
	signer note.Signer

	mu        sync.Mutex
	log       *history
	size      int64
	cosigned  int64 // the newest that cosigner has cosigned; 0 for none
	cosigner  note.Signer
	sealed    time.Time
	stream    *history // other entries than log's
	forged    *history // whose checkpoint of 200 leaves stands among the older ones
	behind    int64    // leaves that the copy lacks; it was whole an hour ago
	lie       func(w http.ResponseWriter, r *http.Request) bool
	asked     []string
	unblocked chan struct{}
}

func newLogServer(t *testing.T, log *history, size int64) *logServer {
	_, signer := signingKey(1)
	s := &logServer{signer: signer, log: log, size: size, sealed: time.Now(), unblocked: make(chan struct{})}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = quiet()
	s.Start()
	t.Cleanup(func() {
		close(s.unblocked)
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// change changes what is served.
func (s *logServer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// note is the checkpoint of that size, with the witness's line if it has one.
func (s *logServer) note(size int64) string {
	if size == s.cosigned {
		return string(s.log.signed(size, s.signer, s.cosigner))
	}
	return string(s.log.signed(size, s.signer))
}

func (s *logServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.RequestURI())
	lie := s.lie
	s.mu.Unlock()
	if lie != nil && lie(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	number := func(name string) int64 {
		n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
		if err != nil {
			n = -1
		}
		return n
	}
	size := s.size
	if r.URL.Query().Get("witnessed") == "true" {
		if size = s.cosigned; size == 0 {
			fail(w, 409, string(argus.CodeNotSealed), "No checkpoint that a witness has cosigned holds this yet.", "")
			return
		}
	}
	switch path := r.URL.Path; {
	case path == "/v1/ledger":
		if at := number("at"); at > 0 {
			size = at
		}
		from := number("from")
		if from > size {
			fail(w, 409, string(argus.CodeNotSealed), fmt.Sprintf("The ledger has %d leaves, not %d.", size, from), "")
			return
		}
		var way []proof.Hash
		if from > 0 && from < size {
			var err error
			if way, err = tlog.ProveTree(size, from, s.log.hashes); err != nil {
				panic(err)
			}
		}
		json.NewEncoder(w).Encode(map[string]any{"checkpoint": s.note(size), "sealed_at": argus.JSONTime(s.sealed), "consistency": way})
	case path == "/v1/ledger/entries":
		if r.URL.Query().Get("source") == "clickhouse" && s.behind > 0 {
			defer func(at time.Time) { s.sealed = at }(s.sealed)
			size, s.sealed = size-s.behind, s.sealed.Add(-time.Hour)
		}
		s.entries(w, size, r.URL.Query().Get("copy"))
	case strings.HasSuffix(path, "/proof"):
		w.Write(s.file(strings.TrimSuffix(strings.TrimPrefix(path, "/v1/audit-log/"), "/proof")))
	case path == "/checkpoint":
		fmt.Fprint(w, s.note(size))
	default:
		if b := s.log.tile(strings.TrimPrefix(path, "/"), size); b != nil {
			w.Write(b)
			return
		}
		http.NotFound(w, r)
	}
}

func (s *logServer) entries(w http.ResponseWriter, size int64, copy string) {
	log := s.log
	if s.stream != nil {
		log = s.stream
	}
	enc := json.NewEncoder(w)
	msg := string(log.signed(size, s.signer))
	if log == s.log {
		msg = s.note(size)
	}
	enc.Encode(map[string]any{"checkpoint": map[string]any{"note": msg, "sealed_at": argus.JSONTime(s.sealed), "from": 0, "copy": copy}})
	for _, older := range []int64{1, 200, size} {
		of := log
		if older == 200 && s.forged != nil {
			of = s.forged
		}
		if older <= size {
			c := of.at(older)
			enc.Encode(map[string]any{"older": map[string]any{"size": older, "root": c.Root[:], "note": string(of.signed(older, s.signer))}})
		}
	}
	run := runJSON{Kind: proof.Call, Month: log.entries[0].Month, WriterID: 7, FirstSeq: 1}
	for _, e := range log.entries[:size] {
		run.Digests = append(run.Digests, e.Digest[:]...)
	}
	enc.Encode(map[string]any{"run": run})
	for i := range log.rows[:size] {
		w.Write(append(log.rows[i].AppendJSON(nil), '\n'))
	}
	enc.Encode(map[string]any{"piece": size})
	enc.Encode(map[string]any{"writer": argus.LedgerCount{WriterID: 7, Rows: size}})
	enc.Encode(map[string]any{"end": size})
}

type runJSON struct {
	FirstLeaf int64       `json:"first_leaf"`
	Kind      proof.Kind  `json:"kind"`
	Month     proof.Month `json:"month"`
	WriterID  int64       `json:"writer_id"`
	FirstSeq  int64       `json:"first_seq"`
	Keys      []byte      `json:"keys"`
	Digests   []byte      `json:"digests"`
}

// file is the proof file of a call.
func (s *logServer) file(id string) []byte {
	size := s.size
	if s.cosigned > 0 {
		size = s.cosigned
	}
	for i := range s.log.rows {
		if s.log.rows[i].ID.String() == id {
			path, err := tlog.ProveRecord(size, int64(i), s.log.hashes)
			if err != nil {
				panic(err)
			}
			return (&proof.File{Entry: s.log.entries[i], Row: s.log.rows[i].AppendJSON(nil), Index: int64(i), Path: path, Note: []byte(s.note(size))}).Marshal()
		}
	}
	return nil
}

// environment of argusctl with a memory of its own.
func (s *logServer) environment(t *testing.T) map[string]string {
	return map[string]string{"ARGUS_URL": s.URL, "ARGUS_TOKEN": callers[0].token, "ARGUS_CONFIG_DIR": t.TempDir(), "ARGUS_KEYRING": "off"}
}

// remembered is argusctl's memory of the log.
func remembered(t *testing.T, env map[string]string) (file string, c proof.Checkpoint) {
	t.Helper()
	u, err := url.Parse(env["ARGUS_URL"])
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(env["ARGUS_CONFIG_DIR"], "ledger", url.PathEscape(u.Host), url.PathEscape(madeOrigin)+".checkpoint")
	msg, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = proof.CheckpointOf(msg); err != nil {
		t.Fatal(err)
	}
	return file, c
}

// cosigner is a witness: its key, and what cosigns as of that time.
func cosigner(t *testing.T, at time.Time) (proof.Key, note.Signer) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(append(make([]byte, 31), 9))
	key := proof.NewCosigner(madeWitness, private.Public().(ed25519.PublicKey))
	return key, &timedCosigner{key, private, at}
}

// timedCosigner writes cosignature/v1 lines as of a time.
type timedCosigner struct {
	key     proof.Key
	private ed25519.PrivateKey
	at      time.Time
}

func (c *timedCosigner) Name() string    { return c.key.Name() }
func (c *timedCosigner) KeyHash() uint32 { return c.key.Verifier().KeyHash() }
func (c *timedCosigner) Sign(msg []byte) ([]byte, error) {
	at := c.at.Unix()
	return append(binary.BigEndian.AppendUint64(nil, uint64(at)), ed25519.Sign(c.private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, msg))...), nil
}
