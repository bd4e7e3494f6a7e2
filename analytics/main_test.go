package analytics

import (
	"os"
	"testing"

	"github.com/useargus/argus/internal/engines/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }
