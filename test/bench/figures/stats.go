package figures

import (
	"math"
	"slices"
)

// Quantile of samples in any order, 0 <= q <= 1, by nearest rank: it is one of the samples.
// NaN without samples.
func Quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(q*float64(len(sorted)) - 1e-9)) // 0.07*100 is a little more than 7
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Median of samples in any order.
func Median(samples []float64) float64 { return Quantile(samples, 0.5) }

// Sum of values.
func Sum(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}

// Pairwise applies f to the values at the same place of two lists, as far as both go.
func Pairwise(a, b []float64, f func(a, b float64) float64) []float64 {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = f(a[i], b[i])
	}
	return out
}

// Minus is the difference, for [Pairwise].
func Minus(a, b float64) float64 { return a - b }

// Over is the ratio, for [Pairwise].
func Over(a, b float64) float64 { return a / b }
