package ebb_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDocumentNamesTests reads the tables of documents that say what holds each of their lines: each test, file or
// golden case named in the last column is there, in the folder named before it.
func TestDocumentNamesTests(t *testing.T) {
	for document, least := range map[string]int{"docs/serving-api.md": 100, "docs/eventing-api.md": 10, "docs/security.md": 20} {
		t.Run(document, func(t *testing.T) { namesTests(t, document, least) })
	}
}

func namesTests(t *testing.T, document string, least int) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	folder := regexp.MustCompile("`([^`]+)`")
	name := regexp.MustCompile(`"[^"]*"|[^,"]+`)
	aside := regexp.MustCompile(`\([^)]*\)`)
	named := 0
	test := false // the last column of this table names tests
	for n, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		last := strings.TrimSpace(cells[len(cells)-1])
		switch {
		case !strings.HasPrefix(line, "|"):
			test = false
			continue
		case last == "test":
			test = true
			continue
		case !test || strings.HasPrefix(last, "---"):
			continue
		}
		if last == "" {
			continue // as the line above
		}
		for part := range strings.SplitSeq(aside.ReplaceAllString(last, ""), ";") {
			where := folder.FindStringSubmatch(part)
			if where == nil {
				t.Errorf("line %d: no folder in %q", n+1, part)
				continue
			}
			files := under(t, where[1])
			if len(files) == 0 {
				t.Errorf("line %d: there is no %s", n+1, where[1])
			}
			for _, name := range name.FindAllString(strings.Replace(part, where[0], "", 1), -1) {
				if name = strings.TrimSpace(name); name == "" {
					continue
				}
				if named++; !files.have(name) {
					t.Errorf("line %d: nothing in %s is called %s", n+1, where[1], name)
				}
			}
		}
	}
	if named < least {
		t.Errorf("only %d tests are named", named)
	}
}

// files are the texts of a folder's test files and the names of its test data.
type files map[string]string

func under(t *testing.T, folder string) files {
	t.Helper()
	found := files{}
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // what is not there is not found
		}
		if strings.HasSuffix(path, "_test.go") {
			text, err := os.ReadFile(path)
			found[path] = string(text)
			return err
		}
		if strings.Contains(path, "testdata"+string(filepath.Separator)) {
			found[path] = ""
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (f files) have(name string) bool {
	for path, text := range f {
		switch {
		case strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz"):
			if strings.Contains(text, "\nfunc "+name+"(") {
				return true
			}
		case strings.HasPrefix(name, `"`):
			if strings.Contains(text, name) {
				return true
			}
		default:
			base, _, _ := strings.Cut(filepath.Base(path), ".")
			if text == "" && base == name || strings.Contains(text, `"`+name+`"`) {
				return true
			}
		}
	}
	return false
}

// TestDocumentIsComplete: each reason, each condition, each annotation or label and each
// key of the ConfigMaps that the code knows has a place in docs/serving-api.md, or, of eventing, in docs/eventing-api.md.
func TestDocumentIsComplete(t *testing.T) {
	document, name := "", ""
	read := func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		document, name = string(text), path
	}
	missing := func(what, value string) {
		if !strings.Contains(document, value) {
			t.Errorf("%s %s is not in %s", what, value, name)
		}
	}
	count := 0
	for _, folder := range []string{
		"apis/serving", "apis/serving/v1", "apis/serving/v1beta1",
		"apis/eventing", "apis/eventing/duck", "apis/eventing/v1", "apis/eventing/v1beta2", "apis/messaging/v1", "apis/flows/v1", "apis/sources/v1",
	} {
		read("docs/serving-api.md")
		if !strings.HasPrefix(folder, "apis/serving") {
			read("docs/eventing-api.md")
		}
		eachConstant(t, folder, func(name string, value string) {
			switch {
			case strings.HasPrefix(name, "Reason"):
				missing("reason", value)
			case strings.HasSuffix(name, "Annotation"):
				// What a prefix is given for once is written without it.
				missing("annotation", strings.NewReplacer("AutoscalingGroup/", "", "servingEbbGroupName", "ebb.dev", "EbbGroupName", "ebb.dev", "GroupName/", "").Replace(value))
			default:
				return
			}
			count++
		})
	}
	key := regexp.MustCompile(`(?:p\.(?:float|duration|integer|scale|boolean|text|oneOf|quantity|bytes|template)|retain|containerNameTemplate)\((?:p, )?"([a-z-]+)"`)
	sources, err := filepath.Glob("apis/settings/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		code, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		read("docs/serving-api.md")
		if strings.HasSuffix(source, "eventing.go") {
			read("docs/eventing-api.md")
		}
		for _, match := range key.FindAllStringSubmatch(string(code), -1) {
			missing("key", "`"+match[1]+"`")
			count++
		}
	}
	if count < 100 {
		t.Errorf("only %d names were looked up", count)
	}
}

// eachConstant visits the string constants of a package; one that adds a group's constant
// to a text has the group's name in front.
func eachConstant(t *testing.T, folder string, visit func(name, value string)) {
	t.Helper()
	paths, err := filepath.Glob(folder + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 {
				return true
			}
			value := ""
			ast.Inspect(spec.Values[0], func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Ident:
					value += n.Name
				case *ast.BasicLit:
					if text, err := strconv.Unquote(n.Value); err == nil {
						value += text
					}
				}
				return true
			})
			visit(spec.Names[0].Name, value)
			return true
		})
	}
}
