# The commands of a newcomer and of a developer. Each target does its own set-up, in .venv. `make` alone lists them.

PYTHON ?= python3
PORT ?= tcp:8080
# Seconds for each fuzzer, and the seed that an earlier run printed, to repeat that run.
FUZZ_SECONDS ?= 3600
FUZZ_SEED ?=
# Some of the tests of `make test`, and arguments for the long suites: make conformance CONFORMANCE='--sections 1-10'
TESTS ?=
CONFORMANCE ?=
NOX ?=
BENCH ?=
# The number of processes that run tests. It is more than the number of cores, because most tests wait for a daemon or a
# client.
WORKERS ?= 4

VENV := .venv
BIN := $(VENV)/bin
NODE := tests/interop/node_modules
TOOLS := .venv-system
DOCS := .venv-docs
CLIENTS := .venv-clients
PLUGIN := twisted/plugins/echod_plugin.py
NATIVE := $(wildcard echod/lane/native/*.[ch]) echod/lane/native/build.py
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -U_FORTIFY_SOURCE -UNDEBUG -g -O1

# If the express lane is not compiled, its tests are skipped (ECHOD_NATIVE=0), unless no tool may be missing.
HAS_LANE := $(BIN)/python -c 'from echod.lane.native import load; raise SystemExit(load(None) is None)'
NO_LANE := "The express lane is not compiled, so echod serves in pure Python. To compile it:" \
  "apt-get install gcc python3-dev, then make clean."

# These tests run the C code: by itself, from Python in this process, or in a daemon. Only they run under sanitizers,
# because Python alone has nothing that a sanitizer checks. No fault over HTTP/2 or of a URL is served by C code.
SANITIZED := tests/core/test_counts.py tests/interop/test_deflate.py tests/interop/test_interop.py \
  tests/lane tests/run/test_door.py tests/run/workers/test_worker.py tests/test_closing_daemon.py \
  tests/test_door_daemon.py tests/test_guest_sameness.py tests/test_head_sameness.py tests/test_sameness.py \
  tests/test_turn_times.py tests/upstream tests/websocket \
  'tests/conformance/test_conformance.py::test_sections_1_to_10[1]'

# Of these, fuzzers have sanitizers of their own, valgrind fails if a sanitizer is loaded before it, an installation
# builds without sanitizers, the windows of permessage-deflate are zlib's, and without the lane or with faults no C code
# runs: under a sanitizer Python alone is only slower.
NOT_SANITIZED := tests/lane/native/test_build.py tests/lane/native/test_fuzz.py tests/lane/native/test_instructions.py \
  tests/interop/test_deflate.py::test_windows 'tests/interop/test_deflate.py::test_context_takeover[no-lane' \
  tests/test_turn_times.py::test_no_fault_takes_long

# These tests drive a daemon in another process, or C code. They take long and cover no Python in this process, so
# `make check` measures coverage without them.
OF_C := $(filter-out %/test_build.py %/test_load.py %/test_zlib_functions.py,$(wildcard tests/lane/native/test_*.py))
COVERS_NOTHING := tests/browser tests/conformance tests/fuzz tests/interop tests/reliability tests/system $(OF_C) \
  tests/test_admin_daemon.py tests/test_checking.py tests/test_ci.py \
  tests/test_closing_daemon.py tests/test_door_daemon.py tests/test_faults_daemon.py tests/test_http2_daemon.py \
  tests/test_packaging.py tests/test_readme.py tests/test_running.py tests/test_testing_examples.py \
  tests/test_tools.py tests/test_url.py tests/test_wall_clock.py tests/test_workers_daemon.py

# A process that has no tests left takes them from another, so that a long file does not occupy one process alone.
SHARED_OUT := --numprocesses $(WORKERS) --dist worksteal

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test check conformance system soak fuzz native instructions test-sanitized
.PHONY: bench clients compatibility dist deb docs clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s%s\n", $$1, $$2 }' Makefile

run: $(VENV)/.run  ## serve WebSocket echoes on port 8080 (PORT=tcp:9000 for another port)
	$(BIN)/echod serve --port $(PORT)

test: $(VENV)/.test $(NODE)/.done  ## run the tests, except the long suites
	@if [ "$$ECHOD_TEST_REQUIRE" != all ] && ! $(HAS_LANE); then export ECHOD_NATIVE=0; echo $(NO_LANE); fi; \
	$(BIN)/python -m pytest $(SHARED_OUT) $(TESTS)

check: $(VENV)/.test  ## check style, types and full branch coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest tests $(addprefix --ignore=,$(COVERS_NOTHING))
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

conformance: $(VENV)/.test  ## run the complete Autobahn testsuite, about 10 minutes (CONFORMANCE=arguments)
	$(BIN)/python -m tests.conformance $(CONFORMANCE)

system: $(VENV)/.test $(TOOLS)/.done  ## run echod under systemd and behind real proxies, about 8 minutes (needs root)
	$(BIN)/python -m pytest tests/system

soak: $(VENV)/.test  ## run the reliability suite with its full numbers, about 15 minutes
	$(BIN)/python -m pytest tests/reliability --soak

fuzz: $(VENV)/.test  ## fuzz the daemon and then each part of its C code, for FUZZ_SECONDS each
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(addprefix --seed ,$(FUZZ_SEED))
	$(BIN)/python -m tests.lane.native.fuzz.run --seconds $(FUZZ_SECONDS) $(addprefix --seed ,$(FUZZ_SEED))

native: $(VENV)/.test  ## compile the express lane, after a change to its C code
	$(BIN)/python -m echod.lane.native.build

instructions: $(VENV)/.test  ## count the C code's instructions, and compare them with the recorded figures
	$(BIN)/python -m tests.lane.native.instructions

# This works in a copy, because nothing else should use what is built here. Python itself is not built with the
# sanitizer, so the sanitizer's run-time library has to be loaded first. Leak detection is off, because Python itself
# leaks when it exits. The Autobahn testsuite is installed only once, here.
test-sanitized: $(VENV)/.test $(NODE)/.done  ## run the tests of the C code under AddressSanitizer and UBSan
	rm -rf build/sanitized
	mkdir -p build/sanitized
	tar -cf - --exclude='./.*' --exclude=./build --exclude=./dist --exclude=./reports --exclude=__pycache__ . .gitignore \
	  | tar -xf - -C build/sanitized
	cd build/sanitized && ECHOD_NATIVE_CFLAGS="$(SANITIZERS)" $(abspath $(BIN))/python -m echod.lane.native.build
	cd build/sanitized && PYTHONPATH=$(abspath build/sanitized) \
	  ECHOD_WSTEST_HOME="$${ECHOD_WSTEST_HOME:-$(abspath .venv-wstest)}" \
	  LD_PRELOAD="$$(cc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  $(abspath $(BIN))/python -m pytest $(SANITIZED) $(addprefix --deselect=,$(NOT_SANITIZED)) $(SHARED_OUT)

bench: $(VENV)/.test  ## measure echod and other servers, up to 75 minutes (BENCH=--quick)
	$(BIN)/python -m benchmarks $(BENCH)

clients: $(VENV)/.test $(NODE)/.done $(CLIENTS)/.done  ## see what real clients make of each fault, in docs/clients.md
	$(BIN)/python -m tests.interop.survey

compatibility: $(VENV)/.test $(NODE)/.done  ## run the tests with each Python, reactor, Autobahn and Twisted (NOX=arguments)
	$(BIN)/nox $(NOX)

# auditwheel tags the wheel with the Linux that it is for. It finds its tool patchelf on the PATH. Both `build` and
# auditwheel store times and permissions. auditwheel would use the present time and the caller's umask.
dist: export SOURCE_DATE_EPOCH ?= 1580601600
dist: $(VENV)/.test  ## build the wheel and the sdist, reproducibly, in dist/
	rm -rf build/dist dist/*.whl dist/*.tar.gz
	ECHOD_NATIVE=1 $(BIN)/python -m build --no-isolation --outdir build/dist .
	umask 022 && PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist build/dist/*.whl
	mv build/dist/*.tar.gz dist
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz

# This works in a folder of its own, because dpkg-buildpackage puts its packages beside the folder that it works in.
deb: $(VENV)/.test  ## build the Debian package, in dist/ (needs debhelper)
	rm -rf build/deb
	$(BIN)/python -m build --no-isolation --sdist --outdir build/deb .
	mkdir -p build/deb/echod dist
	tar -xzf build/deb/echod-*.tar.gz -C build/deb/echod --strip-components=1
	cd build/deb/echod && dpkg-buildpackage --build=binary --no-sign
	mv build/deb/*.deb dist

# A link to a page, a heading or a file that does not exist is a warning, and so an error.
docs: $(DOCS)/.done  ## make a site of the documents, in build/docs/
	rm -rf build/docs
	$(DOCS)/bin/sphinx-build --quiet --nitpicky --fail-on-warning --keep-going docs build/docs

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(TOOLS) $(DOCS) $(CLIENTS) .venv-wstest .nox .nspawn build dist reports .coverage* .mypy_cache \
	  .ruff_cache .hypothesis $(NODE) tests/interop/deno/node_modules echod/lane/native/*.so
	find . \( -name __pycache__ -o -name dropin.cache \) -prune -exec rm -rf {} +

# Set-up

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "echod needs Python 3.11 or newer; try make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The installation compiles the express lane if there is a compiler, and copies the plugin. So it is repeated when
# either has changed.
$(VENV)/.run: pyproject.toml hatch_build.py $(PLUGIN) $(NATIVE) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	@$(HAS_LANE) || echo $(NO_LANE)
	@touch $@

$(VENV)/.test: pyproject.toml hatch_build.py $(PLUGIN) $(NATIVE) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[test,dev]'
	@$(HAS_LANE) || echo $(NO_LANE)
	@touch $@ $(VENV)/.run

# Tools of the system suite. Their dependencies conflict with echod's.
$(TOOLS)/.done: tests/system/requirements.txt
	@$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --requirement $<
	@touch $@

# The clients that are surveyed and that nothing else needs: packages of Python, and runtimes of JavaScript.
$(CLIENTS)/.done: $(addprefix tests/interop/visitors/,requirements.txt package.json package-lock.json)
	@$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install --quiet --requirement $<
	cp $(wordlist 2,3,$^) $(CLIENTS)
	$(NPM_CI) --prefix $(CLIENTS)
	@touch $@

$(DOCS)/.done: docs/requirements.txt
	@$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --requirement $<
	@touch $@

# Without npm, or if its registry cannot be reached, the tests with Node's client are skipped and say so, unless no tool
# may be missing. Of npm's output about a failure, the first line with a message is shown.
NPM_CI := npm ci --loglevel=error --prefer-offline --no-audit --no-fund --fetch-retries=1 \
  --fetch-retry-mintimeout=1000
$(NODE)/.done: tests/interop/package-lock.json
	@if ! command -v npm >/dev/null; then exit 0; fi; \
	if told="$$($(NPM_CI) --prefix tests/interop 2>&1)"; then touch $@; exit 0; fi; \
	echo "npm ci failed, so that there is no Node client to test with:" \
	  "$$(echo "$$told" | sed -E 's/^npm (error|ERR!) ?//' | grep -m 1 -v -E '^(code|errno|syscall|path) |^$$')"; \
	[ "$$ECHOD_TEST_REQUIRE" != all ]
