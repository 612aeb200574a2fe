package figures

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	sparkSteps = 16 // the width of a distribution in the table
	sparkFrom  = 8  // samples that make one
)

// Table writes all figures, a group a paragraph, with the targets beside those that have one, and then the charts.
func (s *Sheet) Table(w io.Writer, targets []Target, charts []Chart) {
	all := s.All()
	key, value, unit := 0, 0, 0
	for _, f := range all {
		key, value, unit = max(key, utf8.RuneCountInString(f.Key)), max(value, utf8.RuneCountInString(Number(f.Value))), max(unit, utf8.RuneCountInString(f.Unit))
	}
	met, missed := 0, 0
	for i, f := range all {
		if i == 0 || group(f.Key) != group(all[i-1].Key) {
			fmt.Fprintln(w)
		}
		n, spark := "", ""
		if f.N > 0 {
			n = fmt.Sprintf("n=%d", f.N)
		}
		if len(f.Samples) >= sparkFrom {
			spark = Spark(Histogram(f.Samples, sparkSteps))
		}
		verdict := ""
		if v, ok := judge(f, targets); ok {
			mark := "✗"
			if v.Met {
				met++
				mark = "✓"
			} else {
				missed++
			}
			verdict = fmt.Sprintf("%s %s %s", mark, pad(v.Target, 6), v)
		}
		line := fmt.Sprintf("%s  %s %s  %s  %s  %s", pad(f.Key, key), padLeft(Number(f.Value), value), pad(f.Unit, unit), pad(n, 8), pad(spark, sparkSteps), verdict)
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	for _, c := range charts {
		lines := c.Draw(s.Get)
		if len(lines) > 0 {
			fmt.Fprintln(w)
		}
		for _, line := range lines {
			fmt.Fprintln(w, line)
		}
	}
	if met+missed > 0 {
		fmt.Fprintf(w, "\n%d of %d targets met\n", met, met+missed)
	}
}
