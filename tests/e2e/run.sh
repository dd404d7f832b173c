#!/bin/sh
# Runs the end-to-end suite against $VIRGA_BIN (default: the debug build). Arguments go to pytest.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${E2E_TARGET:-$root/target}
"$here/setup.sh"
export VIRGA_BIN="${VIRGA_BIN:-$target/debug/virga}"
cd "$here"
exec "$target/e2e-venv/bin/python" -m pytest "$@"
