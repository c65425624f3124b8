#!/usr/bin/env bash
# ERM, ALIGN and ALIGN's controls over seeds: the table that shows whether a gain is the mask's.
# One process a core; runs that are done are skipped, so the same command goes on after an interruption.
#   bash launch/controls.sh [CONFIG] [SEEDS] [KEY=VALUE ...]      default: configs/quickstart.yaml 5
set -euo pipefail
cd "$(dirname "$0")/.."
config=${1:-configs/quickstart.yaml} seeds=${2:-5}
shift $(( $# < 2 ? $# : 2 ))
align=.venv/bin/align-dist
# The learned masks' mean area: the constant control gets the same, so that only the picture is missing from it.
area=${AREA:-0.20}
variants=(
  "method=erm"
  "method=align"
  "method=fixed_mask objective.fixed_mask=constant objective.constant=$area variant=constant_$area"
  "method=fixed_mask objective.fixed_mask=constant objective.constant=1.0 variant=ones"
  "method=fixed_mask objective.fixed_mask=grey variant=grey"
  "method=fixed_mask objective.fixed_mask=given variant=true_mask"
)
"$align" data prepare "$config" "$@"
for seed in $(seq 0 $((seeds - 1))); do
  for variant in "${variants[@]}"; do
    printf '%s\n' "$variant seed=$seed"
  done
done | OMP_NUM_THREADS=1 xargs -P "$(nproc)" -I{} sh -c '
  align=$1 config=$2 line=$3; shift 3
  exec "$align" train "$config" $line data.workers=1 training.threads=1 "$@"' sh "$align" "$config" {} experiment=controls "$@"
"$align" report runs/controls --html runs/controls/report.html
