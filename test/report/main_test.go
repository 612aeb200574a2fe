package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAgain: a test that fails once is run again, alone, and is told of; one that fails
// twice has failed; and where many fail none is tried again.
func TestAgain(t *testing.T) {
	for _, tc := range []struct {
		name, tests    string
		passed, failed int
		again          []string
	}{
		{"a benchmark alone", `func BenchmarkA(b *testing.B) {}`, 0, 0, nil},
		{"none fails", `func TestA(t *testing.T) {}`, 1, 0, nil},
		{"one fails once", `func TestA(t *testing.T) {}; func TestB(t *testing.T) { t.Run("b", once) }`, 3, 0, []string{"again TestB"}},
		{"two fail once", `func TestA(t *testing.T) { t.Run("b", once) }; func TestB(t *testing.T) { t.Run("b", once) }`, 4, 0, []string{"again TestA", "again TestB"}},
		{"one fails always", `func TestA(t *testing.T) { t.Run("b", once) }; func TestB(t *testing.T) { t.Fail() }`, 2, 2, []string{"again TestA"}},
		{"many fail once", `func TestA(t *testing.T) { once(t) }; func TestB(t *testing.T) { once(t) }; func TestC(t *testing.T) { once(t) }; func TestD(t *testing.T) { once(t) }`, 0, 5, nil},
		{"the package fails", `func TestA(t *testing.T) { os.Exit(3) }`, 0, 1, nil},
		{"it does not compile", `func TestA(t *testing.T) { nothing() }`, 0, 2, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("go.mod", "module again\n\ngo 1.26\n")
			write("again_test.go", `package again

import ("os"; "path/filepath"; "strings"; "testing")

// once fails the first time that it is called for a test.
func once(t *testing.T) {
	mark := filepath.Join(`+"`"+dir+"`"+`, strings.ReplaceAll(t.Name(), "/", "-"))
	if _, err := os.Stat(mark); err != nil {
		_ = os.WriteFile(mark, nil, 0o600)
		t.Fatal("the first time")
	}
}

`+tc.tests+"\n")
			var out strings.Builder
			got, ran, err := test(dir, []string{"-timeout=1m", "-bench=.", "-benchtime=1x", "./..."}, &out)
			if err != nil {
				t.Fatal(err)
			}
			if wants := tc.passed > 0 || strings.Contains(tc.tests, "Benchmark"); ran != wants && tc.failed == 0 {
				t.Errorf("it says that something ran: %v", ran)
			}
			if got.Passed != tc.passed || got.Failed != tc.failed || strings.Join(got.Again, ",") != strings.Join(tc.again, ",") {
				t.Errorf("got %+v, want %d passed, %d failed, %v again; it printed\n%s", got, tc.passed, tc.failed, tc.again, out.String())
			}
		})
	}
}
