package duck

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

var errDuration = errors.New("is not a duration of ISO 8601 in days, hours, minutes and seconds, like PT0.2S, PT1M30S or P1D")

// ParseDuration reads a duration of ISO 8601 that has no years and months, whose length
// nobody knows: PnW, or PnDTnHnMnS with at least one part. A part may have a fraction, and a
// comma is a point. A day has 24 hours.
func ParseDuration(text string) (time.Duration, error) {
	rest, ok := strings.CutPrefix(text, "P")
	if !ok || len(text) > 64 {
		return 0, errDuration
	}
	days, clock, timed := strings.Cut(rest, "T")
	if timed && clock == "" || rest == "" {
		return 0, errDuration
	}
	units := []unit{{'W', 7 * 24 * time.Hour}, {'D', 24 * time.Hour}}
	sum, err := parts(days, units)
	if err != nil {
		return 0, err
	}
	more, err := parts(clock, []unit{{'H', time.Hour}, {'M', time.Minute}, {'S', time.Second}})
	if err != nil || sum+more > math.MaxInt64 {
		return 0, errDuration
	}
	return time.Duration(math.Round(sum + more)), nil
}

type unit struct {
	letter byte
	length time.Duration
}

// parts sums nanoseconds; the units have to come in their order.
func parts(text string, units []unit) (sum float64, err error) {
	for text != "" {
		end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' && r != ',' })
		if end < 1 || text[end-1] == '.' || text[end-1] == ',' || text[0] == '.' || text[0] == ',' {
			return 0, errDuration
		}
		for len(units) > 0 && units[0].letter != text[end] {
			units = units[1:]
		}
		n, err := strconv.ParseFloat(strings.ReplaceAll(text[:end], ",", "."), 64)
		if err != nil || len(units) == 0 {
			return 0, errDuration
		}
		sum += n * float64(units[0].length)
		units, text = units[1:], text[end+1:]
	}
	return sum, nil
}
