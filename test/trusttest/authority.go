package trusttest

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ebb.dev/ebb/controllers/credentials"
	"ebb.dev/ebb/trust"
)

// Authority signs.
type Authority struct {
	authority credentials.Authority
	believed  [][]byte
}

// New makes an authority.
func New(t testing.TB) *Authority { return At(t, time.Now()) }

// At makes one at another time.
func At(t testing.TB, now time.Time) *Authority {
	t.Helper()
	a, _, err := credentials.Authority{}.Next(now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{authority: a}
}

// Believe has the bundles written from now on hold other authorities too.
func (a *Authority) Believe(others ...*Authority) {
	for _, o := range others {
		a.believed = append(a.believed, o.authority.Bundle())
	}
}

// Bundle is PEM of what is to be believed.
func (a *Authority) Bundle() []byte {
	return append(a.authority.Bundle(), bytes.Join(a.believed, nil)...)
}

// Files writes a certificate of the role, its key and the authorities to a folder, or replaces them there as a
// kubelet does: all at once.
func (a *Authority) Files(t testing.TB, folder string, role trust.Role) *trust.Files {
	t.Helper()
	return a.FilesAt(t, folder, role, time.Now())
}

// FilesAt is Files of a certificate that was made at another time.
func (a *Authority) FilesAt(t testing.TB, folder string, role trust.Role, now time.Time) *trust.Files {
	t.Helper()
	certificate, key, err := a.authority.Sign(credentials.Leaf{Secret: "test", Role: role, Server: true, Client: true}, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	Replace(t, folder, map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": a.Bundle()})
	return Named(folder)
}

// Named are the files of a folder that [Authority.Files] or [Replace] has written.
func Named(folder string) *trust.Files {
	at := func(name string) string { return filepath.Join(folder, name) }
	return &trust.Files{Certificate: at("tls.crt"), Key: at("tls.key"), Authorities: at("ca.crt")}
}

// Replace writes files the way a kubelet updates a Secret's volume: each name is a link by way of ..data, a link to a
// folder, which is replaced.
func Replace(t testing.TB, folder string, files map[string][]byte) {
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fail(os.MkdirAll(folder, 0o700))
	next, err := os.MkdirTemp(folder, "..at_")
	fail(err)
	for name, text := range files {
		fail(os.WriteFile(filepath.Join(next, name), text, 0o600))
	}
	link := filepath.Join(folder, "..data")
	before, _ := os.Readlink(link)
	fail(os.Symlink(filepath.Base(next), link+"_tmp"))
	fail(os.Rename(link+"_tmp", link))
	for name := range files {
		if _, err := os.Lstat(filepath.Join(folder, name)); err != nil {
			fail(os.Symlink(filepath.Join("..data", name), filepath.Join(folder, name)))
		}
	}
	if before != "" {
		fail(os.RemoveAll(filepath.Join(folder, before)))
	}
}
