#!/bin/sh
# Kills a server at random moments under asynchronous load, as often as is said (default 200), and says whether anything
# that was acknowledged was lost. Takes about a second a kill; the suite does a tenth of it.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
target=${E2E_TARGET:-$here/target}
export VIRGA_BIN="${VIRGA_BIN:-$target/debug/virga}"
cd "$here/tests/e2e"
exec "$target/e2e-venv/bin/python" -m support.ledger "${1:-200}"
