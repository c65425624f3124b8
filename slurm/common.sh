# What the batch scripts share; sourced by them. Here is where a cluster's ways go: modules, a container.

# module load cuda/12.4

# The checkout's own align-dist, or else the one on PATH.
program=(align-dist)
[ ! -x "$SLURM_SUBMIT_DIR/.venv/bin/align-dist" ] || program=("$SLURM_SUBMIT_DIR/.venv/bin/align-dist")
# program=(apptainer exec --nv align_dist.sif align-dist)

# An array's last task has the job id of the whole array, and its name must not mean the others too.
job=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID

say() { printf '%s: %s\n' "${SLURM_JOB_NAME:-align-dist}" "$*" >&2; }

# train CONFIG [KEY=VALUE...]: one task for each device, no torchrun; ends the script with the tasks' exit code.
# 75, saved before its end: the job is requeued and goes on, unless somebody has cancelled it.
train() {
  local status=0
  tell_end
  # On scancel this shell is told too, and is to outlive its tasks, which save; Slurm waits KillWait for all of them.
  trap : TERM
  # A signal that comes while Python still imports would kill: it is ignored until align-dist listens.
  srun --export=ALL --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
    bash -c 'trap "" USR2; exec "$@"' task "${program[@]}" train "$@" || status=$?
  [ "$status" -ne 75 ] || requeue
  exit "$status"
}

# Older Slurms do not tell a job its end, at which align-dist saves `distributed.grace` seconds early.
tell_end() {
  local end
  end=$(SLURM_TIME_FORMAT=standard squeue --noheader --jobs="$job" --format=%e) || end=''
  [[ $end =~ ^[0-9]{4}- ]] && end=$(date --date="$end" +%s) || end=''
  export SLURM_JOB_END_TIME=$end
}

requeue() {
  local state
  state=$(squeue --noheader --jobs="$job" --format=%T)
  if [ "$state" != RUNNING ]; then
    say "saved; not requeued, the job being ${state:-gone}: the same sbatch goes on"
    return
  fi
  say "saved; asks to be requeued"
  scontrol requeue "$job" || say "Slurm does not requeue job $job: the same sbatch goes on"
}
