#!/usr/bin/env bash
# Benchmarks on a real kubelet: a node of test/cluster, Ebb installed on it, cold starts beside a plain Deployment of the
# same image in the same run. Arguments go to test/bench.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p out/tools
trap 'test/cluster.sh down' EXIT
test/cluster.sh up
eval "$(test/cluster.sh env)"
test/cluster-install.sh
go build -o out/tools/bench ./test/bench
test/cluster.sh run out/tools/bench -only cold -o out/bench-cluster.json "$@"
