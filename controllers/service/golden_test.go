package service

import (
	"testing"
	"time"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/golden"
)

func TestMake(t *testing.T) {
	golden.Run(t, "testdata/make", func(s *v1.Service) (any, error) {
		return []any{makeConfiguration(s), makeRoute(s)}, nil
	})
}

// observed is one input of observe.
type observed struct {
	Service       *v1.Service       `json:"service"`
	Configuration *v1.Configuration `json:"configuration"`
	Route         *v1.Route         `json:"route"`

	ConfigurationRefused string `json:"configurationRefused"`
}

func TestObserve(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	golden.Run(t, "testdata/observe", func(in observed) (any, error) {
		return observe(in.Service, seen{configuration: in.Configuration, route: in.Route, configurationRefused: in.ConfigurationRefused}, now), nil
	})
}
