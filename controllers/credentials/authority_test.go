package credentials

import (
	"crypto/rand"
	"crypto/x509"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"ebb.dev/ebb/trust"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func must[T any](t interface{ Fatal(...any) }) func(T, error) T {
	return func(v T, err error) T {
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// part is one peer: what it read last of its Secret.
type part struct {
	leaf                     Leaf
	certificate, key, bundle []byte
	seen                     time.Time
}

func (p *part) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.bundle)
	return pool
}

// TestRotation: for years, with a leader that now and then looks late and by a clock that is off, parts that read what is
// written hours late and whose clocks are off too all believe each other all the time.
func TestRotation(t *testing.T) {
	for seed := range uint64(4) {
		r := mathrand.New(mathrand.NewPCG(seed, 0))
		minutes := func(most int) time.Duration { return time.Duration(r.IntN(2*most+1)-most) * time.Minute }
		var authority Authority
		secrets, signed, authorities := map[string]*part{}, 0, map[string]bool{}
		parts := map[string]*part{}
		now := begin
		lead := func() {
			at := now.Add(minutes(20))
			next, _, err := authority.Next(at, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			authority = next
			for _, p := range authority.pairs {
				authorities[p.Certificate.Subject.CommonName] = true
			}
			for _, l := range Leaves("ebb-system", "ebb-controller") {
				s := secrets[l.Secret]
				if s == nil {
					s = &part{leaf: l}
					secrets[l.Secret] = s
				}
				s.bundle = authority.Bundle()
				if authority.Due(l, s.certificate, s.key, at) == "" {
					continue
				}
				signed++
				if s.certificate, s.key, err = authority.Sign(l, at, rand.Reader); err != nil {
					t.Fatal(err)
				}
			}
		}
		lead()
		for name, s := range secrets {
			p := *s
			p.seen = now
			parts[name] = &p
		}
		for now.Before(begin.Add(3 * 365 * 24 * time.Hour)) {
			now = now.Add(time.Duration(4+r.IntN(120)) * time.Hour)
			lead()
			for _, l := range Leaves("ebb-system", "ebb-controller") {
				p := parts[l.Secret]
				if now.Sub(p.seen) > 12*time.Hour || r.IntN(2) == 0 {
					*p = *secrets[l.Secret]
					p.seen = now
				}
			}
			for _, one := range parts {
				m, err := trust.Parse(one.certificate, one.key, one.bundle)
				if err != nil {
					t.Fatal(err)
				}
				for _, other := range parts {
					at := now.Add(minutes(30))
					if _, err := m.Certificate.Leaf.Verify(x509.VerifyOptions{Roots: other.pool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
						t.Fatalf("seed %d: after %s %s does not believe %s: %v", seed, now.Sub(begin), other.leaf.Secret, one.leaf.Secret, err)
					}
				}
			}
			if n := len(authority.pairs); n > 2 {
				t.Fatalf("seed %d: %d authorities are believed at once", seed, n)
			}
		}
		if len(authorities) < 3 || len(authorities) > 5 {
			t.Fatalf("seed %d: %d authorities in three years", seed, len(authorities))
		}
		if signed > len(Leaves("ebb-system", "ebb-controller"))*3*365/15 {
			t.Fatalf("seed %d: %d leaves were signed", seed, signed)
		}
	}
}

// An authority and its keys are read as they were written.
func TestReadBack(t *testing.T) {
	one := must2(t)(Authority{}.Next(begin, rand.Reader))
	two := must2(t)(one.Next(begin.Add(authorityLife-successorBefore+time.Hour), rand.Reader))
	if len(two.pairs) != 2 {
		t.Fatalf("%d authorities are believed, want 2", len(two.pairs))
	}
	keys := must[[]byte](t)(two.Keys())
	again := must[Authority](t)(Read(two.Bundle(), keys))
	if string(again.Bundle()) != string(two.Bundle()) || string(must[[]byte](t)(again.Keys())) != string(keys) {
		t.Error("what is read is not what was written")
	}
	if _, changed, err := again.Next(begin.Add(authorityLife-successorBefore+2*time.Hour), rand.Reader); changed || err != nil {
		t.Errorf("an hour later it changes: %v, %v", changed, err)
	}
	for what, read := range map[string]func() (Authority, error){
		"the keys of another one": func() (Authority, error) { return Read(one.Bundle(), keys[len(keys)/2:]) },
		"a key too few":           func() (Authority, error) { return Read(two.Bundle(), must[[]byte](t)(one.Keys())) },
		"rubbish": func() (Authority, error) {
			return Read([]byte(strings.Replace(string(one.Bundle()), "M", "N", 1)), keys)
		},
	} {
		if _, err := read(); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func must2(t *testing.T) func(Authority, bool, error) Authority {
	return func(a Authority, changed bool, err error) Authority {
		t.Helper()
		if err != nil || !changed {
			t.Fatal(changed, err)
		}
		return a
	}
}

// A leaf is signed anew when it is not there, ends soon, has other names, or is of a stranger.
func TestDue(t *testing.T) {
	a := must2(t)(Authority{}.Next(begin, rand.Reader))
	stranger := must2(t)(Authority{}.Next(begin, rand.Reader))
	leaf := Leaves("ebb-system", "ebb-controller")[2]
	certificate, key, err := a.Sign(leaf, begin, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		a    Authority
		l    Leaf
		at   time.Duration
		due  bool
	}{
		{"as it was signed", a, leaf, 0, false},
		{"until ten days before its end", a, leaf, leafLife - renewBefore - time.Minute, false},
		{"ten days before its end", a, leaf, leafLife - renewBefore + time.Minute, true},
		{"after its end", a, leaf, leafLife + time.Hour, true},
		{"long before it was signed", a, leaf, -2 * time.Hour, true},
		{"of a stranger", stranger, leaf, 0, true},
		{"of another service", a, Leaves("ebb-system", "other")[2], 0, true},
		{"of another role", a, Leaf{Role: trust.Gateway, DNS: leaf.DNS, Server: true}, 0, true},
	} {
		if why := test.a.Due(test.l, certificate, key, begin.Add(test.at)); (why != "") != test.due {
			t.Errorf("%s: due is %q", test.name, why)
		}
	}
	if why := a.Due(leaf, nil, nil, begin); why == "" {
		t.Error("nothing is not due")
	}
}

// What a leader with a clock a year ahead has made is given up by the next one, whose clock is right.
func TestClockAhead(t *testing.T) {
	a := must2(t)(Authority{}.Next(begin.Add(365*24*time.Hour), rand.Reader))
	leaf := Leaves("ebb-system", "ebb-controller")[0]
	certificate, key, err := a.Sign(leaf, begin.Add(365*24*time.Hour), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := must2(t)(a.Next(begin, rand.Reader))
	if len(b.pairs) != 1 || b.Due(leaf, certificate, key, begin) == "" {
		t.Errorf("%d authorities, and the leaf is not due", len(b.pairs))
	}
}
