package lan

import (
	"os"
	"testing"

	"igdd/pkg/netlab"
)

func TestMain(m *testing.M) { os.Exit(netlab.Main(m.Run)) }
