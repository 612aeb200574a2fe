package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// names that the file gives to the address, as a resolver reads it.
func names(t *testing.T, path, address string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for l := range strings.SplitSeq(string(b), "\n") {
		l, _, _ = strings.Cut(l, "#")
		if f := strings.Fields(l); len(f) > 0 && f[0] == address {
			for _, n := range f[1:] {
				all[n] = true
			}
		}
	}
	return all
}

func TestHosts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	h, err := newHosts(path, "127.9.9.9")
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.add("shop/cart"))
	must(h.add("shop/cart"))
	must(h.add("default/hello"))
	got := names(t, path, "127.9.9.9")
	for _, want := range []string{"cart.shop.svc.cluster.local", "cart.shop.svc", "cart.shop", "hello.default.svc.cluster.local"} {
		if !got[want] {
			t.Errorf("no %s in %v", want, got)
		}
	}
	must(h.remove("shop/cart"))
	must(h.remove("shop/unknown"))
	if got := names(t, path, "127.9.9.9"); got["cart.shop"] || !got["hello.default"] || len(got) != 3 {
		t.Errorf("after one has gone: %v", got)
	}
	must(h.add("shop/cart"))
	for i := range 500 {
		must(h.add(fmt.Sprint("many/s", i)))
		must(h.remove(fmt.Sprint("many/s", i)))
	}
	if got := names(t, path, "127.9.9.9"); !got["cart.shop"] || !got["hello.default"] || len(got) != 6 {
		t.Errorf("after many: %v", got)
	}
	after, err := os.Stat(path)
	must(err)
	if !os.SameFile(before, after) || after.Size() > 20_000 {
		t.Errorf("the file is another one, or has %d bytes", after.Size())
	}
}
