#!/bin/sh
# Builds ebb-kube, ebb-node and ebb-shim (static, stripped) into the folder given
# as first argument (default: ../bin), saying what it does. Further arguments
# choose binaries: build.sh ../bin ebb-node ebb-shim. The first build of ebb-kube
# compiles Kubernetes (minutes); later ones come from Go's build cache.
set -eu
cd "$(dirname "$0")"
out=${1:-../bin}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- ebb-shim ebb-node ebb-kube
mkdir -p "$out/.built"

# The version of Kubernetes is what go.mod says; unstamped, /version would say
# v0.0.0-master and clients that ask for a minimum version would refuse.
kube=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${kube#v*.}
minor=${minor%%.*}
ld="-s -w"
for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	ld="$ld -X $p.gitVersion=$kube -X $p.gitMajor=1 -X $p.gitMinor=$minor -X $p.gitTreeState=clean"
done

n=0
for b in "$@"; do
	n=$((n + 1))
	note=
	[ "$b" = ebb-kube ] && note=" (Kubernetes $kube; about 5 minutes the first time, seconds later)"
	echo "[$n/$#] $b$note"
	start=$(date +%s)
	# Go links again only when its own output is stale, so that stays where it is; what is
	# used is a copy, put in place in one step: a running program keeps its file.
	CGO_ENABLED=0 go build -p "${EBB_BUILD_JOBS:-2}" -ldflags "$ld" -o "$out/.built/$b" "./cmd/$b"
	if ! cmp -s "$out/.built/$b" "$out/$b"; then
		cp "$out/.built/$b" "$out/.$b.new"
		mv "$out/.$b.new" "$out/$b"
	fi
	echo "[$n/$#] $b built in $(($(date +%s) - start)) s, $(($(wc -c <"$out/$b") / 1048576)) MB"
done
