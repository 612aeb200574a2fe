package nearest

import "strings"

// longest name that is compared, in bytes; a longer one is no typing error.
const longest = 128

// Name returns the candidate nearest to name by edit distance without regard to case,
// or "" when none differs by a third of its letters or less. The first of several
// equally near ones wins.
func Name(name string, candidates []string) string {
	if len(name) > longest {
		return ""
	}
	best, bestDistance := "", len(name)/3+1
	lower := strings.ToLower(name)
	for _, c := range candidates {
		if c == name || len(c) > longest {
			continue
		}
		if d := distance(lower, strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete, replace or swap with the next one
// (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := last[j-1]
			if a[i-1] != b[j-1] {
				cost++
			}
			row[j] = min(cost, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
