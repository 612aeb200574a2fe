package e2e

import (
	"testing"

	"ebb.dev/ebb/test/e2e/platform"
)

var shared = platform.Shared{Events: true}

func TestMain(m *testing.M) { shared.Main(m) }

// begin gives a test that may run beside others a namespace of its own.
func begin(t *testing.T) *platform.Namespace {
	t.Helper()
	t.Parallel()
	return shared.Platform(t).Namespace(t)
}
