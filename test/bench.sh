#!/usr/bin/env bash
# Benchmarks: the embedded default as a whole, then the hot paths one by one. With
# arguments (see test/bench -help) the first alone.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p out/tools
go build -o out/tools/bench ./test/bench
out/tools/bench "$@"
[ $# -eq 0 ] || exit 0
go test -run '^$' -bench . -benchmem -benchtime 300ms ./proxy/... ./activator/... ./autoscaler/... ./apis/... | grep -E '^(Benchmark|pkg:)' | tee out/bench-micro.txt
echo "written to out/bench.json and out/bench-micro.txt"
