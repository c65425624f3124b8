#!/usr/bin/env bash
# A study: every line of a file of runs, over seeds, one process a core, then the report. Says its plan first. Runs that
# are done are skipped, so the same command goes on after an interruption.
#   bash launch/study.sh STUDY "SEED ..." [KEY=VALUE for all ...]
#   bash launch/study.sh configs/studies/controls.txt "0 1 2 3 4"
# A study's file: `config FILE` and `common KEY=VALUE ...` once, then a line of overrides for each kind of run.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n '4,6s/^# *//p' "$0" >&2; exit 2; }
study=$1 seeds=$2; shift 2
[ -r "$study" ] || { echo "study: $study: no such file; configs/studies/ has some" >&2; exit 2; }
config=$(sed -n 's/^config //p' "$study")
read -ra common <<< "$(sed -n 's/^common //p' "$study")"
mapfile -t kinds < <(grep -Ev '^(#|config |common |[[:space:]]*$)' "$study")
[ -n "$config" ] && [ "${#kinds[@]}" -gt 0 ] || { echo "study: $study: expected a config line and lines of overrides" >&2; exit 2; }

echo "study: ${#kinds[@]} kinds of run of $config, seeds $seeds, ${common[*]} $*:"
printf '  %s\n' "${kinds[@]}"

# Of every benchmark that a line asks for.
printf '%s\n' "${kinds[@]}" | { grep -o 'benchmark\.[^ ]*\( benchmark\.[^ ]*\)*' || echo; } | sort -u | while read -ra benchmark; do
  .venv/bin/align-dist data prepare "$config" ${common[@]+"${common[@]}"} ${benchmark[@]+"${benchmark[@]}"} "$@"
done
for seed in $seeds; do printf "%s seed=$seed\n" "${kinds[@]}"; done | bash launch/many.sh "$config" ${common[@]+"${common[@]}"} "$@"
