#!/usr/bin/env bash
# Tests on a real kubelet: a node of test/cluster, images pushed to it, Ebb installed by its own command, the
# end-to-end tests of the embedded default and those of a node, Ebb uninstalled, the node taken down. Root.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p out/tools
counts=${EBB_COUNTS:-$PWD/out/cluster.counts} # a file given is added to, and the sum printed
[ -n "${EBB_COUNTS:-}" ] || rm -f "$counts"
home=${EBB_CLUSTER_HOME:-$PWD/out/cluster}
failed=0
step() { printf '\n== %s (%s)\n' "$1" "$(date +%T)"; }
end() {
	step "the node goes"
	test/cluster.sh down || failed=1
}
trap 'end; exit 130' INT TERM

step "the node"
test/cluster.sh check || exit 1
go build -o out/tools/report ./test/report || exit 1
test/cluster.sh up || exit 1
eval "$(test/cluster.sh env)"

inside() { EBB_COUNTS= test/cluster.sh run out/tools/report -counts "$counts" -- "$@" || failed=1; }
step "images, install"
if test/cluster-install.sh; then
	step "end to end on the node"
	inside -p=1 -timeout=40m ./test/e2e ./test/e2e/kubelet
	step "uninstall"
	bin/ebb uninstall || failed=1
	EBB_E2E_UNINSTALLED=1 inside -count=1 -run=TestNothingIsLeft ./test/e2e/kubelet
else
	failed=1
fi
end
echo
out/tools/report -counts "$counts" -total || failed=1
exit $failed
