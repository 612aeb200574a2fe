// Command report reads what `go test -json` prints on standard input, shows a line a
// package and the whole output of what failed, and adds the numbers of tests to the
// file named by -counts. With -total it prints the sum of that file as
// `N passed, N failed, N skipped`. It exits 1 if anything failed or no test ran.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

type counts struct{ Passed, Failed, Skipped int }

func main() {
	file := flag.String("counts", "", "file that the numbers are added to")
	total := flag.Bool("total", false, "print the sum of -counts and end")
	flag.Parse()
	sum, err := load(*file)
	if err == nil && !*total {
		var now counts
		now, err = read(os.Stdin, os.Stdout)
		sum = counts{sum.Passed + now.Passed, sum.Failed + now.Failed, sum.Skipped + now.Skipped}
		if err == nil {
			err = save(*file, sum)
		}
		if err == nil && (now.Failed > 0 || now.Passed == 0) {
			os.Exit(1)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	if *total {
		fmt.Printf("%d passed, %d failed, %d skipped\n", sum.Passed, sum.Failed, sum.Skipped)
		if sum.Failed > 0 || sum.Passed == 0 {
			os.Exit(1)
		}
	}
}

func read(in io.Reader, out io.Writer) (counts, error) {
	var n counts
	output := map[string]*strings.Builder{}
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var e event
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			fmt.Fprintln(out, scanner.Text()) // not from a test: the go command's own words
			continue
		}
		name := e.Package + " " + e.Test
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "build-fail":
			n.Failed++
		case "output":
			if output[name] == nil {
				output[name] = &strings.Builder{}
			}
			output[name].WriteString(e.Output)
		case "pass", "fail", "skip":
			n.end(e, output[name], out)
			delete(output, name)
		}
	}
	return n, scanner.Err()
}

func (n *counts) end(e event, output *strings.Builder, out io.Writer) {
	text := ""
	if output != nil {
		text = output.String()
	}
	switch {
	case e.Test == "" && e.Action == "fail":
		fmt.Fprintf(out, "FAIL %s %.1fs\n%s", e.Package, e.Elapsed, text)
		n.Failed++
	case e.Test == "" && e.Action == "pass":
		fmt.Fprintf(out, "ok   %s %.1fs\n", e.Package, e.Elapsed)
	case e.Test == "":
	case e.Action == "pass":
		n.Passed++
	case e.Action == "fail":
		n.Failed++
		fmt.Fprintf(out, "FAIL %s %s %.1fs\n%s", e.Package, e.Test, e.Elapsed, text)
	case e.Action == "skip":
		n.Skipped++
		fmt.Fprintf(out, "SKIP %s %s\n%s", e.Package, e.Test, text)
	}
}

func load(file string) (counts, error) {
	var c counts
	text, err := os.ReadFile(file)
	if file == "" || errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(text, &c)
}

func save(file string, c counts) error {
	if file == "" {
		return nil
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
