package event

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExtensionsAreKeptByName(t *testing.T) {
	e := &Event{ID: "1", Source: "/s", Type: "t"}
	for _, name := range []string{"m", "a", "z", "m"} {
		e.SetExtension(name, "of "+name)
	}
	before := e.Clone()
	e.RemoveExtension("m")
	e.RemoveExtension("not there")
	if diff := cmp.Diff([]Attribute{{"a", "of a"}, {"z", "of z"}}, e.Extensions); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Attribute{{"a", "of a"}, {"m", "of m"}, {"z", "of z"}}, before.Extensions); diff != "" {
		t.Errorf("the clone changed with it: %s", diff)
	}
}

func TestGetTellsWhatIsThere(t *testing.T) {
	e := &Event{ID: "1", Source: "/s", Type: "t", Extensions: []Attribute{{"empty", ""}, {"tenant", "a"}}}
	for name, want := range map[string]struct {
		value string
		there bool
	}{
		"specversion": {"1.0", true}, "id": {"1", true}, "source": {"/s", true}, "type": {"t", true},
		"subject": {"", false}, "time": {"", false}, "tenant": {"a", true}, "empty": {"", true}, "other": {"", false},
	} {
		if value, there := e.Get(name); value != want.value || there != want.there {
			t.Errorf("Get(%s) = %q, %v; want %q, %v", name, value, there, want.value, want.there)
		}
	}
}
