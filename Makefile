# make repro VENV=/elsewhere/.venv reuses another clone's environment.
VENV ?= .venv
# Un-activated, `dvc repro` would run the system's python: the environment comes first.
export PATH := $(abspath $(VENV))/bin:$(PATH)
CONFIG ?= params.yaml
REV ?= HEAD
# make repro PORTABLE=1: the same bytes on every x86-64 processor, at about twice the time. Matrix
# products otherwise differ in their last bit between kinds of processors, and training amplifies it.
ifdef PORTABLE
export MKL_CBWR = COMPATIBLE
export ATEN_CPU_CAPABILITY = default
endif

EXPERIMENTS = mnist-fast mnist-small mnist-paper cifar10-small cifar10-fast cifar10-paper tiny-imagenet
# A study has a graph once it was run: elsewhere DVC would list stages without results.
GRAPHS = dvc.yaml $(filter-out experiments/summary/dvc.yaml,$(wildcard experiments/*/dvc.yaml))

.PHONY: help fetch repro claims $(EXPERIMENTS) graph test test-slow lint gate show diff tune score bench bench-pipeline clean

help:
	@echo "make fetch   take trained models and rows out of artifacts/ (seconds)"
	@echo "make repro   reproduce the study on digits (minutes)"
	@echo "make mnist-fast (mnist-small, mnist-paper, cifar10-small, cifar10-fast, cifar10-paper, tiny-imagenet)   another data set"
	@echo "make claims  the ledger, the page and the results in README.md, from the reports of the studies as they are"
	@echo "make graph   write the lists of models in every dvc.yaml from its params.yaml"
	@echo "make test    lint and test; make test-slow runs the tests that take minutes"
	@echo "make gate    say whether committed results are those of the committed code, without their data"
	@echo "make show    a study on a screen (CONFIG=params.yaml); make diff REV=HEAD~1: which headline numbers changed since"
	@echo "make tune    score the hyper-parameter trials of CONFIG=params.yaml on validation images (METHOD=tla: of one method)"
	@echo "make score MODEL=mymodel.py:build   attack your own model as the study's (WEIGHTS, CONFIG, IMAGES, DEVICE, OUT, SAVE=1)"
	@echo "make bench   time attacks and training steps, and how cost grows; make bench-pipeline dvc repro"
	@echo "make clean   remove caches of tools, not results"

# The environment is ready when the marker is newer than requirements.txt.
$(VENV)/.ready: requirements.txt
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

fetch: $(VENV)/.ready
	python stages/artifacts.py
	dvc pull

repro: $(VENV)/.ready
	python stages/graph.py params.yaml
	dvc repro
	@$(MAKE) --no-print-directory claims
	@echo "Done. Open reports/index.html"

# Only these two stages: DVC would otherwise first run every study that it finds changed or without its data.
claims: $(VENV)/.ready
	dvc --cd experiments/summary repro --quiet --single-item claims page
	@python stages/readme.py

# What is stored in artifacts/ is fetched where a stage needs it, not trained again. DVC looks for it
# under the folder that it is called in: here.
$(EXPERIMENTS): $(VENV)/.ready
	python stages/artifacts.py
	python stages/graph.py experiments/$@/params.yaml
	dvc repro --pull --allow-missing experiments/$@/dvc.yaml

graph: $(VENV)/.ready
	python stages/graph.py $(GRAPHS:dvc.yaml=params.yaml)

lint: $(VENV)/.ready
	ruff check .

test: lint
	python -m pytest --numprocesses auto --dist loadfile

test-slow: $(VENV)/.ready
	python -m pytest -m slow

# dvc.lock knows what every result was made from: nothing would run. Needs no data; without them DVC
# stops at the first stage that it would run.
gate: $(VENV)/.ready
	@if dvc repro --all-pipelines --dry --allow-missing > gate.tmp && ! grep "^Running stage" gate.tmp; \
		then echo "Every result is that of this code"; \
		else echo "These results are not of this code: run dvc repro -P and make claims, and commit"; exit 1; fi

show: $(VENV)/.ready
	@python stages/show.py $(CONFIG)

diff: $(VENV)/.ready
	@dvc metrics diff $(REV) --targets reports/*/headline.json reports/claims.json > diff.tmp
	@if test -s diff.tmp; then cat diff.tmp; else echo "No headline number differs from $(REV)"; fi

tune: $(VENV)/.ready
	python stages/tune.py $(CONFIG) $(if $(METHOD),--method $(METHOD))

score: $(VENV)/.ready
	@python stages/score.py --model "$(MODEL)" --study $(CONFIG) $(if $(WEIGHTS),--weights $(WEIGHTS)) \
		$(if $(IMAGES),--images $(IMAGES)) $(if $(DEVICE),--device $(DEVICE)) \
		$(if $(OUT),--out $(OUT)) $(if $(SAVE),--save)

bench: $(VENV)/.ready
	python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-bench.txt
	python tests/benchmarks/machine.py
	python tests/benchmarks/attacks.py
	python tests/benchmarks/training.py
	python tests/benchmarks/growth.py
	python stages/readme.py

bench-pipeline: $(VENV)/.ready
	python tests/benchmarks/pipeline.py

clean:
	rm -rf .pytest_cache .ruff_cache dvc_plots *.tmp
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
