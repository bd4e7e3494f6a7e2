package ledger

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/useargus/argus/proof"
)

// cosigner is a witness's key.
type cosigner struct {
	proof.Key
	private ed25519.PrivateKey
}

func newCosigner(name string, seed byte) cosigner {
	private := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
	return cosigner{proof.NewCosigner(name, private.Public().(ed25519.PublicKey)), private}
}

// line is the witness's cosignature of a checkpoint's text.
func (c cosigner) line(text string, at int) string {
	line := binary.BigEndian.AppendUint32(nil, c.ID())
	line = binary.BigEndian.AppendUint64(line, uint64(at))
	line = append(line, ed25519.Sign(c.private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text))...)
	return "— " + c.Name() + " " + base64.StdEncoding.EncodeToString(line) + "\n"
}

// TestWitnessAnswers: of what a witness answers, one cosignature by its own key is kept. So one that sends many leaves the place of
// the others, of whom at most 64 lines are served. What it has cosigned besides, and what others have, is no cosignature.
func TestWitnessAnswers(t *testing.T) {
	w := newWorld(t)
	writer := w.open()
	w.mustWrite(writer, 1, 5)
	s, stop := w.run(w.config(filepath.Join(t.TempDir(), "anchor")))
	w.sealed()
	newest, err := s.reader.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(newest.Note, "\n\n")
	text += "\n"
	stop()

	eager, plain, stranger := newCosigner("eager.test/w", 1), newCosigner("plain.test/w", 2), newCosigner("stranger.test/w", 3)
	answers := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(rw, answers[strings.TrimPrefix(strings.TrimSuffix(r.URL.Path, "/add-checkpoint"), "/")])
	}))
	t.Cleanup(server.Close)
	config := w.config(filepath.Join(t.TempDir(), "anchor"))
	config.Witnesses = fmt.Appendf(nil, "witness a %s %s/a\nwitness b %s %s/b\ngroup g 2 a b\nquorum g\n", eager, server.URL, plain, server.URL)
	s = w.sealer(config)
	t.Cleanup(s.Close)
	submit := func() map[string]Witness {
		for _, at := range []string{"/a", "/b"} { // the eager one comes first
			url := server.URL + at + "/add-checkpoint"
			s.witnesses.submit(t.Context(), s.pool, s.reader, newest, url, s.witnesses.policy.Witnesses()[url])
		}
		return s.witnesses.status()
	}
	another := eager.line(proof.Checkpoint{Origin: origin, Size: newest.Size, Root: proof.Hash{1}}.Text(), 7)
	var many strings.Builder
	for i := range 65 {
		many.WriteString(stranger.line(text, i))
		many.WriteString(eager.line(text, 1000+i))
	}
	for name, answer := range map[string]string{"nothing": "", "of another checkpoint": another, "of another and of this": another + eager.line(text, 7),
		"a stranger's": stranger.line(text, 7), "no line": "— x", "more than a note has": many.String()} {
		answers["a"], answers["b"] = answer, ""
		if known := submit(); known[eager.Name()].Size != 0 || !strings.Contains(known[eager.Name()].Problem, "no cosignature") {
			t.Errorf("%s is taken: %+v", name, known)
		}
	}
	if n := w.number("SELECT count(*) FROM argus.ledger_cosignatures"); n != 0 {
		t.Fatalf("%d lines are kept of what is no cosignature", n)
	}

	many.Reset()
	many.WriteString(stranger.line(text, 7))
	for i := range 70 {
		many.WriteString(eager.line(text, 1000+i))
	}
	answers["a"], answers["b"] = many.String(), plain.line(text, 1000)
	if known := submit(); known[eager.Name()].Size != newest.Size || known[plain.Name()].Size != newest.Size {
		t.Errorf("both have cosigned: %+v", known)
	}
	lines, err := s.reader.Cosignatures(t.Context(), newest.Size)
	if err != nil || len(lines) != 2 || !strings.HasPrefix(lines[0], "— eager.test/w ") || !strings.HasPrefix(lines[1], "— plain.test/w ") {
		t.Errorf("%d lines are kept, %v, first %q", len(lines), err, lines[:min(3, len(lines))])
	}
	if note, size, err := s.Served(t.Context()); err != nil || size != newest.Size || !s.witnesses.policy.Satisfied([]byte(note)) {
		t.Errorf("served is a checkpoint of %d leaves, %v:\n%s", size, err, note)
	}
	// Lines of others that came into the table otherwise are served up to 64.
	for i := range 70 {
		if _, err := w.owner.Exec(t.Context(), "INSERT INTO argus.ledger_cosignatures (size, key, line) VALUES ($1, $2, $3)", newest.Size, fmt.Sprint("w", i), stranger.line(text, i)); err != nil {
			t.Fatal(err)
		}
	}
	if lines, err = s.reader.Cosignatures(t.Context(), newest.Size); err != nil || len(lines) != 64 || !strings.HasPrefix(lines[1], "— plain.test/w ") {
		t.Errorf("%d lines are served, %v", len(lines), err)
	}
	if note, _, err := s.Served(t.Context()); err != nil || !s.witnesses.policy.Satisfied([]byte(note)) {
		t.Errorf("served beside many others, %v:\n%s", err, note)
	}
}
