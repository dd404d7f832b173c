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

# What the end-to-end tests install is fetched while the compiler works: most of it is waiting for a network.
setup=
setup_log=${CARGO_TARGET_DIR:-$PWD/target}/e2e-setup.log
begin_setup() {
    mkdir -p "$(dirname "$setup_log")"
    setsid tests/e2e/setup.sh >"$setup_log" 2>&1 &
    setup=$!
    trap 'kill -- "-$setup" 2>/dev/null || true' EXIT
}
end_setup() {
    [ -z "$setup" ] || wait "$setup" || { cat "$setup_log" >&2; return 1; }
}

stages=${*:-check unit build e2e}
case " $stages " in *' unit '*' e2e '*) later=begin_setup ;; *) later=true ;; esac
for stage in $stages; do
    case $stage in
        check)
            step 'tools' scripts/need.sh cc curl certificates python venv npm php ruby java ip
            step 'format' cargo fmt --all --check
            step 'tidy' cargo xtask tidy
            step 'clippy' cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
            ;;
        unit)
            $later
            step 'unit and integration tests' cargo test --locked --workspace --quiet
            ;;
        build) step 'release build' cargo build --locked --release --quiet --bin virga ;;
        e2e)
            step "what the end-to-end tests need" end_setup
            step 'end-to-end tests' env VIRGA_BIN="${CARGO_TARGET_DIR:-$PWD/target}/release/virga" tests/e2e/run.sh -q
            ;;
        *)
            echo "test.sh: what is $stage?" >&2
            exit 2
            ;;
    esac
done
printf '== all passed in %d s\n' "$SECONDS"
