#!/usr/bin/env bash
# A study: every kind of run in a file, over seeds, one process a core, then the table. Says its plan first. Runs that
# are done are passed over, so the same command goes on after an interruption.
#   bash launch/study.sh STUDY "SEED ..." [KEY=VALUE for all ...]
#   bash launch/study.sh configs/studies/methods.txt "0 1 2 3 4"
# A study's file: `config FILE` and `common KEY=VALUE ...` once, then a line of overrides for each kind of run. A line's
# own value counts more than a common one, one of the command line more than both.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n '4,5s/^# *//p' "$0" >&2; exit 2; }
study=$1 seeds=$2; shift 2
[ -r "$study" ] || { echo "study: $study: no such file; configs/studies/ has some" >&2; exit 2; }
config=$(sed -n 's/^config //p' "$study") common=$(sed -n 's/^common //p' "$study")
mapfile -t kinds < <(grep -Ev '^(#|config |common |[[:space:]]*$)' "$study")
[ -n "$config" ] && [ "${#kinds[@]}" -gt 0 ] || {
  echo "study: $study: expected a line 'config FILE' and lines of overrides" >&2; exit 2; }

echo "study: ${#kinds[@]} kinds of run of $config, seeds $seeds, all with: $common $*"
printf '  %s\n' "${kinds[@]}"

# Every benchmark that a line asks for, once.
for kind in "${kinds[@]}"; do
  for word in $common $kind; do case $word in benchmark.*) printf '%s ' "$word" ;; esac; done
  echo
done | sort -u | while read -r benchmark; do
  # shellcheck disable=SC2086
  .venv/bin/align-dist data prepare "$config" $benchmark "$@" </dev/null
done
# All seeds of a kind, then the next kind: no two that run at once wait for the same warm-up.
for kind in "${kinds[@]}"; do printf "$common $kind seed=%s\n" $seeds; done | bash launch/many.sh "$config" "$@"
# shellcheck disable=SC2086
runs=$(.venv/bin/align-dist train "$config" $common ${kinds[0]} "$@" --print-config |
  awk '/^runs: /{runs=$2} /^experiment: /{name=$2} END{print runs "/" name}')
.venv/bin/align-dist report "$runs" || echo "study: one table has no place for them all; see the head of $study" >&2
