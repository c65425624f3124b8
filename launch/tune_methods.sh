#!/usr/bin/env bash
# The same search for several methods, one after another, each below an experiment of its own: <experiment>/<method>. A
# search that is done is passed over, so the same command resumes.
#   bash launch/tune_methods.sh SEARCH "METHOD ..." [KEY=VALUE of the base run ...]
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n '4s/^# *//p' "$0" >&2; exit 2; }
search=$1 methods=$2; shift 2
[ -r "$search" ] || { echo "tune_methods: $search: no such file; configs/search/ has some" >&2; exit 2; }
experiment=$(.venv/bin/python -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))["experiment"])' "$search")
for method in $methods; do
  echo "== $method"
  .venv/bin/python launch/tune.py "$search" --experiment "$experiment/$method" "method=$method" "$@"
done
