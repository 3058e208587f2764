#!/bin/sh
# Packs the metaproject "sky" into a folder (default: the working one) and
# prints its path, size and digest as JSON. Run it anywhere in the repository.
set -eu
mkdir -p "${1:-.}"
output=$(cd "${1:-.}" && pwd)
cd "$(dirname "$0")/../../.."
exec go run ./docs/examples/metaproject -o "$output" -name sky -version 1.0 \
	go:./docs/examples/sky/hotspot=bin/hotspot
