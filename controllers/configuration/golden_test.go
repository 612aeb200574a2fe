package configuration

import (
	"testing"
	"time"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/golden"
)

func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func TestMakeRevision(t *testing.T) {
	golden.Run(t, "testdata/make", func(c *v1.Configuration) (any, error) { return makeRevision(c, now()), nil })
}

// observed is one input of observe.
type observed struct {
	Configuration *v1.Configuration `json:"configuration"`
	Latest        *v1.Revision      `json:"latest"`
	Taken         string            `json:"taken"`
	Refused       string            `json:"refused"`
	Revisions     []*v1.Revision    `json:"revisions"`
}

func TestObserve(t *testing.T) {
	golden.Run(t, "testdata/observe", func(in observed) (any, error) {
		s := seen{latest: in.Latest, taken: in.Taken, refused: in.Refused, revisions: in.Revisions}
		if in.Latest != nil {
			s.name = in.Latest.Name
		}
		return observe(in.Configuration, s, now()), nil
	})
}
