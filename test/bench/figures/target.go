package figures

import (
	"fmt"
	"strings"
)

// Target is a bound for a figure.
type Target struct {
	// Key of the figure. A last part that is a star stands for one part, whatever it is.
	Key   string
	Least bool // the value has to be at least Bound; else at most
	Bound float64
	Under bool // Bound itself is too much
}

// Matches tells whether the target is one for the key.
func (t Target) Matches(key string) bool {
	prefix, any := strings.CutSuffix(t.Key, "*")
	if !any {
		return key == t.Key
	}
	rest, ok := strings.CutPrefix(key, prefix)
	return ok && rest != "" && !strings.Contains(rest, ".")
}

// String is the bound as people write it.
func (t Target) String() string {
	sign := "≤"
	switch {
	case t.Least:
		sign = "≥"
	case t.Under:
		sign = "<"
	}
	return sign + " " + Number(t.Bound)
}

// Verdict says whether a value meets the target.
type Verdict struct {
	Target string  `json:"target"`
	Met    bool    `json:"met"`
	By     float64 `json:"by"` // how far the value is from the bound, in its unit
}

// Judge compares a value with the bound.
func (t Target) Judge(value float64) Verdict {
	by := t.Bound - value
	if t.Least {
		by = -by
	}
	met := by > 0 || (by == 0 && !t.Under)
	if by < 0 {
		by = -by
	}
	return Verdict{Target: t.String(), Met: met, By: by}
}

func (v Verdict) String() string {
	word := "missed"
	if v.Met {
		word = "met"
	}
	return fmt.Sprintf("%s by %s", word, Number(v.By))
}

// judge returns the verdict of the first target for the figure.
func judge(f Figure, targets []Target) (Verdict, bool) {
	for _, t := range targets {
		if t.Matches(f.Key) {
			return t.Judge(f.Value), true
		}
	}
	return Verdict{}, false
}
