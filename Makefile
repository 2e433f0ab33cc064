# Skerry. Two commands: `make demo` and `make test`. Each sets itself up.
# Needs Python 3.11 or newer and make; no root, nothing installed by hand.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo check test test-all arm64 power-loss faults soak-agent cable bad-day hostile mutants bench-agent docs lock system-deps arm64-deps parts

# The first Python here that is new enough and can make a virtual environment.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
# tflite-runtime has no wheel above Python 3.11.
PYTHON311 ?= $(shell for python in $(PYTHON) python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
PIP_FLAGS := --quiet --disable-pip-version-check --no-input
PYTEST_FLAGS ?=
# Two at a time: most tests wait for programs that they started. A file stays with one of them.
PYTEST := .venv/bin/python -P -m pytest --numprocesses 2 --dist loadfile
# Setting up runs once for each content of the locks.
MAIN := .venv/ready-$(shell cat requirements/dev.txt pyproject.toml | cksum | cut -d' ' -f1)
TFLITE := .venv-tflite/ready-$(shell cat requirements/tflite.txt pyproject.toml | cksum | cut -d' ' -f1)
COMPILE := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-emit-index-url --no-emit-find-links

help:  ## say what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

setup: $(MAIN) $(TFLITE)  ## make .venv, and .venv-tflite where Python 3.11 is found

demo: setup parts  ## show the main job on real models, processes and broker
	.venv/bin/skerry demo

check: $(MAIN)  ## the static part of the gate, in seconds
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/lint-imports --no-cache
	.venv/bin/mypy

test: setup check parts  ## the gate, and every test not marked slow or lab
	$(PYTEST) -m "not slow and not lab" $(PYTEST_FLAGS)

test-all: setup check parts  ## the gate and every test but those of ARM64: what CI runs
	$(PYTEST) -m "not arm64" $(PYTEST_FLAGS)

arm64: $(MAIN)  ## build the agent's image and run it, on emulated ARM64 (as root; 8 minutes the first time)
	.venv/bin/python -P -m pytest -m arm64 tests/arm64 $(PYTEST_FLAGS)

power-loss: $(MAIN)  ## rebuild every disk that a power cut may leave of a device, and look at each (needs strace; 5 minutes)
	.venv/bin/python -P -m tests.agent.power

faults: $(MAIN)  ## hit each step of a change with each fault (as root: it mounts a disk; a quarter of an hour)
	.venv/bin/python -P -m tests.agent.device.faults $(FAULTS_FLAGS)

soak-agent: $(MAIN)  ## kill a device's agent at 1000 random moments (half an hour)
	.venv/bin/python -P -m tests.agent.device.soak $(SOAK_FLAGS)

cable: $(MAIN)  ## cut a device off for ten minutes while much happens to it (twenty minutes)
	.venv/bin/python -P -m tests.e2e.cable.cut $(CABLE_FLAGS)

bad-day: $(MAIN)  ## let five things go wrong at once, and measure how soon each is seen (as root: it mounts a disk; a quarter of an hour)
	.venv/bin/python -P -m tests.e2e.bad_day $(BAD_DAY_FLAGS)

hostile: setup  ## send 10,000 damaged and hostile models a device's way (half an hour)
	.venv/bin/python -P -m tests.agent.hostile.campaign

mutants: $(MAIN)  ## plant each known trap of rollouts, and see that the test which names it turns red (five minutes)
	.venv/bin/python -P -m tests.mutants $(MUTANTS)

bench-agent: $(MAIN)  ## measure what it costs that a model answers in a process of its own (a minute and a half)
	.venv/bin/python -P -m tests.bench.bench_agent $(BENCH_FLAGS)

docs: $(MAIN)  ## write docs/reference from the code
	.venv/bin/python -m tests.reference

lock: $(MAIN)  ## lock the newest dependencies that pyproject.toml allows (LOCK_FLAGS=--upgrade)
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --extra dev --output-file requirements/dev.txt
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --extra agent --extra tflite --extra editable --output-file requirements/tflite.txt
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --extra agent --extra litert --output-file requirements/agent.txt
	.venv/bin/python -c 'import pathlib, tomllib; print(*tomllib.loads(pathlib.Path("pyproject.toml").read_text())["build-system"]["requires"], sep="\n")' \
	| $(COMPILE) $(LOCK_FLAGS) - --output-file requirements/wheel.txt

system-deps:  ## install what pip can't: mosquitto, skopeo, chromium, gcc, strace, prometheus, alertmanager (Debian and its kin, as root)
	@export PATH=$$PATH:/usr/sbin:/usr/local/sbin; \
	if command -v mosquitto >/dev/null && command -v skopeo >/dev/null \
	&& command -v chromium >/dev/null && command -v gcc >/dev/null \
	&& command -v strace >/dev/null && command -v promtool >/dev/null && command -v prometheus-alertmanager >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
	echo "install mosquitto, skopeo, chromium, gcc, strace, prometheus and prometheus-alertmanager with this system's own package tool" >&2; exit 1; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "this needs root: sudo make system-deps" >&2; exit 1; fi; \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	apt-get -qq install --yes --no-install-recommends mosquitto skopeo chromium gcc libc6-dev strace \
	prometheus prometheus-alertmanager

arm64-deps:  ## install what `make arm64` needs (Debian and its kin, as root)
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	apt-get -qq install --yes --no-install-recommends \
	binfmt-support debootstrap mosquitto podman qemu-user-static runc

# What is missing on a person's machine is said in one line; its tests skip, or fail where CI=true.
parts:
	@for part in mosquitto skopeo chromium gcc strace promtool prometheus-alertmanager; do PATH=$$PATH:/usr/sbin:/usr/local/sbin command -v $$part >/dev/null \
	|| echo "missing: $$part (what needs it is skipped). Remedy: sudo make system-deps"; done
	@test -x .venv-tflite/bin/python \
	|| echo "missing: tflite-runtime (what needs it is skipped). Remedy: put python3.11 on PATH, make setup"

$(MAIN): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Skerry needs Python 3.11 or newer, with venv (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "setting up .venv with $(PYTHON): about 1 GB, a few minutes the first time"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements/dev.txt
	.venv/bin/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation --editable .
	@rm -f .venv/ready-* && touch $@

$(TFLITE): requirements/tflite.txt pyproject.toml
	@if [ -z "$(PYTHON311)" ]; then \
	echo "no Python 3.11 here: .venv-tflite (tflite-runtime) is left out"; \
	else (test -x .venv-tflite/bin/python || $(PYTHON311) -m venv .venv-tflite) \
	&& .venv-tflite/bin/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements/tflite.txt \
	&& .venv-tflite/bin/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation --editable . \
	&& rm -f .venv-tflite/ready-* && touch $@ \
	|| { echo "tflite-runtime can't be installed here: .venv-tflite is left out"; rm -rf .venv-tflite; }; fi
