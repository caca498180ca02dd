#!/usr/bin/env bash
# Everything `make test` checks, in the order in which a mistake is cheapest to find.
# TSAE_TEST_SECONDS: how long all notebooks together may take (default: 1200)
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
gpus=${CUDA_VISIBLE_DEVICES-all}
export CUDA_VISIBLE_DEVICES=  # tests compare bits, which a GPU's sums do not give
limit=${TSAE_TEST_SECONDS:-1200}
workplace=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; rm -rf "$workplace"' EXIT
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
ruff check tsae_nb nbs tests tools setup.py
mypy tsae_nb

step "every notebook"
status=0
TSAE_PICTURES=0 timeout "$limit" nbdev_test --n_workers "$(getconf _NPROCESSORS_ONLN)" --timing --do_print || status=$?
if [ "$status" = 124 ]; then
    echo "the notebooks were stopped: they took longer than the ${limit} s they are given, as on a slow or busy machine."
    echo "Nothing is known to be wrong. Give them more:  TSAE_TEST_SECONDS=$((3 * limit)) make test"
fi
[ "$status" = 0 ] || exit "$status"

step "what a notebook cell cannot test"
# those that run whole commands for minutes, on one core, run beside the others
long=() others=()
for name in preset starts ways readme; do
    if [ -f "tests/test_$name.py" ]; then long+=("tests/test_$name.py") others+=("--ignore=tests/test_$name.py"); fi
done
beside=
if [ "${long[*]}" ]; then
    pytest -q -rs --durations=5 "${long[@]}" > "$workplace/beside" 2>&1 &
    beside=$!
fi
pytest -q -rs --durations=5 ${others[@]+"${others[@]}"} tests | tee "$workplace/tests" || status=$?
if [ "$beside" ]; then
    wait "$beside" || status=$?
    tee -a "$workplace/tests" < "$workplace/beside"
fi
[ "$status" = 0 ] || exit "$status"

if [ "$gpus" ] && nvidia-smi -L > /dev/null 2>&1; then
    step "the same preset, and what only a GPU can show, on the GPU"
    if [ "$gpus" = all ]; then unset CUDA_VISIBLE_DEVICES; else CUDA_VISIBLE_DEVICES=$gpus; fi
    grep -rl '"#| cuda' nbs --include='*.ipynb' | while read -r notebook; do
        TSAE_PICTURES=0 nbdev_test --flags cuda --path "$notebook"
    done
    pytest -q tests/test_preset.py
fi

step "what was left out, and why"
grep '^SKIPPED' "$workplace/tests" || echo "no test was skipped"
python tools/flagged.py
step "done"
