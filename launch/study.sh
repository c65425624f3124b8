#!/usr/bin/env bash
# A study on this machine: every kind of run in a file, over seeds, one process a core, then the table. Says its plan
# first. Runs that are done are passed over, so the same command goes on after an interruption.
#   bash launch/study.sh STUDY "SEED ..." [KEY=VALUE for all ...]
#   bash launch/study.sh configs/studies/methods.txt "0 1 2 3 4"     # with --plan behind it: the plan alone
# A study's file: `config FILE` and `common KEY=VALUE ...` once, then a line of overrides for each kind of run. A line's
# own value counts more than a common one, one of the command line more than both. On Slurm: launch/submit.py STUDY.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n '4,5s/^# *//p' "$0" >&2; exit 2; }
study=$1 seeds=$2 processes=${PROCESSES:-$(nproc)}; shift 2
export OMP_NUM_THREADS=1  # which nproc would take for the number of cores
grid=(.venv/bin/python launch/submit.py "$study" --seeds "${seeds// /,}" --cluster local --max-parallel "$processes"
  --share-warmup --retry data.workers=1 training.threads=1 "$@")
case " $* " in *" --plan "*) exec "${grid[@]}" ;; esac  # it has been asked for the plan alone
"${grid[@]}" --prepare --plan
"${grid[@]}"
"${grid[@]}" --collect
