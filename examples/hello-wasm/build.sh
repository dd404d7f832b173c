#!/bin/sh
# Builds the WebAssembly guests from C: the sample hello.wasm and the fixtures of the sandbox-wasm tests.
#
# They are checked in, so nobody needs this to run or test Virga. It needs Python 3 (zig comes as a wheel,
# into a virtual environment under target/) and cargo.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
guests=$root/crates/sandbox-wasm/tests/it/guests
work=$root/target/guests
mkdir -p "$work"

python=$work/venv/bin/python
if ! "$python" -m ziglang version >/dev/null 2>&1; then
    python3 -m venv "$work/venv"
    "$python" -m pip install --quiet ziglang==0.17.0
fi
# zig's default stack of 16 MiB would be counted as the function's memory.
cc() { "$python" -m ziglang cc -target wasm32-wasi -Oz -s -Wall -Wextra -Wl,-z,stack-size=131072 -I "$here" "$@"; }

component() { # SOURCE OUT
    cc -mexec-model=reactor -o "$work/core.wasm" "$1"
    cargo run --quiet --manifest-path "$root/Cargo.toml" -p sandbox-wasm --example componentize -- \
        "$here/wasi-http.wit" "$work/core.wasm" "$2"
}

component "$here/main.c" "$here/hello.wasm"
component "$guests/probe.c" "$guests/probe.wasm"
cc -o "$guests/command.wasm" "$guests/command.c"
chmod 644 "$guests/command.wasm"
ls -l "$here"/*.wasm "$guests"/*.wasm
