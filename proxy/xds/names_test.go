package xds

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMentions(t *testing.T) {
	for _, c := range []struct {
		text, name string
		want       bool
	}{
		{"Error adding/updating cluster(s) c1: no", "c1", true},
		{"Error adding/updating cluster(s) c10: no", "c1", false},
		{"c10: no, c1: no", "c1", true},
		{"Only 'rev/a/b/1' is bad.", "rev/a/b/1", true},
		{"rev/a/b/1.", "rev/a/b/1", true},
		{"rev/a/b/1.2", "rev/a/b/1", false},
		{"xrev/a", "rev/a", false},
		{"", "c1", false},
		{"anything", "", false},
		{"scope s#1|x is bad", "s#1", false},
	} {
		if got := mentions(c.text, c.name); got != c.want {
			t.Errorf("%q in %q: %v", c.name, c.text, got)
		}
	}
}

func TestTruncate(t *testing.T) {
	got := truncate(strings.Repeat("ä", maxRejectText) + "\xff")
	if len(got) > maxRejectText+4 || !utf8.ValidString(got) {
		t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
	}
}
