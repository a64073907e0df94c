# Nothing needs to be there but git, make and a network: each command installs what it lacks.
#
#   make try          show the files which this machine opens
#   make install      put pytrace on the PATH (PREFIX=/usr/local); make uninstall
#   make test         every check: style, types, floors, tests here and under other kernels, conformance
#   make lint         style, types and floors only
#   make vm           all end-to-end tests under another kernel (KERNEL=6.1 or 6.12)
#   make conformance  run the tests and write docs/conformance.md and docs/kernels.md
#   make docs         write docs/language.md from the classes of the language
#   make bench        measure beside bpftrace and write the table of docs/performance.md (CASE='startup/*' ROUNDS=5)

SHELL := /bin/bash
PREFIX ?= /usr/local
KERNEL ?= 6.1
RUN_PACKAGES := python3-venv python3-bpfcc libbpf1
TEST_PACKAGES := $(RUN_PACKAGES) gcc g++ libc6-dev systemtap-sdt-dev bpftrace iproute2 clang libbpf-dev \
	qemu-system-x86 busybox-static zstd xz-utils
PIP := .venv/bin/python -m pip --disable-pip-version-check
# a folder on the path, not a module that finds packages by name and costs 8 ms of every start
EDITABLE := --config-settings editable_mode=compat
# the first run as root would leave files of root's, and a read-only checkout none at all
COMPILE := .venv/bin/python -m compileall -q pytrace grammar codegen runtime

.PHONY: try install uninstall test lint vm conformance docs bench clean run-packages test-packages can-trace

try: can-trace .venv/run
	@.ci/try

test: .venv/dev
	@.ci/test

lint: .venv/dev
	@.ci/test ruff mypy imports

vm: .venv/dev
	@.ci/test all-$(KERNEL)

conformance: .venv/dev
	@.ci/test host vm-6.1 vm-6.12 write

docs: .venv/run
	@.venv/bin/python -m pytrace.manual docs/language.md

CASE ?= *
ROUNDS ?= 5
bench: .venv/dev
	@$$([ $$(id -u) = 0 ] || echo sudo) .venv/bin/python -m tests.bench --case '$(CASE)' --rounds $(ROUNDS) --update docs/performance.md

can-trace:
	@.ci/can-trace

run-packages:
	@.ci/packages $(RUN_PACKAGES)

test-packages:
	@.ci/packages $(TEST_PACKAGES)

# Over Debian's own Python, because BCC's module is a Debian package.
.venv/bin/pip: | run-packages
	/usr/bin/python3 -m venv --system-site-packages .venv

# Empty files that say what is installed in .venv; made again when pyproject.toml changes.
.venv/run: pyproject.toml .venv/bin/pip | run-packages
	$(PIP) install -q $(EDITABLE) -e .
	@$(COMPILE)
	@touch $@

.venv/dev: pyproject.toml .venv/bin/pip | test-packages
	$(PIP) install -q $(EDITABLE) -e '.[dev]'
	@$(COMPILE)
	@touch .venv/run $@

# A copy of its own, in $(PREFIX)/lib/pytrace: it outlives this checkout. Root builds nothing in here.
install: .venv/run
	rm -rf build .venv/wheel
	$(PIP) wheel -q --no-deps -w .venv/wheel .
	@mkdir -p $(PREFIX) 2>/dev/null; as_root=; [ -w $(PREFIX) ] || as_root=sudo; set -ex; \
	$$as_root /usr/bin/python3 -m venv --system-site-packages --clear $(PREFIX)/lib/pytrace; \
	$$as_root $(PREFIX)/lib/pytrace/bin/python -m pip install -q .venv/wheel/*.whl; \
	$$as_root mkdir -p $(PREFIX)/bin; \
	$$as_root ln -sf ../lib/pytrace/bin/pytrace $(PREFIX)/bin/pytrace

uninstall:
	@mkdir -p $(PREFIX) 2>/dev/null; as_root=; [ -w $(PREFIX) ] || as_root=sudo; set -x; \
	$$as_root rm -rf $(PREFIX)/lib/pytrace $(PREFIX)/bin/pytrace

clean:
	rm -rf .venv .results build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
