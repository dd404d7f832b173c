#!/usr/bin/env bash
# make test: every check, cheap ones first; the first that fails ends it and is named on the last line.
# test.sh STAGE… runs only these: check, unit, build, e2e.
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
    local name=$1 started=$SECONDS
    shift
    printf '== %s\n' "$name"
    if ! "$@"; then
        printf '\nFAILED: %s\n  again with: %s\n' "$name" "$*" >&2
        exit 1
    fi
    printf '   %s: %d s\n' "$name" $((SECONDS - started))
}

stages=${*:-check unit build e2e}
for stage in $stages; do
    case $stage in
        check)
            step 'tools' scripts/need.sh cc curl certificates python venv npm php ruby java ip
            step 'format' cargo fmt --all --check
            step 'tidy' cargo xtask tidy
            step 'clippy' cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
            ;;
        unit) step 'unit and integration tests' cargo test --locked --workspace --quiet ;;
        build) step 'release build' cargo build --locked --release --quiet --bin virga ;;
        e2e) step 'end-to-end tests' env VIRGA_BIN="${CARGO_TARGET_DIR:-$PWD/target}/release/virga" tests/e2e/run.sh -q ;;
        *)
            echo "test.sh: what is $stage?" >&2
            exit 2
            ;;
    esac
done
printf '== all passed in %d s\n' "$SECONDS"
