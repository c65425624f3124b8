#!/usr/bin/env bash
# ERM against ALIGN, over source domains and seeds.
#   bash launch/compare.sh CONFIG SEEDS "SOURCE SOURCE ..." [KEY=VALUE ...]
#   bash launch/compare.sh configs/pacs.yaml 3 "photo art_painting" benchmark.root=/data/pacs
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 3 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
config=$1 seeds=$2 sources=$3; shift 3
.venv/bin/align-dist data prepare "$config" "$@"
for seed in $(seq 0 $((seeds - 1))); do for source in $sources; do
  printf "method=%s protocol.source=$source seed=$seed\n" erm align
done; done | bash launch/many.sh "$config" "$@"
experiment=$(.venv/bin/align-dist train "$config" "$@" --print-config | sed -n 's/^experiment: //p')
.venv/bin/align-dist report "runs/$experiment" --html "runs/$experiment/report.html"
