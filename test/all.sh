#!/usr/bin/env bash
# Everything that needs no root: check, benchmarks compiled, real-Envoy tests, end to end.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p out
export EBB_COUNTS=$PWD/out/test.counts
rm -f "$EBB_COUNTS"
failed=0
run() { printf '\n== %s (%s)\n' "$1" "$(date +%T)"; shift; "$@" || failed=1; }

export EBB_KUBE=$PWD/bin/ebb-kube ENVOY=${ENVOY:-$(bin/ebb envoy)}
go build -o out/tools/report ./test/report || exit 1
tests() { out/tools/report -counts "$EBB_COUNTS" -- "$@"; }
local_tests() { out/tools/report -counts "$EBB_COUNTS" -dir local -- "$@"; }
compat_tests() { out/tools/report -counts "$EBB_COUNTS" -dir test/compat -- "$@"; }
client_tests() { out/tools/report -counts "$EBB_COUNTS" -dir test/clients -- "$@"; }

run "check" test/check.sh
run "benchmarks compile and run once" tests -short -run='^$' -bench=. -benchtime=1x ./proxy/... ./activator/... ./autoscaler/... ./apis/...
run "real Envoy, real kube-apiserver" tests -timeout=15m $(go list ./... | grep -v /test/e2e)
run "the node" local_tests -timeout=15m ./...
run "end to end on the embedded default" tests -p=1 -timeout=30m ./test/e2e/...
run "the public client on the embedded default" compat_tests -timeout=15m ./...
run "Helm and the rules of GitOps controllers on the embedded default" client_tests -timeout=15m ./...

echo
out/tools/report -counts "$EBB_COUNTS" -total || failed=1
exit $failed
