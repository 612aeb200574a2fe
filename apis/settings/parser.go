package settings

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"ebb.dev/ebb/apis/serving/nearest"
)

// parser reads the keys of one ConfigMap, remembers which of them were asked for and
// collects what is wrong. A value that is absent leaves its target alone.
type parser struct {
	configMap string
	data      map[string]string
	known     []string
	errs      []error
}

func newParser(configMap string, data map[string]string) *parser {
	return &parser{configMap: configMap, data: data, known: []string{"_example"}}
}

// accept names keys that Knative reads and Ebb has no use for: they are no error.
func (p *parser) accept(keys ...string) { p.known = append(p.known, keys...) }

// lookup finds a key, or one of its older spellings, and trims the value.
func (p *parser) lookup(key string, older ...string) (string, bool) {
	p.known = append(append(p.known, key), older...)
	for _, k := range append([]string{key}, older...) {
		if v, ok := p.data[k]; ok {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

// Bounds of what is said about one ConfigMap, which may be a megabyte of mistakes.
const (
	maxErrors  = 20
	maxMessage = 1 << 10 // bytes
	maxKey     = 253     // bytes, as Kubernetes has it
)

// bad reports a key's value.
func (p *parser) bad(key, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	if len(key) > maxKey {
		key = strings.ToValidUTF8(key[:maxKey], "") + "…"
	}
	p.errs = append(p.errs, fmt.Errorf("%s/%s: %s", p.configMap, key, message))
}

// err returns everything that is wrong, keys that nobody asked for included, in a fixed order.
func (p *parser) err() error {
	for _, key := range slices.Sorted(maps.Keys(p.data)) {
		if slices.Contains(p.known, key) {
			continue
		}
		if len(p.errs) > maxErrors {
			p.errs = append(p.errs[:maxErrors], fmt.Errorf("%s: more is wrong", p.configMap))
			break
		}
		if like := nearest.Name(key, p.known); like != "" {
			p.bad(key, "unknown key; did you mean %q?", like)
		} else {
			p.bad(key, "unknown key")
		}
	}
	return errors.Join(p.errs...)
}

func (p *parser) text(key string, into *string, older ...string) {
	if v, ok := p.lookup(key, older...); ok {
		*into = v
	}
}

// oneOf takes one of the values, in any case, and stores it as spelled in values.
func (p *parser) oneOf(key string, into *string, values []string, older ...string) {
	v, ok := p.lookup(key, older...)
	if !ok {
		return
	}
	for _, want := range values {
		if strings.EqualFold(v, want) {
			*into = want
			return
		}
	}
	p.bad(key, "%q is not one of %s", v, strings.Join(values, ", "))
}

func (p *parser) boolean(key string, into *bool, older ...string) {
	v, ok := p.lookup(key, older...)
	if !ok {
		return
	}
	switch {
	case strings.EqualFold(v, "true"):
		*into = true
	case strings.EqualFold(v, "false"):
		*into = false
	default:
		p.bad(key, "%q is neither true nor false", v)
	}
}

func (p *parser) integer(key string, into *int64, low, high int64) {
	v, ok := p.lookup(key)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(v, 10, 64)
	switch {
	case err != nil:
		p.bad(key, "%q is not a whole number", v)
	case n < low || n > high:
		p.bad(key, "%d is outside %d..%d", n, low, high)
	default:
		*into = n
	}
}

func (p *parser) scale(key string, into *int32) {
	n := int64(*into)
	p.integer(key, &n, 0, math.MaxInt32)
	*into = int32(n)
}

func (p *parser) float(key string, into *float64, low, high float64) {
	v, ok := p.lookup(key)
	if !ok {
		return
	}
	n, err := parseFloat(v)
	switch {
	case err != nil:
		p.bad(key, "%q is not a number", v)
	case n < low || n > high:
		p.bad(key, "%s is outside %s", v, span(low, high))
	default:
		*into = n
	}
}

func (p *parser) duration(key string, into *time.Duration, low, high time.Duration, older ...string) {
	v, ok := p.lookup(key, older...)
	if !ok {
		return
	}
	d, err := time.ParseDuration(v)
	switch {
	case err != nil:
		p.bad(key, "%q is not a duration like 30s or 5m", v)
	case d < low || d > high:
		p.bad(key, "%s is outside %s..%s", v, low, high)
	default:
		*into = d
	}
}

func (p *parser) quantity(key string, into **resource.Quantity) {
	v, ok := p.lookup(key)
	if !ok || v == "" {
		return
	}
	// Longer text than any amount that means something costs time to parse.
	if len(v) > 64 {
		p.bad(key, "is longer than 64 bytes")
		return
	}
	q, err := resource.ParseQuantity(v)
	if err != nil || q.Sign() < 0 {
		p.bad(key, "%q is not an amount like 100m or 64Mi", v)
		return
	}
	*into = &q
}

func (p *parser) template(key string, text string, older ...string) *template.Template {
	if v, ok := p.lookup(key, older...); ok {
		text = v
	}
	t, err := newTemplate(key, text)
	if err != nil {
		p.bad(key, "%v", err)
		return nil
	}
	return t
}

// parseFloat is strconv.ParseFloat without infinities and NaN.
func parseFloat(v string) (float64, error) {
	n, err := strconv.ParseFloat(v, 64)
	if err == nil && (math.IsInf(n, 0) || math.IsNaN(n)) {
		err = strconv.ErrRange
	}
	return n, err
}

func span(low, high float64) string {
	if high == math.MaxFloat64 {
		return fmt.Sprintf("%g..", low)
	}
	return fmt.Sprintf("%g..%g", low, high)
}
