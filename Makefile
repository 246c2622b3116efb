# Two words run everything: `make demo` (the floor alone, in .venv) and `make test` (everything, in .venv-dev).
PYTHON ?= python3
PIP = pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint types suite soak wheel clean

demo: .venv/ready
	.venv/bin/sayso understand examples/*.flac
	@echo
	@echo "Next: .venv/bin/sayso understand YOUR.wav | .venv/bin/pip install '.[mic]' && .venv/bin/sayso listen | write a domain.yaml (docs/domain_file.md) and 'sayso build' it"

test: lint types suite

lint: .venv-dev/ready
	.venv-dev/bin/ruff check src tests benchmarks

types: .venv-dev/ready
	.venv-dev/bin/mypy

suite: .venv-dev/ready
	.venv-dev/bin/python -m pytest -n 2 --dist worksteal

# what takes long: the service under ten thousand utterances (SAYSO_SOAK=NUMBER for fewer)
soak: .venv-dev/ready
	.venv-dev/bin/python -m pytest -m soak tests/serving

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Sayso needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	.venv/bin/$(PIP) --editable .
	@touch $@

.venv-dev/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Sayso needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv-dev
	.venv-dev/bin/$(PIP) torch==2.13.0
	.venv-dev/bin/$(PIP) --editable '.[dev]'
	@touch $@

wheel: .venv-dev/ready
	.venv-dev/bin/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv .venv-dev dist build
