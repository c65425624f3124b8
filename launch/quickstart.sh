#!/usr/bin/env bash
# A fresh machine → trained, evaluated and reported: ERM and ALIGN on the embedded benchmark.
# A second call reuses what is there. Arguments go to `align-dist train` (for example seed=1).
set -euo pipefail
cd "$(dirname "$0")/.."
bash launch/install.sh
align=.venv/bin/align-dist
"$align" data prepare configs/quickstart.yaml
for method in erm align; do
  "$align" train configs/quickstart.yaml "method=$method" "$@"
done
"$align" report runs/quickstart --html runs/quickstart/report.html
"$align" report runs/quickstart --gallery runs/quickstart/gallery.png
