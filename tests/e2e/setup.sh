#!/bin/sh
# Installs what the end-to-end suite drives: Python and Node clients and the Rust guests, all under target/.
# Does nothing where nothing changed. As root it installs missing Debian packages; otherwise it says which.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${E2E_TARGET:-$root/target}
mkdir -p "$target"

say() { echo "e2e setup: $*" >&2; }

# aws-lambda-ric builds curl and a C++ client from source; the custom runtimes use curl and Debian's Python.
missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need cmake cmake
need make make
need g++ g++
need autoconf autoconf
need automake automake
need libtoolize libtool
need curl curl
need php php-cli
need ruby ruby
need javac openjdk-17-jdk-headless
need puma puma
need bundle ruby-bundler
python3 -c 'import pip' 2>/dev/null || missing="$missing python3-pip"
need composer composer
[ -e /usr/share/rubygems-integration/all/specifications ] && ls /usr/share/rubygems-integration/all/specifications/sinatra-[0-9]*.gemspec >/dev/null 2>&1 ||
    missing="$missing ruby-sinatra"
need skopeo skopeo
need umoci umoci
need buildah buildah
need docker-registry docker-registry
need perl perl
need openssl openssl
[ -e /bin/busybox ] || missing="$missing busybox-static"
[ -e /usr/bin/python3 ] || missing="$missing python3"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
[ -e /usr/include/node/node.h ] || [ -e "$(dirname "$(command -v node)")/../include/node/node.h" ] || missing="$missing libnode-dev"
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        say "these Debian packages are needed:$missing"
        exit 1
    fi
    say "installing$missing"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

# current FILE... : whether STAMP holds the sum of what the folder was made from.
sum_of() { cat "$@" | sha256sum | cut -d' ' -f1; }
current() { [ -e "$1" ] && [ "$(cat "$1")" = "$2" ]; }

venv=$target/e2e-venv
sum=$( (python3 --version; cat "$here/requirements.txt") | sha256sum | cut -d' ' -f1)
if ! current "$venv/.made-from" "$sum"; then
    say "Python clients"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    echo "$sum" >"$venv/.made-from"
fi

# Packages that are bundled into functions, for the interpreter that the function will run on.
bundle() { # FOLDER PYTHON PACKAGE...
    folder=$target/e2e-python/$1
    python=$2
    shift 2
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    sum=$(echo "$version" "$@" | sha256sum | cut -d' ' -f1)
    current "$folder/.made-from" "$sum" && return
    say "bundle for Python $version: $*"
    rm -rf "$folder"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --target "$folder" --python-version "$version" \
        --only-binary=:all: "$@"
    echo "$sum" >"$folder/.made-from"
}
pinned() { grep "^$1==" "$here/requirements.txt"; }
bundle awslambdaric /usr/bin/python3 "$(pinned awslambdaric)"
bundle flask python3 "$(pinned flask)"
bundle boto3 python3 "$(pinned boto3)"
bundle fastapi python3 "$(pinned fastapi)"

node=$target/e2e-node
sum=$( (node --version; cat "$here/node/package-lock.json") | sha256sum | cut -d' ' -f1)
if ! current "$node/.made-from" "$sum"; then
    say "Node clients (a native build of about a minute)"
    mkdir -p "$node"
    cp "$here/node/package.json" "$here/node/package-lock.json" "$here/node/.npmrc" "$node/"
    # Headers of the installed node: node-gyp would otherwise fetch them from elsewhere.
    [ -e /usr/include/node/node.h ] && export npm_config_nodedir=/usr
    (cd "$node" && npm ci --silent >"$node.log" 2>&1) || { tail -n 40 "$node.log" >&2; exit 1; }
    echo "$sum" >"$node/.made-from"
fi

# Other versions of Node than the host's, each a package with the program in it.
versions=$target/e2e-node-versions
machine=$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
wanted="node-linux-$machine@22.23.3"
if ! current "$versions/.made-from" "$wanted"; then
    say "$wanted"
    rm -rf "$versions"
    mkdir -p "$versions"
    echo '{ "name": "versions", "private": true }' >"$versions/package.json"
    (cd "$versions" && npm install --silent --no-audit --no-fund --no-save --no-package-lock "$wanted" >/dev/null 2>&1)
    echo "$wanted" >"$versions/.made-from"
fi

# An S3-compatible server.
s3=$target/e2e-s3
wanted=s3rver@3.7.1
if ! current "$s3/.made-from" "$wanted"; then
    say "$wanted"
    rm -rf "$s3"
    mkdir -p "$s3"
    echo '{ "name": "s3", "private": true }' >"$s3/package.json"
    (cd "$s3" && npm install --silent --no-audit --no-fund --no-save --no-package-lock "$wanted" >/dev/null 2>&1)
    echo "$wanted" >"$s3/.made-from"
fi

say "Rust guests"
(cd "$here/fixtures/lambda-rust" && CARGO_TARGET_DIR=$target/e2e-rust cargo build --locked --quiet)
