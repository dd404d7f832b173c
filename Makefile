# make run    build, start on .virga/, deploy the samples, say what to try next
# make test   everything that CI does, cheap checks first
# make e2e    the end-to-end tests alone, against the release build
# make bench  the benchmarks: docs/benchmarks.md

.PHONY: run build test check unit e2e bench clean-data

run:
	@exec scripts/run.sh

build:
	@scripts/need.sh cc
	cargo build --locked --release --bin virga

test:
	@exec scripts/test.sh

check:
	@exec scripts/test.sh check

unit:
	@exec scripts/test.sh check unit

e2e:
	@exec scripts/test.sh build e2e

bench:
	@scripts/need.sh cc
	@exec bench/run

clean-data:
	rm -rf .virga
