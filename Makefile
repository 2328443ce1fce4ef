# The tasks of a checkout. CI runs exactly `make test`.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps
VALE_VERSION := v3.21.0
# Number of processes that run the tests.
WORKERS ?= 3
COMMA := ,
# nginx and other programs are in /usr/sbin, which is not in every PATH.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help setup run chat test check check-python check-js check-prose pytest bench bench-ways faults growth docs sync build clean
help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## install what all tests need (quick if it is installed)
	@$(MAKE) --no-print-directory --jobs=4 $(STAMPS)/system $(STAMPS)/python $(STAMPS)/js $(STAMPS)/emitters $(STAMPS)/toolchains $(STAMPS)/java $(STAMPS)/go $(STAMPS)/vale

$(STAMPS):
	@mkdir -p $@

# What a hub and its page need. The tests need more: databases, brokers, browsers, compilers.
$(STAMPS)/node: .ci/install | $(STAMPS)
	@PYTHON=$(PYTHON) .ci/install node npm
	@touch $@

$(STAMPS)/redis: .ci/install | $(STAMPS)
	@PYTHON=$(PYTHON) .ci/install redis-server
	@touch $@

$(STAMPS)/system: .ci/install | $(STAMPS)/node
	@PYTHON=$(PYTHON) .ci/install
	@touch $@

$(BIN)/python: | $(STAMPS)/node
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tidings needs Python 3.11 or newer; set PYTHON")'
	@$(PYTHON) -m venv $(VENV)

# A registry may refuse a request now and then.
pip_install = for attempt in 1 2 3; do \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(1)]' && break; \
	    [ $$attempt -lt 3 ] && sleep 5 || exit 1; \
	done

$(STAMPS)/server: pyproject.toml $(BIN)/python | $(STAMPS)
	@$(call pip_install,server$(COMMA)notifications)
	@touch $@

$(STAMPS)/examples: pyproject.toml $(BIN)/python | $(STAMPS)
	@$(call pip_install,server$(COMMA)examples$(COMMA)notifications)
	@touch $@ $(STAMPS)/server

$(STAMPS)/python: pyproject.toml $(BIN)/python | $(STAMPS)
	@$(call pip_install,server$(COMMA)kombu$(COMMA)socketio$(COMMA)jwt$(COMMA)test)
	@touch $@ $(STAMPS)/server $(STAMPS)/examples

# Without npm the hub works, but the page of `make run` has no client, and /tidings.js is missing.
$(STAMPS)/npm: $(wildcard sdk_js/package-lock.json sdk_js/package.json) | $(STAMPS)/node
	@if command -v npm >/dev/null; then \
	    cd sdk_js && npm ci --silent --no-audit --no-fund; \
	else \
	    echo 'npm is not installed: the page of `make run` will have no client' >&2; \
	fi
	@touch $@

# Vale checks the prose. Go builds it, because no package on PyPI or npm contains the program.
$(STAMPS)/vale: $(BIN)/python | $(STAMPS)
	@if command -v go >/dev/null; then \
	    GOBIN="$(CURDIR)/$(BIN)" go install github.com/vale-cli/vale/v3/cmd/vale@$(VALE_VERSION) 2>$@.log || { cat $@.log >&2; exit 1; }; \
	elif ! command -v vale >/dev/null; then \
	    echo 'neither vale nor go is installed: prose is not checked' >&2; \
	fi
	@touch $@

# Clients in Java and Go for the tests. Maven and Go keep what they download in their caches.
JAVA_CLIENT := tests/foreign/java
$(STAMPS)/java: $(JAVA_CLIENT)/pom.xml $(JAVA_CLIENT)/ForeignClient.java | $(STAMPS)/system
	@if command -v mvn >/dev/null && command -v javac >/dev/null; then \
	    rm -rf $(JAVA_CLIENT)/build && mkdir -p $(JAVA_CLIENT)/build; \
	    mvn -q -B -f $(JAVA_CLIENT)/pom.xml dependency:copy-dependencies -DoutputDirectory=build/lib >$@.log || { cat $@.log >&2; exit 1; }; \
	    javac -cp '$(JAVA_CLIENT)/build/lib/*' -d $(JAVA_CLIENT)/build/classes $(JAVA_CLIENT)/ForeignClient.java; \
	else \
	    echo 'mvn or javac is not installed: tests of Java clients are skipped' >&2; \
	fi
	@touch $@

$(STAMPS)/go: $(wildcard tests/foreign/go/*.go tests/foreign/go/go.*) | $(STAMPS)/system
	@if command -v go >/dev/null; then \
	    cd tests/foreign/go && go build -o build/client . 2>$(CURDIR)/$@.log || { cat $(CURDIR)/$@.log >&2; exit 1; }; \
	else \
	    echo 'go is not installed: tests of Go clients are skipped' >&2; \
	fi
	@touch $@

# Third-party emitters for the compatibility tests.
$(STAMPS)/emitters: tests/emitters/package-lock.json tests/emitters/package.json | $(STAMPS)/system
	@if command -v npm >/dev/null; then cd tests/emitters && npm ci --silent --no-audit --no-fund; fi
	@touch $@

# Bundlers, test runners and versions of Node for the tests of the npm package. None of them needs its install script.
$(STAMPS)/toolchains: tests/toolchains/package-lock.json tests/toolchains/package.json | $(STAMPS)/system
	@if command -v npm >/dev/null; then cd tests/toolchains && npm ci --silent --no-audit --no-fund --ignore-scripts; fi
	@touch $@

$(STAMPS)/js: $(STAMPS)/npm $(wildcard sdk_js/scripts/*) $(shell find sdk_js/src -name '*.js' 2>/dev/null)
	@if command -v npm >/dev/null; then cd sdk_js && npm run --silent build; fi
	@touch $@

run: ## run a development hub on http://127.0.0.1:8000/
	@$(MAKE) --no-print-directory --jobs=2 $(STAMPS)/server $(STAMPS)/js
	@mkdir -p data
	@if [ -f data/notifications.db ] && ! [ -f tidings.toml ]; then \
	    $(BIN)/tidings notifications --migrate --config examples/run.toml >/dev/null || true; \
	fi
	@exec $(BIN)/tidings serve --dev $(if $(wildcard tidings.toml),,--config examples/run.toml) $(ARGS)

chat: $(STAMPS)/examples $(STAMPS)/js $(STAMPS)/redis ## run the example chat on http://127.0.0.1:5000/
	@exec $(BIN)/python examples/chat $(ARGS)

test: setup check pytest ## run everything that CI runs

# The tests of one file run in one process, in order. Most of their time is waiting. WORKERS=0 runs all tests in one process.
pytest: setup
	@code=0; $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS) || code=$$?; \
	if [ $$code -eq 1 ]; then $(BIN)/python tools/rerun_failed.py; else exit $$code; fi

check: check-python check-js check-prose ## style, types, layers and prose

check-python: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python tools/async_to_sync.py --check
	@$(BIN)/python -m pytest --collect-only -qq >$(STAMPS)/collect.log || { tail -40 $(STAMPS)/collect.log; exit 1; }

check-js: setup
	@if ! [ -d sdk_js/node_modules ]; then \
	    echo 'npm is not installed: JavaScript is not checked' >&2; \
	elif ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'; then \
	    echo "Node $$(node --version) is too old to check JavaScript; 20.19 or newer does it" >&2; \
	else \
	    cd sdk_js && npm run --silent check; \
	fi

check-prose: setup ## check documents, docstrings and comments by the rules in docs/style
	@if ! PATH="$(CURDIR)/$(BIN):$$PATH" command -v vale >/dev/null; then \
	    echo 'vale is not installed: prose is not checked' >&2; \
	    [ -z "$${CI:-}" ]; \
	else \
	    PATH="$(CURDIR)/$(BIN):$$PATH" vale --output=line $$(git ls-files '*.md' 'hub/*.py' 'adapters/*.py' 'tests/*.py' 'examples/*.py' 'tools/*.py' 'sdk_js/*.js' ':!tests/**/node_modules'); \
	fi

bench: setup ## run the benchmarks and write docs/benchmarks.md (CASE=fanout for a part)
	@PYTHONPATH=tests $(BIN)/python -m bench $(if $(CASE),--case $(CASE)) $(ARGS)

bench-ways: setup ## measure each publishing API and write the table of docs/backends.md (ARGS='--way redis' prints one row)
	@PYTHONPATH=tests $(BIN)/python -m bench.ways $(ARGS)

faults: setup ## test every fault under the full load (FAULT='kill-node nginx' for some, ARGS='--times 3')
	@PYTHONPATH=tests $(BIN)/python -m faults $(FAULT) $(ARGS)

growth: setup ## hostile clients for an hour: nothing may grow (HOURS=0.5 for another time)
	@PYTHONPATH=hub:adapters:tests $(BIN)/python -m growth --hours $(or $(HOURS),1)

docs: setup ## regenerate docs/settings.md
	@$(BIN)/python -c 'from tidings_hub.config.render import as_markdown; print(as_markdown(), end="")' > docs/settings.md

sync: setup ## generate the blocking emitter from the asynchronous one
	@$(BIN)/python tools/async_to_sync.py

build: setup ## build the wheel in dist/
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove all generated files
	@rm -rf $(VENV) $(STAMPS) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .schemathesis
	@rm -rf sdk_js/node_modules tests/emitters/node_modules tests/toolchains/node_modules tests/toolchains/build tests/foreign/*/build sdk_js/types hub/tidings_hub/web/static/vendor
	@find hub adapters tests -name __pycache__ -type d -prune -exec rm -rf {} +
