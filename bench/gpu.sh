#!/usr/bin/env bash
# What an accelerator does with the engine, in at most eight minutes: tests, throughput over
# chunk widths, a wide network beside plain vmap(train), the paper. Writes reports/bench/gpu.md.
#
#   bench/gpu.sh [PYTHON]     an interpreter that has JAX for the device; python3 by default
#   WHEELS=folder             where wheels of missing packages lie; nothing is fetched
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${1:-python3}
OUT=${OUT:-reports/bench}
site=$(mktemp -d)
export PYTHONPATH="$PWD:$site" PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
install() { "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$site" "$@"; }

for package in tomli_w hypothesis xdist pytest_benchmark; do
    "$PYTHON" -c "import $package" 2>/dev/null && continue
    install "${WHEELS:-.}"/"${package}"-*.whl || echo "missing: $package"
done
# The package's own metadata, which say its version in every result.
install --no-build-isolation . || { echo "the package could not be installed"; exit 1; }
rm -rf "$site/scaling_study" build ./*.egg-info  # the checkout is what is imported

"$PYTHON" -c 'import jax; print(jax.__version__, jax.devices())'
if [ "${TESTS:-1}" = 1 ]; then
    JAX_ENABLE_COMPILATION_CACHE=false timeout -s INT 200 "$PYTHON" -m pytest -m "not slow" -o addopts= \
        --benchmark-disable -vv --tb=short -n "${WORKERS:-14}" --dist=loadfile -W default tests/engine \
        >"$OUT/gpu-tests.txt" 2>&1 || true
    grep -c PASSED "$OUT/gpu-tests.txt" || true
    grep FAILED "$OUT/gpu-tests.txt" | sort -u | head -60 || true
fi
"$PYTHON" bench/gpu.py "$OUT" "${@:2}"
