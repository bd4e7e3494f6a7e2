package chcolumn

import (
	"fmt"
	"strings"

	"github.com/useargus/argus"
)

// RowHashSQL returns an expression of ClickHouse that recomputes row_hash from the other columns. It is a second
// implementation of the canonical encoding (canonical.go of the root package). A test holds it to the first.
func RowHashSQL() string {
	integer := func(c string) string { return "reverse(reinterpretAsFixedString(" + c + "))" } // big-endian
	text := func(c string) string { return integer("toUInt32(length("+c+"))") + ", " + c }
	value := func(kind argus.ColumnKind, c string) string {
		switch kind {
		case argus.ColumnInt64, argus.ColumnInt16:
			return integer(c)
		case argus.ColumnTime:
			return integer("toUnixTimestamp64Micro(" + c + ")")
		case argus.ColumnUUID:
			return "UUIDStringToNum(toString(" + c + "))"
		case argus.ColumnAddress:
			bytes := "IPv6StringToNum(toString(" + c + "))"
			return "if(position(toString(" + c + "), '.') > 0, concat(char(4), substring(" + bytes + ", 13, 4)), concat(char(6), " + bytes + "))"
		case argus.ColumnPairs:
			return integer("toUInt32(length(mapKeys("+c+")))") + ", arrayStringConcat(arrayMap(p -> concat(" + text("toString(p.1)") + ", " +
				text("p.2") + "), arraySort(p -> p.1, arrayZip(CAST(mapKeys(" + c + "), 'Array(String)'), mapValues(" + c + ")))))"
		case argus.ColumnDigest:
			return c
		default:
			return text("toString(" + c + ")")
		}
	}
	parts := []string{"char(1)", integer("writer_id"), integer("seq"), value(argus.ColumnTime, "recorded_at"), value(argus.ColumnUUID, "id"),
		value(argus.ColumnTime, "occurred_at")} // the head and its order
	for _, c := range canonical[recordedAt+1 : RowHashAt] {
		switch {
		case !c.Nullable:
			parts = append(parts, value(c.Kind, c.Name))
		case c.Kind == argus.ColumnPairs: // null is an empty map here, and is encoded as nothing
			parts = append(parts, fmt.Sprintf("if(empty(%s), '', concat(%s))", c.Name, value(c.Kind, c.Name)))
		default:
			parts = append(parts, fmt.Sprintf("if(isNull(%[1]s), char(0), concat(char(1), %[2]s))", c.Name, value(c.Kind, "assumeNotNull("+c.Name+")")))
		}
	}
	// Nothing of fixed length is made a String by itself: that would cut zero bytes off its end.
	return "SHA256(concat(" + strings.Join(parts, ", ") + "))"
}
