package jetstream_test

import (
	"testing"

	"ebb.dev/ebb/eventing/engine/enginetest"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, opener(startServer(t)))
}
