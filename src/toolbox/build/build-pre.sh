#!/bin/sh
# Compiles the tool into generated/, for this image and for others.
set -eu
component=$(dirname "$0")/..
"$component/dependency/base-image/compile.sh" "$component/peek.rs" "$component/generated/peek"
