#!/usr/bin/env bash
# ERM, ALIGN and ALIGN's controls on the embedded benchmark: the table that shows whether a gain is the mask's.
#   bash launch/controls.sh [SEEDS]      default: 5
set -euo pipefail
cd "$(dirname "$0")/.."
config=configs/quickstart.yaml
# constant_0.15: the learned masks' mean area everywhere, no picture in it at all. constant_0: attribute nothing.
variants=(
  "method=align"
  "method=erm"
  "method=fixed_mask fixed_mask.mask=constant fixed_mask.constant=0.15 variant=constant_0.15"
  "method=fixed_mask fixed_mask.mask=constant fixed_mask.constant=0.0 variant=constant_0"
  "method=fixed_mask fixed_mask.mask=given variant=true_mask"
  "method=fixed_mask fixed_mask.mask=constant fixed_mask.constant=1.0 variant=ones"
  "method=fixed_mask fixed_mask.mask=grey variant=grey"
)
.venv/bin/align-dist data prepare "$config"
for seed in $(seq 0 $((${1:-5} - 1))); do
  printf "%s seed=$seed\n" "${variants[@]}"
done | bash launch/many.sh "$config" experiment=controls
.venv/bin/align-dist report runs/controls --html runs/controls/report.html
