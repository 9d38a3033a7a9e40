#!/bin/sh
# Compiles init into generated/, where the Dockerfile takes it from.
set -eu
component=$(dirname "$0")/..
"$component/compile.sh" "$component/init.rs" "$component/generated/init"
