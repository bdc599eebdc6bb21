# A clean checkout needs Python with its headers and venv, gcc, make and zlib.h; everything else goes into .venv*. The
# tests also talk to Node's ws where there are node and npm; it goes into tests/clients/node/node_modules.
# `make help` lists the targets.

PYTHON ?= python3
PORT ?= 8765
VERSIONS := 3.10 3.11 3.12 3.13 3.14
REQUIRED_IN_CI := 3.10 3.11 3.12 3.13

VENV := .venv
BIN := $(VENV)/bin
# The tests wait more than they compute; what a busy machine delays, they wait for so many times longer. Those that wait
# longest stand side by side, so that workers without work take some of another's.
PARALLEL := -n 6 --dist worksteal
export PATIENCE ?= 3
PIP_INSTALL = -m pip install -qq --disable-pip-version-check
SOURCES := setup.py pyproject.toml $(shell find fastws -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h')
NO_BROWSER := --ignore=tests/browser
ALONE := $(wildcard tests/core/protocol/build.py tests/core/io/build.py tests/simd/build.py)
build-alone = $(foreach build,$(ALONE),$(1) $(build) || exit 1;)

export PIP_ROOT_USER_ACTION := ignore
# The tests start hundreds of processes: each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: help run build alone node-ws bench-node test lint test-here test-bench test-slow browser docs screenshot \
	test-versions $(VERSIONS:%=test-%) test-asan simd simd-here simd-emulated fuzz soak soak-asan autobahn nightly bench \
	clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 25

run: $(VENV)/.built  ## serve the demo on http://127.0.0.1:8765, or another PORT=
	@$(BIN)/fastws demo --host 127.0.0.1 --port $(PORT) || \
		{ status=$$?; [ $$status != 1 ] || echo "fastws: for another port, make run PORT=8766" >&2; exit $$status; }

build: $(VENV)/.built $(VENV)/.tools alone  ## build the extension in place, warnings as errors

# Without what is marked as slow, and with a quarter of the examples of what is marked as sampled.
test: MARKED := -m 'not slow'
test: export EXAMPLES ?= 0.25
test: lint test-here test-bench browser  ## what a change must pass, but for test-slow, test-versions, autobahn

test-here: build node-ws
	$(BIN)/python -m pytest $(PARALLEL) tests $(NO_BROWSER) $(MARKED)

test-bench: build bench-node
	$(BIN)/python -m pytest -n 2 --dist loadfile bench $(MARKED)

test-slow: build node-ws  ## what `make test` leaves out: tests that are slow, all the examples
	$(BIN)/python -m pytest $(PARALLEL) -m 'slow or sampled' tests $(NO_BROWSER) bench

lint: $(VENV)/.built $(VENV)/.tools  ## ruff, mypy, and the stubs against the extension
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@# A compiled constructor does not tell its parameters, so that only mypy can check those.
	echo 'fastws._speedups.[^.]+.__init__' | $(BIN)/stubtest --concise --ignore-missing-stub --ignore-disjoint-bases \
		--allowlist /dev/stdin fastws._speedups

# Debian's or another distribution's browser; Playwright would want to download one.
CHROMIUM = $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
browser: build  ## the demo in headless Chromium
	@if [ -n "$(CHROMIUM)" ]; then $(MAKE) --silent $(VENV)/.browser && $(BIN)/python -m pytest tests/browser; else \
		echo "test: SKIPPED tests/browser: there is no chromium; on Debian and Ubuntu, apt-get install chromium"; \
		test -z "$$CI"; fi

docs: build  ## write docs/options.md again, from fastws/options.py
	$(BIN)/python docs/make_options.py

screenshot: build $(VENV)/.browser  ## take the picture of the demo in docs/ again
	$(BIN)/python tests/browser/screenshot.py docs/demo.png

$(VENV)/.browser: $(VENV)/.created
	@$(BIN)/python $(PIP_INSTALL) --group browser
	@touch $@

# In a copy of the checkout, whose own build goes before the installed one. A list of freed objects, from which new ones
# are made, would hide a use after free.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
test-asan: $(VENV)/.built $(VENV)/.tools  ## the tests under AddressSanitizer, UBSan and LeakSanitizer
	@tree=build/test-asan; set -e; rm -rf $$tree; mkdir -p $$tree; $(call copy-checkout,$$tree); cd $$tree; \
	export CFLAGS='$(SANITIZE) -fno-omit-frame-pointer -O1 -g -DCYTHON_USE_FREELISTS=0' LDFLAGS='$(SANITIZE)'; \
	{ $(call build-alone,../../$(BIN)/python) } & ../../$(BIN)/python setup.py -q build_ext --inplace; wait $$!; \
	EXAMPLES=0.2 tests/sanitized.sh ../../$(BIN)/python -m pytest $(PARALLEL) -n 4 tests $(NO_BROWSER) $(UNSANITIZED)

# Not under sanitizers: the oracle, which is Python; C that test_check.py compiles with sanitizers of its own; a limited
# address space (they take terabytes); what glibc keeps and gives back, and CPython's count of blocks (they bring
# another allocator, which keeps what was freed and counts none); a fork beside a thread of the resolver's, which
# CPython forgets in the child; children of forks that live on, as their allocator's locks may be held by a thread that
# they have not.
UNSANITIZED := --ignore=tests/simd/test_check.py --ignore=tests/oracles/test_oracle.py \
	--deselect tests/core/protocol/test_parser.py::TestLimits::test_out_of_memory \
	--ignore=tests/core/connection/test_memory_use.py \
	--deselect tests/soak/test_soak.py::test_notices_leaks \
	--deselect tests/running/test_run.py::test_large_messages_do_not_take_new_memory_each_time \
	--deselect 'tests/hostile/test_api_lifetime.py::test_a05_interpreter_exit[asyncio-os.fork]' \
	--deselect tests/hostile/test_forks.py::test_a_child_that_returns_into_the_loop \
	--deselect tests/hostile/test_forks.py::test_the_child_serves_by_itself

# What make test does, with more of it and for processors that are not this one.
SIMD_MUTATIONS ?= 10000000
simd: build  ## the kernels: every variant on guarded memory, millions of damaged texts, NEON under qemu
	@mkdir -p build/simd
	@$(MAKE) --silent -j 2 simd-here simd-emulated

simd-here:
	gcc -O3 -Wall -Wextra -Werror -Ifastws/_simd tests/simd/check.c -o build/simd/check
	build/simd/check --mutations $(SIMD_MUTATIONS)
	SIMD_MUTATIONS=$(SIMD_MUTATIONS) $(BIN)/python -m pytest -n 2 tests/simd/test_mutations.py

simd-emulated:
	tests/simd/emulated.sh build/simd $(SIMD_MUTATIONS)

fuzz: build  ## streams, handshakes, compression, whole servers, under the sanitizers (needs clang); MINUTES=1 for each target
	@if command -v clang >/dev/null; then set -e; \
		PYTHONPATH=tests $(BIN)/python -c 'from fuzz.server_build import build; build()' & \
		$(BIN)/python tests/fuzz/build.py; wait $$!; \
		PYTHONPATH=tests $(BIN)/python -m fuzz.run --minutes $(or $(MINUTES),1); \
	else echo "fuzz: SKIPPED, there is no clang; on Debian and Ubuntu, apt-get install clang"; test -z "$$CI"; fi

copy-checkout = git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C $(1)

autobahn: $(VENV)/.built .venv-2.7/.installed  ## the Autobahn testsuite (needs Python 2.7); FULL=1: all of compression
	$(BIN)/python tests/autobahn/run.py $(if $(FULL),--full)

MINUTES ?= 1
soak: $(VENV)/.built $(VENV)/.tools  ## clients come, misbehave and vanish for MINUTES=1; nothing may be left of them
	$(BIN)/python tests/soak/run.py --minutes $(MINUTES)

# In the copy of the checkout that `make fuzz` builds.
soak-asan: $(VENV)/.built $(VENV)/.tools  ## make soak with the server under AddressSanitizer, UBSan and LeakSanitizer
	@set -e; tree="$$(PYTHONPATH=tests $(BIN)/python -c 'from fuzz.server_build import build; print(build())')"; cd $$tree; \
		tests/sanitized.sh $(CURDIR)/$(BIN)/python tests/soak/run.py --minutes $(MINUTES)

nightly:  ## what is slow and seldom fails: the soak and the fuzzers under the sanitizers, all of Autobahn
	$(MAKE) soak-asan MINUTES=30
	$(MAKE) fuzz MINUTES=5
	$(MAKE) autobahn FULL=1

bench: $(VENV)/.built bench-node  ## server CPU beside other servers, in five minutes; python -m bench has more
	@$(BIN)/python $(PIP_INSTALL) --group bench
	$(BIN)/python -m bench run --quick

clean:  ## remove everything that was made here
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf fastws/*.so fastws/_speedups.c tests/core/*/*.so tests/simd/*.so tests/fuzz/*.so
	rm -rf tests/autobahn/reports tests/clients/node/node_modules bench/build bench/servers/node/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +

# Developers and CI let no warning pass; `make run` builds with whatever compiler a user has.
build test simd lint autobahn soak bench: export FASTWS_STRICT := 1

# An editable install: the extension lies in fastws/, the dependencies and the `fastws` command in .venv.
$(VENV)/.built: $(VENV)/.created $(SOURCES)
	@echo "fastws: building the extension ..."
	@$(BIN)/python $(PIP_INSTALL) --no-build-isolation --editable '.[cli]'
	@touch $@

$(VENV)/.tools: $(VENV)/.created | $(VENV)/.built
	@$(BIN)/python $(PIP_INSTALL) --group test --group lint --group bench
	@touch $@

# pip knows --group from 25.1 on. The headers are looked for here because a compiler's own complaint is hard to read.
$(VENV)/.created: pyproject.toml
	@$(PYTHON) -c 'import os, sys, sysconfig; h = sysconfig.get_path("include") + "/Python.h"; \
		os.path.exists(h) or sys.exit("fastws: " + h + " is missing: on Debian and Ubuntu, apt-get install python3-dev")'
	@echo "fastws: installing what the build needs into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP_INSTALL) --upgrade 'pip>=25.1'
	@$(BIN)/python $(PIP_INSTALL) --group build
	@touch $@

# Each half of the core compiled alone, for its own tests; and the protocol half with every variant of the kernels.
alone: $(if $(ALONE),$(VENV)/.alone)

$(VENV)/.alone: $(ALONE) $(wildcard tests/core/*/*.p[yx][xd] tests/simd/*.p[yx][xd] tests/simd/*.h) \
		$(VENV)/.created $(SOURCES)
	$(call build-alone,$(BIN)/python)
	@touch $@

# What is no Python package: a client of tests/clients, and a server of bench/servers. The other versions' tests go
# without: their copies of the checkout have not what git ignores. No script of a package is run: ws has none, and its
# bufferutil brings binaries.
node-ws: NODE := tests/clients
bench-node: NODE := bench/servers
node-ws bench-node:
	@if command -v node >/dev/null && command -v npm >/dev/null; then \
		$(MAKE) --silent $(NODE)/node/node_modules/.installed; else \
		echo "test: SKIPPED Node's ws in $(NODE): PATH has not both node and npm"; test -z "$$CI"; fi

%/node_modules/.installed: %/package.json
	@cd $(<D) && npm install --silent --no-package-lock --no-audit --no-fund --ignore-scripts
	@touch $@

.venv-2.7/.installed: tests/autobahn/install.sh $(VENV)/.created
	@PYTHON=$(BIN)/python tests/autobahn/install.sh .venv-2.7
	@touch $@

# pyenv's interpreters first: its shims are on PATH even for versions that are not switched on, and then fail.
# [0-9] leaves out the free-threaded ones, 3.13.0t and the like.
PYENV = $(shell pyenv root 2>/dev/null)
find-python = $(firstword $(wildcard $(PYENV)/versions/$(1).*[0-9]/bin/python$(1)) \
	$(shell python$(1) -c 'import sys; print(sys.executable)' 2>/dev/null))

# Two at a time: one is installed while another's tests wait.
test-versions:  ## install into, and test under, every CPython from 3.10 on that is here
	@$(MAKE) --no-print-directory --output-sync=target -j 2 $(VERSIONS:%=test-%)
	@echo "test-versions: all done; skipped as not here:" \
		"$(or $(strip $(foreach v,$(VERSIONS),$(if $(call find-python,$v),,$v))),none)"

# All the tests but those in a browser, of the kernels, which are C, and of the oracle. Each version installs a copy of
# the checkout, free of what other builds left there, with an isolated build. Then the copy loses fastws/__init__.py: a
# folder without one gives way to a package further down sys.path, so that the tests and the commands that they start
# get the installed package in any directory, and can still read the sources. The version that `make test` runs under
# only shows here that it has all it needs. Hypothesis makes the same examples under every version: those of `make test`
# are not all repeated.
DEFAULT_VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
INSTALLED := tests/app/test_app.py tests/app/test_demo.py tests/app/test_examples.py tests/cli tests/running
$(VERSIONS:%=test-%): test-%:
	@python='$(call find-python,$*)'; tree=build/test-$*; bin=.venv-$*/bin; set -e; \
	if [ -z "$$python" ]; then \
		echo "test-versions: SKIPPED Python $*: neither pyenv nor PATH has it"; \
		test -z "$$CI" -o -z '$(filter $*,$(REQUIRED_IN_CI))'; exit; \
	fi; \
	echo "test-versions: Python $*, $$python"; \
	rm -rf $$tree; mkdir -p $$tree; \
	$(call copy-checkout,$$tree); \
	$$python -m venv .venv-$*; \
	$$bin/python $(PIP_INSTALL) --upgrade 'pip>=25.1'; \
	$$bin/python $(PIP_INSTALL) --group build --group test; \
	$$bin/python $(PIP_INSTALL) "./$$tree[cli]"; \
	cd $$tree; \
	$(if $(filter $*,$(DEFAULT_VERSION)),,../../$$bin/python tests/core/protocol/build.py; ../../$$bin/python tests/core/io/build.py;) \
	rm fastws/__init__.py; \
	EXAMPLES=0.2 ../../$$bin/python -m pytest $(PARALLEL) -n 4 $(NO_BROWSER) --ignore=tests/simd \
		--ignore=tests/oracles/test_oracle.py $(if $(filter $*,$(DEFAULT_VERSION)),$(INSTALLED))
