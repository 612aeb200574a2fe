// Command bench measures the embedded default as a whole, each figure beside a
// reference that is measured in the same run, alternating with it: a cold start beside the
// node's own time to start the same process, a warm request beside a bare Envoy in front of the same
// pod. It prints a table and writes out/bench.json. Times hold for one machine and one
// hour; ratios travel.
package main
