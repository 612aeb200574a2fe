#!/usr/bin/env bash
# Regenerates what is generated. With --check it only says whether anything is stale.
set -euo pipefail
cd "$(dirname "$0")/.."
check=${1:-}
work=$PWD
if [ "$check" = --check ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	git ls-files -co --exclude-standard go.mod go.sum apis config proxy/link tools | tar -cf - -T - | tar -xf - -C "$work"
fi
mkdir -p out/tools
controller_gen=$PWD/out/tools/controller-gen
go build -modfile=tools/go.mod -o "$controller_gen" sigs.k8s.io/controller-tools/cmd/controller-gen
(
	cd "$work"
	"$controller_gen" object paths=./apis/...
	"$controller_gen" crd paths=./apis/... output:crd:dir=config/crd
	cd tools && go run ./protogen .. proxy/link/link.proto
)
go run ./config/install/generate "$work/config"
if [ "$check" = --check ]; then
	stale=0
	for folder in apis config proxy/link; do
		diff -r "$folder" "$work/$folder" >/dev/null || { echo "stale: $folder (run make generate)"; diff -rq "$folder" "$work/$folder" || true; stale=1; }
	done
	exit $stale
fi
go test -short ./proxy/translate ./proxy/envoy ./apis/admission ./controllers/configuration ./controllers/revision ./controllers/route ./controllers/service -update >/dev/null
go test -short ./proxy/xds ./activator ./autoscaler/decision ./controllers/route -rewrite >/dev/null
