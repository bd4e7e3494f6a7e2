package api

import (
	"os"
	"testing"

	"github.com/useargus/argus/internal/engines/enginetest"
)

func TestMain(m *testing.M) {
	doorChild() // this program may be a process that a test kills
	os.Exit(enginetest.Run(m))
}
