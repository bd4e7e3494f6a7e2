package chcolumn

import (
	"fmt"
	"strings"
)

// RowHashSQL returns an expression of ClickHouse that recomputes row_hash from the other columns: a second
// implementation of the canonical encoding (canonical.go of the root package), which a test holds to the first.
func RowHashSQL() string {
	integer := func(c string) string { return "reverse(reinterpretAsFixedString(" + c + "))" } // big-endian
	text := func(c string) string {
		return fmt.Sprintf("%s, %s", integer("toUInt32(length("+c+"))"), c)
	}
	uuid := func(c string) string { return "UUIDStringToNum(toString(" + c + "))" }
	opt := func(c string, some string) string {
		return fmt.Sprintf("if(isNull(%s), char(0), concat(char(1), %s))", c, some)
	}
	some := func(c string) string { return "assumeNotNull(" + c + ")" }
	optText := func(c string) string { return opt(c, text("toString("+some(c)+")")) }
	micros := func(c string) string { return integer("toUnixTimestamp64Micro(" + c + ")") }
	pairs := func(c string) string {
		return integer("toUInt32(length(mapKeys("+c+")))") + ", arrayStringConcat(arrayMap(p -> concat(" + text("toString(p.1)") + ", " +
			text("p.2") + "), arraySort(p -> p.1, arrayZip(CAST(mapKeys(" + c + "), 'Array(String)'), mapValues(" + c + ")))))"
	}
	address := "IPv6StringToNum(toString(client_ip))"
	parts := []string{
		"char(1)", integer("writer_id"), integer("seq"), micros("recorded_at"), uuid("id"), micros("occurred_at"),
		text("toString(actor_id)"), optText("impersonator_id"), text("toString(actor_kind)"),
		opt("pat_id", uuid(some("pat_id"))), opt("break_glass_id", uuid(some("break_glass_id"))),
		text("toString(scope)"), text("toString(route)"),
		pairs("path_params"),
		text("toString(method)"), opt("status", integer(some("status"))), text("toString(outcome)"),
		opt("latency_us", integer(some("latency_us"))),
		"if(position(toString(client_ip), '.') > 0, concat(char(4), substring(" + address + ", 13, 4)), concat(char(6), " + address + "))",
		text("toString(user_agent)"), opt("body_sha256", some("body_sha256")), integer("body_bytes"),
		optText("client_request_id"), optText("trace_id"),
		text("toString(service)"), optText("release"), optText("error_code"), optText("reason"), optText("agent"),
		"if(empty(workload), '', concat(" + pairs("workload") + "))",
	}
	// Nothing of fixed length is made a String by itself: that would cut zero bytes off its end.
	return "SHA256(concat(" + strings.Join(parts, ", ") + "))"
}
