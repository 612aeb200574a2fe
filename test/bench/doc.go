// Command bench measures the embedded default as a whole, each figure beside a reference
// that is measured in the same run, in turns with it: a cold start beside the time that
// the same image needs as a plain Deployment, a warm request beside a bare Envoy in front of the same pod. It
// prints a table and writes out/bench.json, in which every figure says how it was got. Times hold
// for one machine and one hour; ratios travel.
//
// What is measured is a list of parts, in parts.go; a new part is a name, a sentence and a function
// there. What is aimed at is in targets.go. The numbers themselves are kept, judged and drawn by test/bench/figures.
package main
