#!/usr/bin/env bash
# Benchmarks: the hot paths one by one, then the embedded default as a whole.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p out/tools
go test -run '^$' -bench . -benchmem -benchtime 300ms ./proxy/... ./activator/... ./autoscaler/... ./apis/... | grep -E '^(Benchmark|pkg:)' | tee out/bench-micro.txt
go build -o out/tools/bench ./test/bench
out/tools/bench "$@"
echo "written to out/bench.json and out/bench-micro.txt"
