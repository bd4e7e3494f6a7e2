package main

// group is some figures that one FOCUS measures.
type group struct {
	name  string
	about string // one line over its table
	tests []benchTest
	build bool // needs bin/ and the console
	tools bool // needs references from internal/setup
	alone bool // only when it is asked for
}

// benchTest is a test of a package, or one part of it. Its name is as go test prints it.
type benchTest struct{ pkg, name string }

const analyticsFigures = "TestBenchFigures/"

// groups are in the order of docs/performance.md.
var groups = []group{
	{name: "perf", about: "Performance over windows. The reference takes exact quantiles over the rows, in ClickHouse.",
		tests: []benchTest{{"./analytics", analyticsFigures + "perf"}}},
	{name: "page", about: "A page of 100 rows.", tests: []benchTest{{"./analytics", analyticsFigures + "page"}}},
	{name: "facets", about: "Facets and their histogram. The reference is Postgres with an index for each facet, without a histogram.",
		tests: []benchTest{{"./analytics", analyticsFigures + "facets"}}},
	{name: "panels", about: "A hundred panels ask for one window at the same moment. The reference is one panel.",
		tests: []benchTest{{"./analytics", analyticsFigures + "panels"}}},
	{name: "copies", about: "A second copy in ClickHouse: a question whose copy freezes, and rows that wait for both. The reference has one copy.",
		tests: []benchTest{{"./analytics", analyticsFigures + "copies"}, {"./replicator", "TestBenchFiguresCopies"}}},
	{name: "export", about: "An export, read to its end.", tests: []benchTest{{"./analytics", analyticsFigures + "export"}}},
	{name: "shards", about: "Three servers of ClickHouse that share the rows, and one that has all, on the same processors. The reference is the one.",
		tests: []benchTest{{"./analytics", analyticsFigures + "shards"}}},
	{name: "size", about: "Bytes a row on disk.", tests: []benchTest{{"./analytics", analyticsFigures + "size"}}},
	{name: "big", about: "The same questions over 100 M rows in ClickHouse. It takes long and some 12 GB of disk, so it runs only when asked for.",
		tests: []benchTest{{"./analytics", "TestBenchBig"}}, alone: true},
	{name: "writer", about: "Commits. The references run on the same Postgres, in turns.", tests: []benchTest{{"./writer", "TestBenchFigures"}}},
	{name: "drain", about: "Rows that wait for the replicator.", tests: []benchTest{{"./replicator", "TestBenchFiguresDrain"}}, tools: true},
	{name: "visible", about: "From commit to visible in ClickHouse.", tests: []benchTest{{"./replicator", "TestBenchFiguresVisible"}}},
	{name: "failover", about: "The primary is lost to kill -9 and to an orderly stop, with two synchronous standbys. Nothing is told to ARGUS.",
		tests: []benchTest{{"./argusd", "TestBenchFailover"}, {"./replicator", "TestBenchFiguresFailover"}}, build: true},
	{name: "cpu", about: "Processor time of a row, from its call to its rollups, by process.", tests: []benchTest{{"./argusd", "TestBenchRow"}}, build: true},
	{name: "idle", about: "Processor time without a call, of one processor.", tests: []benchTest{{"./argusd", "TestBenchIdle"}}, build: true},
	{name: "api", about: "The API as a process.", tests: []benchTest{{"./argusd", "TestBenchFigures"}}, build: true},
	{name: "door", about: "Calls to a service behind the API. docs/api.md says why two of the targets are out of reach.",
		tests: []benchTest{{"./argusd", "TestBenchDoor"}}, build: true, tools: true},
	{name: "cli", about: "argusctl as a process, from its start to its end.",
		tests: []benchTest{{"./argusctl", "TestBenchFiguresArgusctl"}, {"./argusd", "TestBenchCLI"}}, build: true, tools: true},
	{name: "ledger", about: "The sealer.", tests: []benchTest{{"./ledger", "TestBenchDrain"}, {"./ledger", "TestBenchLatency"}, {"./ledger", "TestBenchBeside"}}},
	{name: "ship", about: "What is shipped. The receiver is an HTTPS server on this machine that looks at nothing.",
		tests: []benchTest{{"./ship", "TestBenchRate"}, {"./ship", "TestBenchLatency"}, {"./ship", "TestBenchBeside"}}},
	{name: "proof", about: "Proof files over HTTP.", tests: []benchTest{{"./api", "TestBenchProof"}}},
	{name: "verify", about: "Rows hashed and held against the tree.",
		tests: []benchTest{{"./argusd/verify", "TestBenchVerify"}, {"./argusctl", "TestBenchVerifyFile"}}},
	{name: "console", about: "The console in Chromium. The reference is an empty page in the same browser.", build: true, tools: true,
		tests: []benchTest{{consoleBench, consoleBench}}},
}

// consoleBench stands for `npm run bench` of the console.
const consoleBench = "api/console"

// quick are the sizes of a focused run, which is to end within two minutes. The environment outranks them.
var quick = map[string]string{
	"ARGUS_BENCH_ROWS": "2000000", "ARGUS_BENCH_LEDGER_ROWS": "500000", "ARGUS_BENCH_VERIFY_ROWS": "300000",
	"ARGUS_BENCH_EXPORT_ROWS": "500000", "ARGUS_BENCH_PROOF_LEAVES": "2000000", "ARGUS_BENCH_SCALE": "0.3",
}
