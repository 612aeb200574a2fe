#!/usr/bin/env bash
# Pushes the images to the node that is up (test/cluster.sh) and installs Ebb there, as an operator does.
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(test/cluster.sh env)"
make images IMAGE_ARCH="$(go env GOARCH)" IMAGE_REPOSITORY="$REGISTRY/ebb"
# By digest, from the name by which the node knows the registry.
exec bin/ebb install --values out/images.yaml --repository "$POD_REGISTRY/ebb" --domain localhost --gateway clusterip
