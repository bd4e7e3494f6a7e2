package analytics

import (
	"os"
	"testing"

	"github.com/useargus/argus/deploy/engines/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }
