package memory

import (
	"testing"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/engine/enginetest"
)

func TestConformance(t *testing.T) {
	store := &Store{}
	enginetest.Run(t, func(testing.TB) engine.Engine { return store.Open() })
}
