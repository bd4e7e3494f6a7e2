//go:build noengines

package engines

import (
	"fmt"
	"os"
)

// Opening a library makes the executable a dynamically linked one. Production builds may leave it out.
func serveClickHouse() int {
	fmt.Fprintln(os.Stderr, "engines: this executable was built without the embedded engines")
	return 2
}
