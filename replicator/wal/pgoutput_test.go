package wal

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"regexp"
	"testing"
	"time"
)

// golden are the messages of pgoutput that a real server sent.
func golden(t testing.TB, version string) (messages [][]byte) {
	t.Helper()
	data, err := os.ReadFile("testdata/pgoutput-" + version + ".hex")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		b, err := hex.DecodeString(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, b)
	}
	return messages
}

var columnName = regexp.MustCompile("^[a-z][a-z0-9_]+$")

// TestGolden parses every message of PostgreSQL 15 and 18 to its last value.
func TestGolden(t *testing.T) {
	for _, version := range []string{"15", "18"} {
		t.Run(version, func(t *testing.T) {
			var begun Begin
			relations := map[uint32]Relation{}
			inserts := map[string]int{}
			commits := 0
			for _, m := range golden(t, version) {
				var err error
				switch m[0] {
				case MessageBegin:
					begun, err = ParseBegin(m)
				case MessageCommit:
					var commit, end LSN
					commit, end, err = ParseCommit(m)
					if commit != begun.Commit || end <= commit {
						t.Errorf("a transaction at %s commits at %s and ends at %s", begun.Commit, commit, end)
					}
					commits++
				case MessageRelation:
					var r Relation
					r, err = ParseRelation(m)
					relations[r.ID] = r
					for _, c := range r.Columns {
						if !columnName.MatchString(c.Name) || c.OID == 0 {
							t.Errorf("%s has a column %q of the type %d", r.Name, c.Name, c.OID)
						}
					}
				case MessageInsert:
					var id uint32
					var tuple Tuple
					id, tuple, err = ParseInsert(m)
					r := relations[id]
					inserts[r.Schema+"."+r.Name]++
					if tuple.Left != len(r.Columns) || tuple.Left == 0 {
						t.Errorf("a row of %s has %d values for %d columns", r.Name, tuple.Left, len(r.Columns))
					}
					for tuple.Left > 0 && err == nil {
						_, _, err = tuple.Next()
					}
					if len(tuple.b) != 0 {
						t.Errorf("%d bytes follow a row of %s", len(tuple.b), r.Name)
					}
				}
				if err != nil {
					t.Fatalf("%v: % x", err, m)
				}
			}
			if commits != 2 || inserts["argus.argus_audit_log"] != 4 || inserts["argus.compute_control_audit"] != 2 {
				t.Errorf("%d transactions with the rows %v, want 2 with 4 calls and 2 steps of compute", commits, inserts)
			}
		})
	}
}

// TestMalformed cuts every message at every length. No part of it is taken for a whole.
func TestMalformed(t *testing.T) {
	for _, whole := range golden(t, "18") {
		for n := 1; n < len(whole); n++ {
			m := whole[:n:n]
			var err error
			switch m[0] {
			case MessageBegin:
				_, err = ParseBegin(m)
			case MessageCommit:
				_, _, err = ParseCommit(m)
			case MessageRelation:
				_, err = ParseRelation(m)
			case MessageInsert:
				var tuple Tuple
				for _, tuple, err = ParseInsert(m); err == nil && tuple.Left > 0; {
					_, _, err = tuple.Next()
				}
			default:
				continue
			}
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%d of %d bytes of a message %q: %v, want %v", n, len(whole), m[0], err, ErrMalformed)
			}
		}
	}
}

func TestLSN(t *testing.T) {
	const text = "16/B374D848"
	l, err := ParseLSN(text)
	if err != nil || l.String() != text || l != 0x16_B374D848 {
		t.Errorf("ParseLSN(%q) is %s, %v", text, l, err)
	}
	for _, malformed := range []string{"", "16", "16/", "/B3", "x/y"} {
		if l, err := ParseLSN(malformed); err == nil {
			t.Errorf("ParseLSN(%q) is %s, want an error", malformed, l)
		}
	}
}

// FuzzParse feeds any bytes to the parsers. Nothing may panic, and no value may reach behind its message.
func FuzzParse(f *testing.F) {
	for _, m := range golden(f, "18") {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, m []byte) {
		if len(m) == 0 {
			return // the intake takes the kind from the first byte
		}
		ParseBegin(m)
		ParseCommit(m)
		ParseRelation(m)
		_, tuple, err := ParseInsert(m)
		for err == nil {
			var v []byte
			if _, v, err = tuple.Next(); len(v) > len(m) {
				t.Fatalf("a value of %d bytes in a message of %d", len(v), len(m))
			}
		}
	})
}

// TestNotice: a notice in the stream is a message that says nothing. Waiting for the one after it would hold the intake's lock.
func TestNotice(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go server.Write([]byte("N\x00\x00\x00\x0dSWARNING\x00"))
	s := &Stream{conn: client, in: bufio.NewReaderSize(client, streamBuffer)}
	for !s.Ready() {
		if _, err := s.in.Peek(s.in.Buffered() + 1); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan Message, 1)
	go func() {
		m, err := s.Next()
		if err == nil {
			got <- m
		}
	}()
	select {
	case m := <-got:
		if m.Data != nil || m.End != 0 || m.Reply {
			t.Errorf("the notice is %+v", m)
		}
	case <-time.After(time.Minute):
		t.Fatal("Next waits for what comes after the notice")
	}
}
