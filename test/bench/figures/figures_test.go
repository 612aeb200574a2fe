package figures

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func upTo(n int) []float64 {
	samples := make([]float64, n)
	for i := range samples {
		samples[i] = float64(n - i)
	}
	return samples
}

func TestQuantile(t *testing.T) {
	for _, tc := range []struct {
		samples []float64
		q, want float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2},
		{upTo(100), 0.5, 50},
		{upTo(100), 0.07, 7},
		{upTo(100), 0.9, 90},
		{upTo(100), 0.99, 99},
		{upTo(1000), 0.99, 990},
		{upTo(50), 0.99, 50},
		{upTo(100), 0, 1},
		{upTo(100), 1, 100},
	} {
		if got := Quantile(tc.samples, tc.q); got != tc.want {
			t.Errorf("quantile %v of %d samples: %v, want %v", tc.q, len(tc.samples), got, tc.want)
		}
	}
	if !math.IsNaN(Quantile(nil, 0.5)) {
		t.Error("the median of nothing is a number")
	}
	samples := []float64{3, 1, 2}
	Median(samples)
	if !slices.Equal(samples, []float64{3, 1, 2}) {
		t.Errorf("the samples were put into another order: %v", samples)
	}
}

func TestPairwise(t *testing.T) {
	if got := Pairwise([]float64{5, 9, 1}, []float64{2, 3}, Minus); !slices.Equal(got, []float64{3, 6}) {
		t.Errorf("differences: %v", got)
	}
	if got := Pairwise([]float64{5, 9}, []float64{2, 3, 4}, Over); !slices.Equal(got, []float64{2.5, 3}) {
		t.Errorf("ratios: %v", got)
	}
}

func TestSheet(t *testing.T) {
	var told []string
	s := &Sheet{OnAdd: func(f Figure) { told = append(told, f.Key) }, Last: "lost"}
	s.Add(Figure{Key: "lost.total", Value: 0})
	s.Quantiles("cold.*_ms", "ms", "m", upTo(100), 50, 99)
	s.Add(Figure{Key: "warm.ratio", Value: 1.5})
	s.Add(Figure{Key: "cold.first_ms", Value: 3})
	s.Add(Figure{Key: "warm.ratio", Value: 1.25})
	s.Add(Figure{Key: "cold.none", Value: math.NaN()})
	s.Add(Figure{Key: "cold.endless", Value: math.Inf(1)})
	s.Quantiles("split.*_ms.10", "ms", "m", nil, 50)
	var keys []string
	for _, f := range s.All() {
		keys = append(keys, f.Key)
	}
	if want := []string{"cold.p50_ms", "cold.p99_ms", "cold.first_ms", "warm.ratio", "lost.total"}; !slices.Equal(keys, want) {
		t.Errorf("keys %v, want %v", keys, want)
	}
	if f, ok := s.Get("warm.ratio"); !ok || f.Value != 1.25 {
		t.Errorf("warm.ratio is %v, %v", f, ok)
	}
	if f, ok := s.Get("cold.p99_ms"); !ok || f.Value != 99 || f.N != 100 {
		t.Errorf("cold.p99_ms is %v, %v", f, ok)
	}
	if _, ok := s.Get("cold.none"); ok {
		t.Error("what is no number is there")
	}
	if len(told) != 6 {
		t.Errorf("told of %v", told)
	}
}

func TestTargets(t *testing.T) {
	for _, tc := range []struct {
		target Target
		value  float64
		want   string
	}{
		{Target{Bound: 30}, 12.5, "≤ 30: met by 17.5"},
		{Target{Bound: 30}, 30, "≤ 30: met by 0"},
		{Target{Bound: 30}, 31.25, "≤ 30: missed by 1.25"},
		{Target{Bound: 150, Under: true}, 150, "< 150: missed by 0"},
		{Target{Bound: 150, Under: true}, 149.5, "< 150: met by 0.500"},
		{Target{Bound: 0.9, Least: true}, 0.95, "≥ 0.900: met by 0.050"},
		{Target{Bound: 0.9, Least: true}, 0.8, "≥ 0.900: missed by 0.100"},
		{Target{Bound: 0}, 0, "≤ 0: met by 0"},
		{Target{Bound: 0}, 2, "≤ 0: missed by 2"},
	} {
		v := tc.target.Judge(tc.value)
		if got := v.Target + ": " + v.String(); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.value, got, tc.want)
		}
	}
	for _, tc := range []struct {
		target, key string
		want        bool
	}{
		{"split.p99_ms.*", "split.p99_ms.10", true},
		{"split.p99_ms.*", "split.p99_ms.10.more", false},
		{"split.p99_ms.*", "split.p99_ms.", false},
		{"split.p99_ms.*", "split.p50_ms.10", false},
		{"lost.total", "lost.total", true},
		{"lost.total", "lost.total.1", false},
	} {
		if got := (Target{Key: tc.target}).Matches(tc.key); got != tc.want {
			t.Errorf("target %s for %s: %v", tc.target, tc.key, got)
		}
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0", 3: "3", 0.0501: "0.050", 1.256: "1.26", 12.34: "12.3", 123.4: "123", 1234567: "1,234,567", -1234.5: "-1,234", -0.25: "-0.250", 999.6: "1,000",
	} {
		if got := Number(value); got != want {
			t.Errorf("%v is written %q, want %q", value, got, want)
		}
	}
}

func TestDrawing(t *testing.T) {
	if got := Spark([]int{0, 1, 4, 8, 2}); got != " ▁▄█▂" {
		t.Errorf("spark %q", got)
	}
	if got := Spark([]int{0, 0}); got != "  " {
		t.Errorf("spark of nothing %q", got)
	}
	if got := Histogram([]float64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 5); !slices.Equal(got, []int{2, 2, 2, 2, 3}) {
		t.Errorf("histogram %v", got)
	}
	if got := Histogram([]float64{4, 4, 4}, 3); !slices.Equal(got, []int{3, 0, 0}) {
		t.Errorf("histogram of equals %v", got)
	}
	for _, tc := range []struct {
		value, most float64
		want        string
	}{{10, 10, "████"}, {5, 10, "██"}, {1, 32, "▏"}, {0.001, 10, "▏"}, {0, 10, ""}, {-1, 10, ""}, {20, 10, "████"}, {5.3, 16, "█▍"}} {
		if got := Bar(tc.value, tc.most, 4); got != tc.want {
			t.Errorf("bar of %v of %v: %q, want %q", tc.value, tc.most, got, tc.want)
		}
	}
}

func example() (*Sheet, []Target, []Chart) {
	s := &Sheet{}
	s.Quantiles("cold_start.*", "ms", "first request", upTo(100), 50, 99)
	s.Quantiles("cold_start.floor_ms.*", "ms", "plain", []float64{25, 25, 25}, 50)
	s.Add(Figure{Key: "lost.total", Unit: "requests", Value: 1, Method: "counted"})
	return s,
		[]Target{{Key: "cold_start.p50", Bound: 60}, {Key: "lost.total"}, {Key: "not.measured", Bound: 1}},
		[]Chart{{"from zero", []Row{{"Ebb", "cold_start.p50"}, {"the floor", "cold_start.floor_ms.p50"}}}, {"alone", []Row{{"a", "cold_start.p50"}, {"b", "not.measured"}}}}
}

func TestTable(t *testing.T) {
	s, targets, charts := example()
	var out strings.Builder
	s.Table(&out, targets, charts)
	want := `
cold_start.p50           50 ms        n=100     ▇▆▆▆▆▆▆▆▇▆▆▆▆▆▆█  ✓ ≤ 60   met by 10
cold_start.p99           99 ms        n=100
cold_start.floor_ms.p50  25 ms        n=3

lost.total                1 requests                              ✗ ≤ 0    missed by 1

from zero
  Ebb              50 ms ████████████████████████████████████████
  the floor        25 ms ████████████████████

1 of 2 targets met
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWrite(t *testing.T) {
	s, targets, _ := example()
	file := filepath.Join(t.TempDir(), "out", "bench.json")
	for range 2 {
		if err := s.Write(file, targets, map[string]bool{"whole": true}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		P50     float64 `json:"cold_start.p50"`
		Lost    float64 `json:"lost.total"`
		Methods map[string]string
		Units   map[string]string
		Samples map[string]int
		Targets map[string]Verdict
		Run     map[string]bool
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.P50 != 50 || got.Lost != 1 || got.Methods["cold_start.p50"] != "first request" || got.Units["lost.total"] != "requests" || got.Samples["cold_start.p99"] != 100 || !got.Run["whole"] {
		t.Errorf("read back: %+v", got)
	}
	if v := got.Targets["lost.total"]; v.Met || v.By != 1 || len(got.Targets) != 2 {
		t.Errorf("targets: %+v", got.Targets)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
