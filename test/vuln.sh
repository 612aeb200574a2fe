#!/usr/bin/env bash
# Known vulnerabilities in what the programs really use, by the Go vulnerability database. The database is a snapshot that comes
# with the modules, pinned in tools/vuln/go.mod: bring it up to date there.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p out/tools
if ! (cd tools/vuln && go mod download golang.org/x/vulndb golang.org/x/vuln) 2>out/vuln.log; then
	echo "SKIPPED: the snapshot of the vulnerability database cannot be had from the module proxy:"
	tail -n 3 out/vuln.log
	exit 0
fi
(cd tools/vuln && go build -o "$root/out/tools/" golang.org/x/vuln/cmd/govulncheck golang.org/x/vulndb/cmd/indexdb)
snapshot=$(cd tools/vuln && go list -m -f '{{.Dir}}' golang.org/x/vulndb)
version=$(cd tools/vuln && go list -m -f '{{.Version}}' golang.org/x/vulndb)
if [ ! -e "out/vulndb/$version" ]; then
	rm -rf out/vulndb
	out/tools/indexdb -vulns="$snapshot/data/osv" -out=out/vulndb
	touch "out/vulndb/$version"
fi
echo "database: $version"
# Programs with their symbols, so that only what is linked in counts: a minute, where the source takes many.
[ $# -gt 0 ] || { go build -o out/tools/ebb-symbols ./cmd/ebb; set -- out/tools/ebb-symbols; }
for program; do
	echo "$program"
	out/tools/govulncheck -mode=binary -db "file://$root/out/vulndb" "$program"
done
