package proof

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// pruning is what a ledger_pruned row records: the leaves that went, and the rows of audit_admin among them. These rows
// outlive their leaves, so the record vouches for them: digest is SHA-256 over id and digest of each, ascending by id.
type pruning struct {
	leaves LeafRange
	ids    []LeafRange // of rows of audit_admin
	digest Hash
}

func parsePruning(text string) (p pruning, ok bool) {
	if p.leaves, ok = parseRange(text); !ok {
		return p, false
	}
	var ids [][2]int64
	var sum string
	fields, ok := parseDetail(text)
	if !ok {
		return p, false
	}
	if b, there := fields["admin_ids"]; there && json.Unmarshal(b, &ids) != nil {
		return p, false
	}
	if b, there := fields["admin_sha256"]; there && json.Unmarshal(b, &sum) != nil {
		return p, false
	}
	last := int64(-1)
	for _, r := range ids {
		if r[0] <= last || r[1] < r[0] {
			return p, false
		}
		last = r[1]
		p.ids = append(p.ids, LeafRange{r[0], r[1]})
	}
	digest, err := hex.DecodeString(sum)
	if len(ids) > 0 && (err != nil || len(digest) != HashSize) {
		return p, false
	}
	copy(p.digest[:], digest)
	return p, true
}

// HasPruned reports whether leaves were pruned, so that rows of audit_admin may be there without theirs.
func (a *Audit) HasPruned() bool { return a.pruned > 0 }

// PrunedAdmin takes all rows of audit_admin that have no leaf any more, ascending by id. A record of a pruning covers those
// whose leaves it took, when the rows are what these leaves held. A covered row may be such a record itself. A record covers
// all its rows or none: one that is altered or gone is a fault. The rows that no record speaks of come back.
func (a *Audit) PrunedAdmin(rows []Admin) (left []Admin) {
	covered := make([]bool, len(rows))
	for i := 0; i < len(a.prunings); i++ { // grows below
		p := &a.prunings[i]
		if p.leaves.To >= a.pruned || len(p.ids) == 0 {
			continue
		}
		h := sha256.New()
		var of []int
		next := 0
		for at := range rows {
			for next < len(p.ids) && p.ids[next].To < rows[at].ID {
				next++
			}
			if next < len(p.ids) && rows[at].ID >= p.ids[next].From {
				e := rows[at].Entry()
				h.Write(e.AppendKey(nil))
				h.Write(e.Digest[:])
				of = append(of, at)
			}
		}
		digest := Hash(h.Sum(nil))
		intact := digest == p.digest
		if !intact {
			first := Entry{Kind: AdminRow, ID: p.ids[0].From}
			a.fault(Fault{Leaf: NoLeaf, Row: first.String(), What: "or a later row whose leaf was pruned is not what the record of the pruning vouches for",
				Tree: p.digest, Found: digest})
		}
		for _, at := range of {
			if covered[at] {
				continue
			}
			covered[at] = true
			if intact && rows[at].Kind == "ledger_pruned" {
				if q, ok := parsePruning(rows[at].Detail); ok {
					a.prunings = append(a.prunings, q)
				}
			}
		}
	}
	for at := range rows {
		if !covered[at] {
			left = append(left, rows[at])
		}
	}
	return left
}
