#!/bin/sh
# Packs the metaproject "photon" into a folder (default: the working one) and
# prints its path, size and digest as JSON. Run it anywhere in the repository.
set -eu
mkdir -p "${1:-.}"
output=$(cd "${1:-.}" && pwd)
cd "$(dirname "$0")/../../.."
exec go run ./docs/examples/metaproject -o "$output" -name photon -version 1.0 \
	go:./docs/examples/photon/propagate=bin/photon-propagate \
	docs/examples/photon/bin/photon-detector=bin/photon-detector \
	docs/examples/photon/python=lib/python
