#!/bin/sh
# Compiles the service into generated/, and leaves word of the compiler in
# dependency/test-build/, beside what other components give.
set -eu
component=$(dirname "$0")/..
"$component/dependency/base-image/compile.sh" "$component/serve.rs" "$component/generated/serve"
mkdir -p "$component/dependency/test-build"
rustc --version > "$component/dependency/test-build/built-with.txt"
