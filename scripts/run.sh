#!/usr/bin/env bash
# make run: installs what is missing, builds, starts the server and, once it is ready, deploys the samples.
#
# The server takes this shell's place, so that Ctrl-C and signals reach it and nothing outlives it.
# VIRGA_DATA, VIRGA_LISTEN and VIRGA_ADMIN say otherwise where the defaults do not suit.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${VIRGA_DATA:-.virga}
listen=${VIRGA_LISTEN:-127.0.0.1:9080}
admin=${VIRGA_ADMIN:-127.0.0.1:9081}

scripts/need.sh cc curl certificates python npm
if ! command -v cargo >/dev/null 2>&1; then
    echo "Rust's cargo is needed: see https://rustup.rs" >&2
    exit 1
fi
virga=${CARGO_TARGET_DIR:-target}/release/virga
if [ ! -x "$virga" ]; then
    echo "building Virga: some minutes the first time" >&2
fi
cargo build --locked --release --bin virga

# npm leaves a copy of the lock file that it installed; a newer lock file means something changed.
express=examples/web-express
if [ ! "$express/node_modules/.package-lock.json" -nt "$express/package-lock.json" ]; then
    echo "installing the packages of $express" >&2
    npm ci --prefix "$express" --ignore-scripts --silent
fi

export VIRGA_LOG=${VIRGA_LOG:-warn}
exec "$virga" serve --data "$data" --listen "$listen" --admin "$admin" "$@" \
    > >(exec scripts/welcome.sh "$data")
