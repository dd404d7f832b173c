#!/bin/sh
# Makes the program that `virga deploy` finds: bootstrap. Needs Go, no modules.
set -eu
cd "$(dirname "$0")"
CGO_ENABLED=0 go build -o bootstrap main.go
