// Command report runs `go test -json` with the flags and packages after `--`, in the
// folder named by -dir, shows a line a package and the whole output of what failed, and
// adds the numbers of tests to the file named by -counts. With -total it prints the sum of that file as
// `N passed, N failed, N skipped`. It exits 1 if anything failed or no test ran.
//
// A few tests that failed (see maxAgain) are run once more, alone, and count as what they are then; the output says so,
// with the first failure, and so does the total: a test that needs it has to be mended, but a
// crowded machine does not hide what a change has done to all the others.
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
	"os/exec"
	"slices"
	"strings"
)

// maxAgain is how many tests of one run may be tried again. More are no accident.
const maxAgain = 3

type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

type counts struct {
	Passed, Failed, Skipped int
	// Again are the tests that passed only when they were run again.
	Again []string
}

func main() {
	file := flag.String("counts", "", "file that the numbers are added to")
	total := flag.Bool("total", false, "print the sum of -counts and end")
	dir := flag.String("dir", ".", "folder to run in")
	flag.Parse()
	sum, err := load(*file)
	if err == nil && !*total {
		var now counts
		var ran bool
		now, ran, err = test(*dir, flag.Args(), os.Stdout)
		sum.add(now)
		if err == nil {
			err = save(*file, sum)
		}
		if err == nil && (now.Failed > 0 || !ran) {
			os.Exit(1)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	if *total {
		for _, name := range sum.Again {
			fmt.Println("failed at first and passed when run again, alone:", name)
		}
		fmt.Printf("%d passed, %d failed, %d skipped\n", sum.Passed, sum.Failed, sum.Skipped)
		if sum.Failed > 0 || sum.Passed == 0 {
			os.Exit(1)
		}
	}
}

func (n *counts) add(more counts) {
	n.Passed += more.Passed
	n.Failed += more.Failed
	n.Skipped += more.Skipped
	n.Again = append(n.Again, more.Again...)
}

// test runs the tests, and those that failed once more if they are few. ran is false when there was nothing to run.
func test(dir string, args []string, out io.Writer) (sum counts, ran bool, err error) {
	first, err := run(dir, args, out)
	if err != nil {
		return counts{}, false, err
	}
	ran = first.counts.Passed > 0 || first.benchmarks
	failed := first.failed()
	if len(failed) == 0 || len(failed) > maxAgain || first.broken {
		return first.counts, ran, nil
	}
	flags := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return !strings.HasPrefix(a, "-") })
	for _, t := range failed {
		fmt.Fprintf(out, "AGAIN %s\n", t)
		second, err := run(dir, append(slices.Clone(flags), "-count=1", "-run=^"+t.name+"$", t.pkg), out)
		if err != nil {
			return first.counts, ran, err
		}
		if second.counts.Failed == 0 && second.counts.Passed > 0 {
			first.replace(t, second.counts)
		}
	}
	return first.counts, true, nil
}

// one is a test of the top level.
type one struct{ pkg, name string }

func (o one) String() string { return o.pkg + " " + o.name }

type result struct {
	counts counts
	// by holds the numbers of each test of the top level with what is below it; a package
	// that failed by itself has the empty name.
	by     map[one]counts
	broken bool // something could not be built
	// benchmarks says that some ran; they are not counted.
	benchmarks bool
}

func (r *result) failed() []one {
	var all []one
	blamed := map[string]bool{}
	for t, n := range r.by {
		if n.Failed > 0 && t.name != "" {
			all = append(all, t)
			blamed[t.pkg] = true
		}
	}
	for t, n := range r.by {
		if t.name == "" && n.Failed > 0 && !blamed[t.pkg] {
			r.broken = true // not by one of its tests: a panic, a time limit, TestMain
		}
	}
	slices.SortFunc(all, func(a, b one) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// replace takes what a test did at first back for what it did then.
func (r *result) replace(t one, now counts) {
	was := r.by[t]
	r.counts.Passed += now.Passed - was.Passed
	r.counts.Failed -= was.Failed
	r.counts.Skipped += now.Skipped - was.Skipped
	r.counts.Again = append(r.counts.Again, t.String())
	delete(r.by, t)
	for other, n := range r.by {
		if other.pkg == t.pkg && other.name != "" && n.Failed > 0 {
			return
		}
	}
	r.counts.Failed -= r.by[one{t.pkg, ""}].Failed // the package failed for its tests alone
	delete(r.by, one{t.pkg, ""})
}

func run(dir string, args []string, out io.Writer) (*result, error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir = dir
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("go test: %w", err)
	}
	r, err := read(pipe, out)
	_ = cmd.Wait() // what failed is in what it printed
	return r, err
}

func read(in io.Reader, out io.Writer) (*result, error) {
	r := &result{by: map[one]counts{}}
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
		r.benchmarks = r.benchmarks || strings.HasPrefix(e.Test, "Benchmark")
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "build-fail":
			r.counts.Failed++
			r.broken = true
		case "output":
			if output[name] == nil {
				output[name] = &strings.Builder{}
			}
			output[name].WriteString(e.Output)
		case "pass", "fail", "skip":
			r.end(e, output[name], out)
			delete(output, name)
		}
	}
	return r, scanner.Err()
}

func (r *result) end(e event, output *strings.Builder, out io.Writer) {
	text := ""
	if output != nil {
		text = output.String()
	}
	var n counts
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
	top, _, _ := strings.Cut(e.Test, "/")
	t := one{e.Package, top}
	sum := r.by[t]
	sum.add(n)
	r.by[t] = sum
	r.counts.add(n)
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
