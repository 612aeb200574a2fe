package clients

import (
	"testing"

	"ebb.dev/ebb/test/e2e/platform"
)

var shared platform.Shared

func TestMain(m *testing.M) { shared.Main(m) }
