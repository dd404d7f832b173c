#!/bin/sh
# Makes the program that `virga deploy` finds: bootstrap. Needs Rust's rustc.
set -eu
cd "$(dirname "$0")"
rustc --edition 2021 -O -C strip=symbols -o bootstrap main.rs
