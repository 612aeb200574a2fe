#!/usr/bin/env bash
# Format, vet, lint, generated files, unit and golden tests. Under a minute once built.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p out
counts=${EBB_COUNTS:-out/check.counts}
[ -n "${EBB_COUNTS:-}" ] || rm -f "$counts"
step() { printf '\n== %s\n' "$*"; }

step "format"
unformatted=$(git ls-files -co --exclude-standard '*.go' | grep -v '\.pb\.go$' | xargs gofmt -l)
[ -z "$unformatted" ] || { echo "not formatted (run gofmt -w):"; echo "$unformatted"; exit 1; }

step "lint (vet included)"
lint() { go tool -modfile="$root/tools/go.mod" golangci-lint run --allow-parallel-runners --config "$root/.golangci.yml" "$@"; }
root=$PWD
lint ./...
(cd test/clients && go vet ./...)
# ebb-kube is a few lines, and loading all of Kubernetes to lint them takes minutes.
(cd local && go vet ./cmd/ebb-kube && lint $(ls -d */ | grep -v -e '^cmd/' -e '^bin/' | sed 's#^\(.*\)/$#./\1/...#') ./cmd/ebb-node ./cmd/ebb-shim)

step "generated files are current"
test/generate.sh --check

step "unit and golden tests"
mkdir -p out/tools
go build -o out/tools/report ./test/report
for dir in . local test/compat; do out/tools/report -counts "$counts" -dir $dir -- -short ./...; done
[ -n "${EBB_COUNTS:-}" ] || out/tools/report -counts "$counts" -total
