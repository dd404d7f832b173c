#!/bin/sh
# need.sh THING…: makes sure that what is named is on this machine. As root it installs Debian's package;
# otherwise it says what to install.
set -eu

packages=
for thing in "$@"; do
    case $thing in
        cc) command -v cc >/dev/null 2>&1 && command -v make >/dev/null 2>&1 || packages="$packages build-essential" ;;
        curl) command -v curl >/dev/null 2>&1 || packages="$packages curl" ;;
        certificates) [ -e /etc/ssl/certs/ca-certificates.crt ] || packages="$packages ca-certificates" ;;
        npm)
            command -v node >/dev/null 2>&1 || packages="$packages nodejs"
            command -v npm >/dev/null 2>&1 || packages="$packages npm"
            ;;
        ip) command -v ip >/dev/null 2>&1 || packages="$packages iproute2" ;;
        php) command -v php >/dev/null 2>&1 || packages="$packages php-cli" ;;
        ruby) command -v ruby >/dev/null 2>&1 || packages="$packages ruby" ;;
        java) command -v javac >/dev/null 2>&1 || packages="$packages openjdk-17-jdk-headless" ;;
        python) command -v python3 >/dev/null 2>&1 || packages="$packages python3" ;;
        venv) python3 -c 'import venv, ensurepip' 2>/dev/null || packages="$packages python3-venv" ;;
        *)
            echo "need.sh: what is $thing?" >&2
            exit 2
            ;;
    esac
done
[ -n "$packages" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "These Debian packages (or what your system calls them) are needed:$packages" >&2
    echo "  sudo apt-get install --no-install-recommends$packages" >&2
    exit 1
fi
echo "installing$packages" >&2
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
