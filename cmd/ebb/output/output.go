package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"
)

// Format of a command's output.
type Format string

// The formats of -o.
const (
	Table Format = ""
	Wide  Format = "wide"
	JSON  Format = "json"
	YAML  Format = "yaml"
	Name  Format = "name"
)

// Formats that -o takes.
func Formats() []string { return []string{string(JSON), string(YAML), string(Name), string(Wide)} }

// ParseFormat reads the value of -o.
func ParseFormat(value string) (Format, error) {
	switch f := Format(value); f {
	case Table, Wide, JSON, YAML, Name:
		return f, nil
	}
	return "", fmt.Errorf("-o %s is not a format: use one of %s", value, strings.Join(Formats(), ", "))
}

// Column of a table of T.
type Column[T any] struct {
	Title string
	Wide  bool // only with -o wide
	Value func(T) string
}

// WriteTable writes a line for each item under the titles. Empty values become <none>.
func WriteTable[T any](w io.Writer, format Format, columns []Column[T], items []T) error {
	tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	line := func(value func(Column[T]) string) {
		var cells []string
		for _, c := range columns {
			if c.Wide && format != Wide {
				continue
			}
			cells = append(cells, value(c))
		}
		fmt.Fprintln(tw, strings.TrimRight(strings.Join(cells, "\t"), " "))
	}
	line(func(c Column[T]) string { return c.Title })
	for _, item := range items {
		line(func(c Column[T]) string {
			if v := OneLine(c.Value(item)); v != "" {
				return v
			}
			return "<none>"
		})
	}
	return tw.Flush()
}

// WriteFields writes "Title: value" lines, aligned; empty values are left out. A value
// of several lines is indented under its title.
func WriteFields(w io.Writer, fields [][2]string) error {
	width := 0
	for _, f := range fields {
		if f[1] != "" {
			width = max(width, utf8.RuneCountInString(f[0]))
		}
	}
	for _, f := range fields {
		if f[1] == "" {
			continue
		}
		value := strings.ReplaceAll(f[1], "\n", "\n"+strings.Repeat(" ", width+3))
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", width+1, f[0]+":", value); err != nil {
			return err
		}
	}
	return nil
}

// WriteObject writes JSON or YAML.
func WriteObject(w io.Writer, format Format, object any) error {
	text, err := json.MarshalIndent(object, "", "    ")
	if err != nil {
		return err
	}
	if format == YAML {
		if text, err = yaml.JSONToYAML(text); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(w, strings.TrimRight(string(text), "\n"))
	return err
}

// Age is the time since t as kubectl writes it.
func Age(t, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t))
}

const cellLimit = 160 // runes

// OneLine makes text fit a cell, or a line of its own.
func OneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) > cellLimit {
		return string([]rune(text)[:cellLimit-1]) + "…"
	}
	return text
}
