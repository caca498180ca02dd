# Two commands do the work: `make reproduce` runs the whole chain and draws the figures, `make test` checks everything.
# Both make their own environment in .venv on first use, and reuse it afterwards.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN    := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.PHONY: help environment reproduce reproduce-full reproduce-planted reproduce-matched gemma gemma-ablations figures test quick-test soak mutants reference gpu-rehearsal lab site site-test sync clean

help:
	@echo "make reproduce       the whole chain on the embedded model, then Figures 1, 2 and 4; whether time helps, in small"
	@echo "make reproduce-full  the same with three seeds, and the ablations (an hour or two)"
	@echo "make gemma           the paper's setting: google/gemma-2-2b on one GPU, then Figures 1, 2 and 4 (README: what it needs)"
	@echo "make gemma-ablations the paper's ablations in that setting"
	@echo "make test            the checks: notebooks in step with the library, lint, types, every notebook, the browser"
	@echo "                     (it says at its end what was left out and why; CONTRIBUTING says what it wants)"
	@echo "make quick-test      whether another Python will do: five notebooks and the names of the library (PYTHON=python3.13 chooses it)"
	@echo "make soak            the long checks: runs killed at random moments, and the like (an hour or two; result in runs/reference)"
	@echo "make mutants         one change at a time in exported code, and who notices (hours; table in runs/reference)"
	@echo "make reference       the committed results anew, of the current commit: runs, claims, figures, README (hours; goes on where it stopped)"
	@echo "make reproduce-planted  what methods find in planted worlds: the table, and Figure 3 (8 hours on a core; goes on where it stopped)"
	@echo "make reproduce-matched  methods at equal sparsity: on the language model, and in planted worlds (6 hours on a core; goes on where it stopped)"
	@echo "make gpu-rehearsal   what the paper's setting costs on this machine's GPU (minutes; result in runs/reference)"
	@echo "make lab             JupyterLab on the notebooks to explore"
	@echo "make site            the notebooks, and all modules, as a site in _site (wants npm, for what draws equations)"
	@echo "make site-test       that site in a browser: equations, figures, links, search, and no request to elsewhere"
	@echo "make sync            after editing notebooks: clean, export, render the README"

# The stamp depends on what decides the environment. torch comes first, pinned, so that nothing else chooses its build.
# Without a GPU:  make environment TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
.venv/.installed: constraints.txt pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	@echo "environment, 1 of 2: torch, by far the largest part"
	$(BIN)/python -m pip install --no-compile $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	@echo "environment, 2 of 2: everything else, a minute or more"
	$(BIN)/python -m pip install --no-compile -c constraints.txt -e '.[dev]'
	@touch $@
	@du -sh .venv

# What lints and type checks the views' JavaScript, from npm (47 MB). Where npm's registry cannot be reached, tests go on and say so.
JS_CHECKS := tools/front_end/node_modules/.package-lock.json
$(JS_CHECKS): .venv/.installed tools/front_end/package-lock.json
	@echo "ESLint and TypeScript, from npm"
	@npm ci --prefix tools/front_end --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=60000 || echo \
	"npm cannot install them, so the views' JavaScript will be tried, but not linted or type checked; the next make test tries again"
	@if [ -f $@ ]; then touch $@; fi

environment: .venv/.installed

reproduce: environment
	tsae sweep runs/tiny.yaml --processes 2
	tsae figures runs/tiny
	tsae run runs/planted-small.yaml
	tsae list runs/planted-small

reproduce-full: environment
	tsae sweep runs/tiny.yaml --seeds 0,1,2 --processes 2
	tsae sweep runs/ablations.yaml --seeds 0,1,2 --processes 2
	tsae figures runs/tiny
	papermill nbs/experiments/claims.ipynb runs/claims.ipynb -k python3 --cwd . -p root runs --no-progress-bar

gemma: environment
	tsae run runs/gemma-2-2b.yaml
	tsae figures runs/gemma-2-2b

gemma-ablations: environment
	tsae run runs/gemma-ablations.yaml
	tsae figures runs/gemma-ablations

figures: environment
	tsae figures runs/tiny

test: environment $(JS_CHECKS)
	bash tools/check.sh

QUICK := tutorial 00_config components/10_sparse_code 20_sae 51_cli
quick-test: environment
	for notebook in $(QUICK); do nbdev_test --path nbs/$$notebook.ipynb || exit 1; done
	pytest -q tests/test_names.py

soak: environment
	TSAE_SOAK=1 pytest -q tests/test_processes.py tests/test_odd_inputs.py
	python tools/soak.py
	python tools/draws.py

mutants: environment
	python tools/mutants.py

reference: environment
	python tools/reference.py

reproduce-planted: environment
	python tools/planted_set.py

reproduce-matched: environment
	python tools/matched_set.py
	python tools/planted_set.py --parts "L0 8" "L0 16" "L0 32"

gpu-rehearsal: environment
	python tools/gpu_rehearsal.py

lab: environment
	tsae lab

# What the site needs beyond the environment: 84 MB from PyPI, 5 MB from npm, both pinned.
.venv/.site: .venv/.installed tools/site_assets/package-lock.json
	$(BIN)/python -m pip install -c constraints.txt -e '.[site]'
	npm ci --prefix tools/site_assets --ignore-scripts --no-audit --no-fund
	@touch $@

site: .venv/.site
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

site-test: site
	pytest -q tests/test_site.py

sync: environment
	nbdev_clean
	nbdev_export
	python tools/readme.py

clean:
	rm -rf runs/cache .pytest_cache .mypy_cache .ruff_cache
