# Plain python3 (3.11 or newer, with venv) and make are all that a fresh machine needs.
PYTHON ?= python3
RUN ?= runs/demo
BIN := .venv/bin

.PHONY: setup demo test test-core test-ray lint lock clean

# Bytecode is compiled here: where Python cannot keep it later, every worker would compile torch and transformers anew at each start.
setup: .venv/.installed

.venv/.installed: requirements.lock requirements-bootstrap.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: setup  ## the main job on the embedded default: corpus, detector, model, bench, service
	$(BIN)/cg run --preset tiny --run $(RUN)

test: setup lint  ## the linters and the whole suite, in two halves side by side that take about as long: most tests that start Ray, and the others
	$(MAKE) --no-print-directory --jobs=2 test-core test-ray

test-core: setup
	$(BIN)/python -m pytest -m "not cluster"
	$(BIN)/python -m pytest -m cluster tests/cluster

test-ray: setup
	$(BIN)/python -m pytest -m cluster --ignore tests/cluster

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock:  ## resolve anew; lock files carry hashes and no addresses
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade -o requirements.lock
	echo uv | $(BIN)/uv pip compile - --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade -o requirements-bootstrap.lock

clean:
	rm -rf .venv runs *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
