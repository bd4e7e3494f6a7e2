// Package ledger seals the log: it gives every row its leaf in one Merkle tree, and signs the tree's root about five times
// a second. docs/ledger.md has the order, the failure table and the keys. Package proof has the bytes.
//
//	audit_writers, hashes of rows ─┐
//	ledger_pending ────────────────┴─▸ runs, full tiles ─▸ COMMIT ─▸ root, twice ─▸ sign ─▸ anchor ─▸ checkpoint
//
// Correctness rests on the primary key of ledger_runs: two sealers at the same size collide there. The lease only keeps
// them from colliding each round.
package ledger
