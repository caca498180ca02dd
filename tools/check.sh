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
snapshot() { find nbs tsae_nb README.md -type f ! -path '*/__pycache__/*' ! -name .last_checked ! -name _modidx.py -print0 | sort -z | xargs -0 sha256sum; }

step "notebooks, library and README say the same"
before=$(snapshot)
nbdev_clean
nbdev_export
python tools/readme.py
diff <(echo "$before") <(snapshot) || { echo "out of step: run 'make sync' and commit what it changed"; exit 1; }

step "ruff; mypy in the background, on one core"
ruff check tsae_nb nbs tests tools setup.py
mypy tsae_nb > "$workplace/types" 2>&1 & types=$!

step "the JavaScript of the views"
node --test --test-reporter=dot tests/js/*.test.mjs
modules=tools/front_end/node_modules
if [ -f "$modules/.package-lock.json" ]; then
    node "$modules/eslint/bin/eslint.js" -c tools/front_end/eslint.config.mjs tsae_nb/views/static tests/js
    for project in tools/front_end/tsconfig*.json; do node "$modules/typescript/bin/tsc" -p "$project"; done
else
    echo "not linted, nor type checked: see the end"
fi

step "every notebook"
status=0
TSAE_PICTURES=0 timeout "$limit" nbdev_test --n_workers "$(getconf _NPROCESSORS_ONLN)" --timing --do_print || status=$?
if [ "$status" = 124 ]; then
    echo "the notebooks were stopped: they took longer than the ${limit} s they are given, as on a slow or busy machine."
    echo "Nothing is known to be wrong. Give them more:  TSAE_TEST_SECONDS=$((3 * limit)) make test"
fi
[ "$status" = 0 ] || exit "$status"

step "what mypy says"
wait "$types" || status=$?
cat "$workplace/types"
[ "$status" = 0 ] || exit "$status"

step "what a notebook cell cannot test"
# in parts, three at a time, as each waits now and then for a command or a browser; whoever is done takes the next: long ones first
parts=() others=(--ignore=tests/test_site.py)
for names in preset ways "commands complete_runs" "planted planted_set matched_set" starts "hub stored" \
    "explorer_browser controls_browser" readme "pretend_gpu reference" "explorer_page views_page" "slurm ranks resume" \
    processes wheel; do
    part=
    for name in $names; do if [ -f "tests/test_$name.py" ]; then part+=" tests/test_$name.py" others+=("--ignore=tests/test_$name.py"); fi; done
    [ -z "$part" ] || parts+=("$part")
done
parts=("${others[*]} tests" ${parts[@]+"${parts[@]}"})
take() {
    local part failed=0
    trap 'kill $(jobs -p) 2> /dev/null; exit 143' TERM
    for part in "${!parts[@]}"; do
        mkdir "$workplace/part$part" 2> /dev/null || continue
        pytest -q -rs --durations=15 ${parts[part]} > "$workplace/part$part/said" 2>&1 &
        wait "$!" || failed=$?
        cat "$workplace/part$part/said"
    done
    return "$failed"
}
takers=()
for _ in 1 2 3; do take & takers+=("$!"); done
for taker in "${takers[@]}"; do wait "$taker" || status=$?; done
cat "$workplace"/part*/said > "$workplace/tests"
[ "$status" = 0 ] || exit "$status"

if [ "$gpus" ] && nvidia-smi -L > /dev/null 2>&1; then
    step "the same preset, and what only a GPU can show, on the GPU"
    if [ "$gpus" = all ]; then unset CUDA_VISIBLE_DEVICES; else CUDA_VISIBLE_DEVICES=$gpus; fi
    grep -rl '"#| cuda' nbs --include='*.ipynb' | while read -r notebook; do
        TSAE_PICTURES=0 nbdev_test --flags cuda --path "$notebook"
    done
    pytest -q tests/test_preset.py
fi

step "how notebooks alternate between definitions and examples (to look at, no gate)"
python tools/rhythm.py

step "what was left out, and why"
grep '^SKIPPED' "$workplace/tests" || echo "no test was skipped"
python tools/flagged.py
[ -f "$modules/.package-lock.json" ] || echo "ESLint and TypeScript: npm ci --prefix tools/front_end installs them, where npm's registry can be reached"
echo "the site: make site-test builds it and looks at it, with packages of its own"
step "done"
