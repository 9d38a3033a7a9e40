#!/bin/sh
# Tells dependents what they get: the tools and their checksums.
set -eu
cd "$(dirname "$0")/../generated"
sha256sum peek > SHA256SUMS
