#!/usr/bin/env bash
# Runs of one config, a line of overrides each on standard input, one process a core. Runs that are done are skipped,
# so the same command goes on after an interruption; runs that agree on their warm-up share it.
#   printf '%s\n' 'method=erm seed=0' 'method=align seed=0' | bash launch/many.sh CONFIG [KEY=VALUE for all ...]
set -euo pipefail
cd "$(dirname "$0")/.."
processes=${PROCESSES:-$(nproc)}
export OMP_NUM_THREADS=1  # which nproc would take for the number of cores
xargs -P "$processes" -I{} sh -c '
  line=$1 config=$2; shift 2
  exec .venv/bin/align-dist train "$config" $line --share-warmup data.workers=1 training.threads=1 "$@"' sh {} "$@"
