// Package golden compares what a pure function makes of YAML files with YAML files
// beside them. In come the files testdata/…/*.in.yaml of the package under test; with
// the flag -update the *.out.yaml files are written anew, and those without an input
// deleted. Only tests may call it.
package golden
