#!/usr/bin/env bash
# A real Kubernetes of one node, for tests: test/cluster.sh up|down|run CMD…|smoke|env|check. Builds
# what it needs first; test/cluster/main.go says what it is. `with CMD…` brings it up, runs CMD on the
# machine with its environment, and takes it down again.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${EBB_CLUSTER_HOME:-$root/out/cluster}
mkdir -p "$home/bin" "$root/out/tools"
export CGO_ENABLED=0 EBB_CLUSTER_FLAGS=${EBB_CLUSTER_FLAGS:-}

build() {
	cd "$root"
	go build -o out/tools/cluster ./test/cluster
	[ -x bin/ebb-kube ] && [ -x bin/ebb-node ] || local/build.sh bin
	local/build.sh "$home/bin" kube-node
	go build -ldflags "-s -w" -o "$home/bin/pause" ./test/cluster/pause
	(cd test/cluster/dns && go build -ldflags "-s -w" -o "$home/bin/dns" .)
}
node() { "$root/out/tools/cluster" --home "$home" --bin "$root/bin" $EBB_CLUSTER_FLAGS "$@"; }

case ${1:-} in
up | with | check) (build >&2) ;;
down | run | smoke | env) [ -x "$root/out/tools/cluster" ] || { echo "no node has been up here: test/cluster.sh up"; exit 1; } ;;
*) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
if [ "$1" = with ]; then
	shift
	trap 'node down' EXIT
	node up
	eval "$(node env)"
	"$@"
else
	node "$@"
fi
