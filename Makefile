# Each of these sets the environment up first (a no-op when it is up to date).
#   make demo    reconstruct real photographs; writes runs/demo/report.html
#   make test    the tests          make test-slow   those that take minutes
#   make test-matrix   the tests under other versions and processors, by hand (benchmarks/versions.py)
#   make lint    ruff               make types       ty, part of lint
#   make bench   speed and memory beside other libraries, in .venv-bench
#   make bench-amortized   posteriors beside sbi, in cells that continue (ARGS="sbibm --task slcp")
#   make bench-posterior   proofs of the sampler of posteriors, in parts that continue (ARGS="--only sbc")
#   make bench-guard   is it still faster than a textbook version of the same flows?
#   make docs    the site, with all pictures, in docs/_build/html    make docs-quick   without running the gallery
#   make release what is published, in dist/, checked in each Python that is here (SIGN=KEY signs it)
#   make lock    renew the lock files (make lock UPGRADE=--upgrade for newer versions)
SHELL := bash
JOBS ?= 2
ARGS ?=
PY := .venv/bin/python
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: setup demo test test-slow test-asan test-matrix lint format types bench bench-quick bench-setup bench-guard bench-amortized bench-posterior docs docs-quick lock release clean

setup:
	@./setup.sh

demo: setup
	.venv/bin/innverse demo $(ARGS)

test: setup
	$(THREADS) $(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-slow: setup
	$(THREADS) $(PY) -m pytest -n $(JOBS) --dist worksteal -m slow $(ARGS)

test-matrix: setup
	$(PY) benchmarks/versions.py $(ARGS)

# The kernels' tests with a compiler that watches every access to memory; minutes
test-asan: setup
	XDG_CACHE_HOME=$(CURDIR)/build/asan INNVERSE_NATIVE_FLAGS="-fsanitize=address -fno-omit-frame-pointer" \
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$$(g++ -print-file-name=libasan.so) $(THREADS) \
	$(PY) -m pytest -p no:cacheprovider tests/accelerate/test_native.py $(ARGS)

lint: setup types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

types: setup
	.venv/bin/ty check src

bench-setup:
	@./setup.sh bench

BENCHMARKS := step bf16 vectors memory inverse_loop peak

bench: setup bench-setup
	for name in $(BENCHMARKS); do .venv-bench/bin/python benchmarks/$$name.py $(ARGS) || exit 1; done
	$(PY) benchmarks/startup.py $(ARGS)
	$(PY) benchmarks/speed.py

bench-quick: bench-setup
	for name in $(BENCHMARKS); do .venv-bench/bin/python benchmarks/$$name.py --quick $(ARGS) || exit 1; done

bench-amortized: bench-setup
	.venv-bench/bin/python benchmarks/amortized.py $(ARGS)

bench-posterior: setup
	$(PY) benchmarks/posterior.py $(ARGS)

bench-guard: setup
	$(PY) benchmarks/guard.py

SPHINX = $(THREADS) $(PY) -m sphinx -q -W --keep-going -b html docs

docs: setup
	rm -rf docs/_build/html
	$(SPHINX) docs/_build/html
	$(PY) docs/check_links.py docs/_build/html

docs-quick: setup
	rm -rf docs/_build/quick
	INNVERSE_DOCS_GALLERY=0 $(SPHINX) docs/_build/quick
	$(PY) docs/check_links.py docs/_build/quick

LOCK := .venv/bin/uv --config-file requirements/uv.toml pip compile --quiet --universal \
	--python-version 3.11 --constraint requirements/torch.txt --no-emit-package torch --generate-hashes \
	--custom-compile-command "make lock" $(UPGRADE)

lock: setup
	@test -x .venv/bin/uv || $(PY) -m pip install --quiet uv
	$(LOCK) pyproject.toml --extra dev --output-file requirements/dev.lock
	$(LOCK) pyproject.toml benchmarks/peers.in --output-file benchmarks/peers.lock
	$(LOCK) --constraint requirements/dev.lock pyproject.toml requirements/serve.in --extra web \
		--output-file requirements/serve.lock

release: setup
	$(PY) release/release.py $(if $(SIGN),--sign "$(SIGN)") $(ARGS)

clean:
	rm -rf .venv .venv-bench .venv-matrix docs/_build docs/gallery docs/reference docs/benchmarks build dist .pytest_cache .ruff_cache .hypothesis
