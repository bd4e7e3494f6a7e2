// Package proof has the pure functions of the ledger: bytes in, bytes or a verdict out. It reads no clock, no file and no
// network. Each row of the audit log is a leaf of one Merkle tree (RFC 6962), and a checkpoint is the signed root of it.
//
//	entry:  u8 kind · u16 month (since 1970-01, of the row's partition) · key · 32-byte digest
//	kind 1  call          key = i64 writer_id · i64 seq      digest = row_hash                51 bytes
//	kind 2  compute step  key = 16 audit_id · i16 step       digest = SHA-256(canonical step) 53 bytes
//	kind 3  support step  the same, its own canonical form
//	kind 4  audit_admin   key = i64 id                       digest = SHA-256(canonical row)  43 bytes
//	leaf = SHA-256(0x00 ‖ entry)
//
// Integers are big-endian. An entry holds no content, so tiles and bundles can be shown to anybody. Formats are those of
// C2SP: signed-note, tlog-checkpoint, tlog-cosignature, tlog-tiles, tlog-proof and tlog-policy. What this package parses
// it parses strictly: parsed and written again, the bytes are the same.
package proof

import (
	"errors"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a SHA-256 digest: of a row, a leaf or a node.
type Hash = tlog.Hash

// HashSize is the length of a Hash in bytes.
const HashSize = tlog.HashSize

// These errors make a check fail or leave it undecided. Errors of this package wrap one of them, and a verdict follows it.
// Malformed bytes and disproof say no (exit code 9). The others leave the question open (exit code 10).
var (
	ErrMalformed  = errors.New("malformed")
	ErrDisproved  = errors.New("disproved")
	ErrUndecided  = errors.New("undecided")
	ErrUnknownKey = errors.New("signed by no key that was given") // leaves the check undecided
)
