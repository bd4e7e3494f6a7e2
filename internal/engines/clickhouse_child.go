//go:build !noengines

package engines

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// confinedVariable tells the child that it is confined.
const confinedVariable = "ARGUS_ENGINE_CONFINED"

// serveClickHouse is the life of the child: it opens the library, which is a whole ClickHouse, and calls
// its command line, which serves until stdin ends. The library installs signal handlers and threads of
// its own, so nothing else may live in this process. Where it can be, the child is confined first.
func serveClickHouse() int {
	var call clickhouseCall
	if err := json.Unmarshal([]byte(os.Getenv("ARGUS_ENGINE_CALL")), &call); err != nil {
		fmt.Fprintln(os.Stderr, "engines: bad call:", err)
		return 2
	}
	if canConfine() && os.Getenv(confinedVariable) == "" {
		err := confine(call.Dir, call.Library, call.Peers, append(os.Environ(), confinedVariable+"=1"))
		fmt.Fprintln(os.Stderr, "engines: confining ClickHouse:", err)
		return 1
	}
	if err := os.Chdir(call.Dir); err != nil {
		fmt.Fprintln(os.Stderr, "engines:", err)
		return 1
	}
	handle, err := purego.Dlopen(call.Library, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		fmt.Fprintln(os.Stderr, "engines:", err)
		return 2
	}
	var query func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	var resultError func(result unsafe.Pointer) string
	purego.RegisterLibFunc(&query, handle, "chdb_query_cmdline")
	purego.RegisterLibFunc(&resultError, handle, "chdb_result_error")

	argv := make([]*byte, len(call.Args)+1) // ends with a null pointer, as argv does
	for i, arg := range call.Args {
		argv[i] = &append([]byte(arg), 0)[0]
	}
	runtime.LockOSThread()
	result := query(int32(len(call.Args)), unsafe.Pointer(&argv[0]))
	runtime.KeepAlive(argv)
	if result == nil {
		fmt.Fprintln(os.Stderr, "engines: ClickHouse did not take its arguments")
		return 1
	}
	if message := resultError(result); message != "" {
		fmt.Fprintln(os.Stderr, "engines: ClickHouse ended:", message)
		return 1
	}
	return 0
}
