package figures

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

var levels = []rune("▁▂▃▄▅▆▇█")

// Spark draws counts as a line of small columns, the highest full; nothing is a space.
func Spark(counts []int) string {
	most := 0
	for _, c := range counts {
		most = max(most, c)
	}
	out := make([]rune, len(counts))
	for i, c := range counts {
		if out[i] = ' '; c > 0 {
			out[i] = levels[(c*len(levels)-1)/most]
		}
	}
	return string(out)
}

// Histogram counts samples in so many equal steps from the smallest to the p99; the last
// step has what is beyond it too.
func Histogram(samples []float64, steps int) []int {
	counts := make([]int, steps)
	if len(samples) == 0 {
		return counts
	}
	low, high := slices.Min(samples), Quantile(samples, 0.99)
	for _, v := range samples {
		step := 0
		if high > low {
			step = int((v - low) / (high - low) * float64(steps))
		}
		counts[min(step, steps-1)]++
	}
	return counts
}

var eighths = []rune("▏▎▍▌▋▊▉█")

// Bar draws a value as a line of so many columns when it is most.
func Bar(value, most float64, columns int) string {
	if !(value > 0) || !(most > 0) {
		return ""
	}
	n := int(math.Round(min(value/most, 1) * float64(columns) * 8))
	n = max(n, 1)
	bar := strings.Repeat("█", n/8)
	if rest := n % 8; rest > 0 {
		bar += string(eighths[rest-1])
	}
	return bar
}

// Chart compares figures of one unit with each other.
type Chart struct {
	Title string
	Rows  []Row
}

// Row of a chart: the figure of a key.
type Row struct{ Label, Key string }

// Draw returns the lines of a chart, of the rows whose figures are there; none with fewer than two.
func (c Chart) Draw(get func(key string) (Figure, bool)) []string {
	var rows []Figure
	var labels []string
	most, widest := 0.0, 0
	for _, r := range c.Rows {
		f, ok := get(r.Key)
		if !ok {
			continue
		}
		rows, labels = append(rows, f), append(labels, r.Label)
		most, widest = max(most, f.Value), max(widest, utf8.RuneCountInString(r.Label))
	}
	if len(rows) < 2 {
		return nil
	}
	lines := []string{c.Title}
	for i, f := range rows {
		lines = append(lines, strings.TrimRight("  "+pad(labels[i], widest)+"  "+padLeft(Number(f.Value), 8)+" "+f.Unit+" "+Bar(f.Value, most, 40), " "))
	}
	return lines
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

func padLeft(text string, width int) string {
	return strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text))) + text
}
