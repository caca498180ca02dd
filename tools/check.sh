#!/usr/bin/env bash
# Everything `make test` checks, in the order in which a mistake is cheapest to find
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
workplace=$(mktemp -d)
trap 'rm -rf "$workplace"' EXIT
export JUPYTER_CONFIG_DIR="$workplace/config" JUPYTER_DATA_DIR="$workplace/data" IPYTHONDIR="$workplace/ipython"
step() { printf '\n== %s (after %ss)\n' "$*" "$SECONDS"; }
snapshot() { find nbs tsae_nb README.md -type f ! -path '*/__pycache__/*' ! -name .last_checked -print0 | sort -z | xargs -0 sha256sum; }

step "notebooks, library and README say the same"
before=$(snapshot)
nbdev_clean
nbdev_export
python tools/readme.py
diff <(echo "$before") <(snapshot) || { echo "out of step: run 'make sync' and commit what it changed"; exit 1; }

step "ruff and mypy"
ruff check tsae_nb nbs tests tools
mypy tsae_nb

step "every notebook"
TSAE_PICTURES=0 timeout 1200 nbdev_test --n_workers "$(getconf _NPROCESSORS_ONLN)" --timing --do_print

step "what a notebook cell cannot test"
pytest -q --durations=5 tests
step "done"
