# A thin wrapper over the CMake presets (CMakePresets.json), which work without it.
.DEFAULT_GOAL := build
.PHONY: help deps build build-asan build-clang run test cluster bench bench-build bench-scale bench-record lint format fuzz install uninstall deb rpm clean

CONF ?= conf/tidegate.lua
FUZZ_SECONDS ?= 20
# make test SPEC=spec/unit/topic_spec.lua, or any arguments of busted
SPEC ?=
# arguments of spec/bench/run.lua
BENCH ?=
# arguments of spec/cluster/run.lua
CLUSTER ?=
PREFIX ?= /usr
# for the release build: -DTIDEGATE_WERROR=ON makes warnings errors
CMAKE_FLAGS ?=

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-12s %s\n", $$1, $$2 }'

deps: ## install the Debian packages that building and running need and that are missing
	@.ci/deps run

build: deps ## release build: build/release/tidegate, tidegate-bench
	@cmake --preset release -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS) >/dev/null
	@cmake --build --preset release --target tidegate tidegate-bench manual

build-asan: ## build with address and undefined behaviour sanitizers, and the specs
	@.ci/deps test
	@cmake --preset asan >/dev/null
	@cmake --build --preset asan

build-clang: ## build with the second compiler
	@.ci/deps test
	@cmake --preset clang >/dev/null
	@cmake --build --preset clang

run: build ## start the broker in the foreground (CONF=conf/tidegate.lua)
	@exec build/release/tidegate serve $(CONF)

test: build-asan ## all specs and stored fuzzing inputs, under sanitizers
	@.ci/test build/asan $(SPEC)

cluster: build ## half an hour of faults on a cluster of its own (Patroni, etcd, HAProxy), as root; CLUSTER="--seed 7"
	@.ci/deps cluster
	@lua5.4 spec/cluster/run.lua $(CLUSTER)

bench-build: deps
	@.ci/deps test
	@cmake --preset release >/dev/null
	@cmake --build --preset release --target tidegate tidegate-bench tidegate_limit

bench: bench-build ## Tidegate beside nchan (where installed) and the limit; BENCH="--rounds 1 fan-out-1k", BENCH=--list
	@lua5.4 spec/bench/run.lua $(BENCH)

bench-scale: bench-build ## curves of cost against connections, topics, payload ...: build/bench/*.svg
	@lua5.4 spec/bench/scale.lua $(BENCH)

bench-record: bench-build ## all of it into spec/bench/RESULTS.md and spec/bench/plots: 20 minutes on a quiet machine
	@code=0; to="--record spec/bench/RESULTS.md"; \
	lua5.4 spec/bench/run.lua $$to $(BENCH) || code=1; \
	lua5.4 spec/bench/scale.lua --seconds 1 --out spec/bench/plots $$to || code=1; \
	lua5.4 spec/bench/fifty_thousand.lua $$to || code=1; \
	exit $$code

lint: ## format check, luacheck, clang-tidy
	@.ci/deps test
	@cmake --preset clang >/dev/null
	@.ci/lint build/clang

format: ## clang-format in place
	@.ci/deps test
	@git ls-files '*.c' '*.h' | xargs clang-format -i

fuzz: ## run every fuzz target for FUZZ_SECONDS (default 20)
	@.ci/deps test
	@cmake --preset fuzz >/dev/null
	@cmake --build --preset fuzz
	@.ci/fuzz build/fuzz $(FUZZ_SECONDS)

install: build ## install below PREFIX (/usr) and in /etc/tidegate, with a systemd unit; DESTDIR is honoured
	@cmake --install build/release

uninstall: ## remove what `make install` put below PREFIX; /etc/tidegate and the events stay
	@cmake -P conf/uninstall.cmake

deb: build ## Debian packages of the broker and of the load generator: build/release/packages/*.deb
	@.ci/deps package
	@cd build/release && cpack -G DEB

rpm: build ## the same for RPM: build/release/packages/*.rpm
	@.ci/deps package
	@cd build/release && cpack -G RPM

clean: ## remove all builds
	@rm -rf build
