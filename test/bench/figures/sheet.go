package figures

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Figure is one number.
type Figure struct {
	Key     string // parts with dots between them; the first one is the group it is shown in
	Unit    string
	Value   float64
	N       int    // samples behind it; 0 when it is not of samples
	Method  string // how it was got, for somebody who has not seen the program
	Samples []float64
}

// Sheet collects figures in the order in which they come. Its methods may be called from any goroutine.
type Sheet struct {
	// OnAdd is told of each figure; nil is fine.
	OnAdd func(Figure)
	// Last is the group that is shown after all others.
	Last string

	mu   sync.Mutex
	all  []Figure
	seen map[string]int
}

// Add takes a figure; one with the key of an earlier one replaces it. What is no number, as
// the median of no samples, is left out.
func (s *Sheet) Add(f Figure) {
	if math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
		return
	}
	s.mu.Lock()
	if i, ok := s.seen[f.Key]; ok {
		s.all[i] = f
	} else {
		if s.seen == nil {
			s.seen = map[string]int{}
		}
		s.seen[f.Key] = len(s.all)
		s.all = append(s.all, f)
	}
	s.mu.Unlock()
	if s.OnAdd != nil {
		s.OnAdd(f)
	}
}

// Quantiles adds one figure for each percentile of the samples (50, 90, 99), with "p50" in the place of
// the star in the key. Without samples it adds nothing.
func (s *Sheet) Quantiles(key, unit, method string, samples []float64, percentiles ...int) {
	for i, p := range percentiles {
		f := Figure{
			Key: strings.Replace(key, "*", "p"+strconv.Itoa(p), 1), Unit: unit, Method: method,
			Value: Quantile(samples, float64(p)/100), N: len(samples),
		}
		if i == 0 {
			f.Samples = slices.Clone(samples)
		}
		s.Add(f)
	}
}

// Get returns the figure of a key.
func (s *Sheet) Get(key string) (Figure, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.seen[key]
	if !ok {
		return Figure{}, false
	}
	return s.all[i], true
}

// All figures, the groups in the order in which they began, but for Last.
func (s *Sheet) All() []Figure {
	s.mu.Lock()
	defer s.mu.Unlock()
	var groups []string
	for _, f := range s.all {
		if g := group(f.Key); !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	out := slices.Clone(s.all)
	place := func(f Figure) int {
		if group(f.Key) == s.Last {
			return len(groups)
		}
		return slices.Index(groups, group(f.Key))
	}
	slices.SortStableFunc(out, func(a, b Figure) int { return place(a) - place(b) })
	return out
}

func group(key string) string {
	g, _, _ := strings.Cut(key, ".")
	return g
}
