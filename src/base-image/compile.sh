#!/bin/sh
# Compiles one Rust file to a program that needs no library of any image:
#   compile.sh SOURCE PROGRAM
# Components that are made from base-image find this at dependency/base-image/.
set -eu
mkdir -p "$(dirname "$2")"
exec rustc --edition 2024 -C opt-level=2 -C strip=symbols -C target-feature=+crt-static \
    -o "$2" "$1"
