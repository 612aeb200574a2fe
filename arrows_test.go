package ebb_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "ebb.dev/ebb"

// arrows lists, for each part of the platform, the parts it may import. A part is a
// folder with all that is below it; the longest prefix decides. Tests may import more.
var arrows = map[string][]string{
	"apis":                {"apis"},
	"config":              {},
	"config/install":      {"apis", "config"},
	"trust":               {},
	"controllers":         {"apis", "controllers", "trust", "eventing/engine", "eventing/filter", "eventing/plan", "eventing/translate", "eventing/event", "eventing/sources"},
	"proxy/ir":            {},
	"proxy/link":          {},
	"proxy/rendezvous":    {},
	"proxy/translate":     {"apis", "proxy/ir", "proxy/link", "proxy/rendezvous"},
	"proxy/envoy":         {"proxy/ir"},
	"proxy/xds":           {},
	"proxy/members":       {"proxy/link"},
	"proxy/shares":        {"proxy/rendezvous"},
	"proxy/publish":       {"apis", "proxy/ir", "proxy/link", "proxy/translate", "proxy/envoy", "proxy/xds", "proxy/members", "proxy/shares"},
	"activator":           {"proxy/ir", "proxy/link", "activator", "trust"},
	"autoscaler":          {"apis", "proxy/ir", "autoscaler"},
	"autoscaler/backlog":  {"proxy/ir", "proxy/link"},
	"eventing/event":      {},
	"eventing/engine":     {"eventing/event"},
	"eventing/plan":       {"eventing/engine"},
	"eventing/translate":  {"apis", "eventing/engine", "eventing/plan"},
	"eventing/filter":     {"eventing/event", "eventing/plan"},
	"eventing/delivery":   {"eventing/event", "eventing/plan"},
	"eventing/ingress":    {"eventing/event", "eventing/engine", "eventing/plan", "eventing/deadletter"},
	"eventing/dispatcher": {"eventing/event", "eventing/engine", "eventing/plan", "eventing/filter", "eventing/delivery", "eventing/deadletter"},
	"eventing/backlog":    {"eventing/dispatcher", "proxy/link"},
	"eventing/deadletter": {"eventing/event", "eventing/engine", "eventing/plan", "eventing/delivery"},
	"eventing/inspect":    {"eventing/event", "eventing/engine", "eventing/plan", "eventing/filter", "eventing/delivery", "eventing/deadletter"},
	"eventing/jetstream":  {"eventing/event", "eventing/engine"},
	"eventing/natsserver": {},
	"eventing/sources":    {"apis", "eventing/event", "eventing/engine", "eventing/plan", "eventing/delivery"},
	"cmd/ebb":             {""},
	"cmd/ebb-images":      {"cmd/ebb/envoybin"},
	"examples":            {},
	"test":                {""},
}

// TestArrows holds the direction in which data flows:
//
//	apis -> controllers -> proxy/translate -> proxy/ir -> proxy/envoy -> proxy/xds
//	load reports, backlogs -> autoscaler -> scale
//	apis -> eventing/translate -> eventing/plan -> the ingress and the dispatcher
func TestArrows(t *testing.T) {
	checked := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// Modules of their own and folders without Go code.
			if slices.Contains([]string{".git", "bin", "out", "local", "tools", "test/compat", "test/clients", "testdata"}, filepath.ToSlash(file)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || file == "doc.go" {
			return nil
		}
		folder := path.Dir(filepath.ToSlash(file))
		part, allowed, ok := rule(folder)
		if !ok {
			t.Errorf("%s: no rule says what %s may import; add it to arrows", file, folder)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		checked++
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			inside, ours := strings.CutPrefix(imported, module+"/")
			if !ours || within(inside, part) {
				continue
			}
			if !slices.ContainsFunc(allowed, func(a string) bool { return within(inside, a) }) {
				t.Errorf("%s imports %s: %s may import only %v", file, imported, part, allowed)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked == 0 {
		t.Fatal("no Go file was checked")
	}
}

func rule(folder string) (part string, allowed []string, ok bool) {
	for part = folder; part != "."; part = path.Dir(part) {
		if allowed, ok = arrows[part]; ok {
			return part, allowed, true
		}
	}
	return "", nil, false
}

func within(folder, part string) bool {
	return part == "" || folder == part || strings.HasPrefix(folder, part+"/")
}
