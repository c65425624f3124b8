#!/usr/bin/env bash
# A real Slurm cluster of N virtual nodes on this one machine, for tests. Needs root (Linux namespaces) and Debian.
#
#   local_cluster.sh install                        the Debian packages that are missing
#   local_cluster.sh start [--nodes N] [--dir DIR]  then: export SLURM_CONF=DIR/slurm.conf
#   local_cluster.sh stop | status [--dir DIR]      status: exit code 0 all runs, 1 some of it, 3 nothing
#   local_cluster.sh exec [--dir DIR] COMMAND...    as on a login node: srun works and the nodes' names resolve
#   local_cluster.sh node-kill | node-start NODE [--dir DIR]      a power failure of node1, node2, …, and its end
#
# DIR holds all state; stop before deleting it (mount points lie in it). Partitions: main, and high, which preempts low.
# The controller and each node have a UTS namespace, thus a host name, and an /etc/hosts of their own in which these
# names are the loopback; all sockets are on it. A namespace also tells for certain whose process is whose.
set -euo pipefail
shopt -s nullglob

packages=(slurmctld slurmd slurm-client slurmdbd munge mariadb-server-core mariadb-client-core)
programs=(slurmctld slurmd sbatch slurmdbd munged mariadbd mariadb-install-db my_print_defaults unshare nsenter)
controller=slurmhead

say() { echo "local_cluster: $*" >&2; }
fail() { say "$*"; exit 1; }
usage() { sed -n '2,/^set/ { s/^# \{0,1\}//p }' "$0" >&2; exit 2; }

verb=${1:-}; shift || usage
dir=${TMPDIR:-/tmp}/slurm-local nodes=2 words=()
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=${2:?--dir needs a folder}; shift 2 ;;
    --nodes) nodes=${2:?--nodes needs a number}; shift 2 ;;
    *) words+=("$1"); shift; [ "$verb" != exec ] || { words+=("$@"); break; } ;;
  esac
done
dir=$(realpath -m -- "$dir")
conf=$dir/slurm.conf log=$dir/log namespaces=$dir/ns
export SLURM_CONF=$conf

check_arguments() {
  [ "$(id -u)" = 0 ] || fail "needs root, for namespaces and Slurm's daemons; run it with sudo"
  [[ $nodes =~ ^[1-9][0-9]?$ && $nodes -le 64 ]] || fail "--nodes: takes 1 to 64, got $nodes"
  [[ $dir =~ ^/[A-Za-z0-9._/+-]+$ ]] || fail "--dir: may hold letters, digits and ._+-/ only, got $dir"
  [ ${#dir} -le 64 ] || fail "--dir: at most 64 characters (Unix sockets lie below it), got ${#dir}: $dir"
}

# ---------------------------------------------------------------- hosts: namespaces and the processes in them
is_host() { [ "$(stat -f -c %T "$namespaces/$1" 2>/dev/null)" = nsfs ]; }
make_host() {
  is_host "$1" && return
  mkdir -p "$namespaces"; : >"$namespaces/$1"
  unshare --uts="$namespaces/$1" hostname "$1" || fail "this root may make no namespaces (CAP_SYS_ADMIN is missing)"
}
drop_host() { ! is_host "$1" || umount "$namespaces/$1"; rm -f "$namespaces/$1"; }
on_host() {  # HOST COMMAND...: becomes COMMAND there
  local host=$1; shift
  exec nsenter --uts="$namespaces/$host" unshare --mount --propagation slave \
    bash -c 'mount --bind "$0" /etc/hosts && exec "$@"' "$dir/hosts" "$@"
}
pids_on() {  # HOST: the living; a zombie has no namespace
  is_host "$1" || return 0
  stat -L -c '%i %n' /proc/[0-9]*/ns/uts 2>/dev/null |
    awk -v host="$(stat -L -c %i "$namespaces/$1")" '$1 == host { split($2, part, "/"); print part[3] }' || true
}
pid_of() {  # HOST DAEMON: the parent, where slurmd has just forked
  local pid
  for pid in $(pids_on "$1" | sort -n); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$2" ] || { echo "$pid"; return; }
  done
  return 1
}
launch() {  # HOST DAEMON OPTION...: clean environment, own session
  local host=$1 daemon=$2
  ! pid_of "$host" "$daemon" >/dev/null || return 0
  shift
  (on_host "$host" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 SLURM_CONF="$conf" setsid "$@") \
    </dev/null >>"$log/$daemon-$host.out" 2>&1 9>&- &
}
wait_for() {  # WHAT COMMAND...: until it succeeds, 40 s
  local what=$1 i; shift
  for i in {1..800}; do ! "$@" >/dev/null 2>&1 || return 0; sleep 0.05; done
  fail "$what did not come up; logs: $log"
}
end() {  # HOST DAEMON: asked, and made to after 10 s
  local pid i
  pid=$(pid_of "$1" "$2") || return 0
  kill -TERM "$pid" 2>/dev/null || true
  for i in {1..200}; do pid_of "$1" "$2" >/dev/null || return 0; sleep 0.05; done
  kill -KILL "$pid" 2>/dev/null || true
}
kill_host() {  # all that runs there, until nothing is left
  local pids i
  for i in {1..40}; do
    pids=$(pids_on "$1"); [ -n "$pids" ] || return 0
    kill -KILL $pids 2>/dev/null || true; sleep 0.05
  done
}

# ---------------------------------------------------------------- configuration
listening() {  # FIRST LAST: does anything listen on a TCP port of that range?
  local port
  for port in $(awk '$4 == "0A" { sub(/.*:/, "", $2); print $2 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null); do
    ((16#$port < $1 || 16#$port > $2)) || return 0
  done
  return 1
}
configure() {
  local base i password
  for ((base = 17000; base < 19900; base += 100)); do listening "$base" $((base + 99)) || break; done
  rm -rf "$dir"/{state,spool,log,db,munge,slurm.conf}
  mkdir -p "$dir"/{state,spool,log,db,munge}
  (umask 077; head -c 128 /dev/urandom >"$dir/munge/key")
  password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  { cat /etc/hosts; for i in "$controller" $(seq -f node%g "$nodes"); do echo "127.0.0.1 $i"; done; } >"$dir/hosts"
  (umask 077; write_accounting "$base" "$password")
  { write_slurm "$base"
    for ((i = 1; i <= nodes; i++)); do
      echo "NodeName=node$i NodeHostname=node$i NodeAddr=127.0.0.1 Port=$((base + i)) CPUs=8 RealMemory=64000"
    done
    echo "PartitionName=main Nodes=ALL Default=YES DefaultTime=60 PriorityTier=10 PreemptMode=OFF"
    echo "PartitionName=low Nodes=ALL DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20"
    echo "PartitionName=high Nodes=ALL DefaultTime=60 PriorityTier=20 PreemptMode=OFF"
  } >"$conf"
}
write_slurm() {  # the first port
  cat <<CONF
ClusterName=local
SlurmctldHost=$controller(127.0.0.1)
SlurmctldPort=$1
SlurmUser=root
SlurmdUser=root
# A requeued job waits until its credential has expired: 120 s by default.
AuthInfo=socket=$dir/munge/socket,cred_expire=5
# Bind to the host name's address, which is the loopback, not to 0.0.0.0.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$log/slurmctld.log
SlurmdLogFile=$log/slurmd-%n.log
MailProg=/bin/true
# Job ids go on over a new start: files named by job id would be taken for another job's.
FirstJobId=$((EPOCHSECONDS % 50000000 + 1))
# No cgroups: limits of memory and CPUs are counted, not enforced.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
# What nodes claim to have is believed: all of them share this machine.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=1,sched_interval=2,sched_min_interval=100000,bf_interval=2
JobRequeue=1
MinJobAge=3600
# A silent node is down after about twice this; one that reboots sooner (slurmd -b) at once, if this returns only
# such nodes to service as were down for being silent.
SlurmdTimeout=10
ReturnToService=1
# A preempted job gets the signal of its --signal at once, GraceTime later it is requeued.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$(($1 + 91))
# No password: munge's socket again.
AccountingStoragePass=$dir/munge/socket
CONF
}
write_accounting() {  # the first port, the database's password: known to this cluster only
  cat >"$dir/slurmdbd.conf" <<CONF
AuthInfo=socket=$dir/munge/socket
DbdHost=$controller
DbdAddr=127.0.0.1
DbdPort=$(($1 + 91))
SlurmUser=root
LogFile=$log/slurmdbd.log
PidFile=$dir/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$(($1 + 90))
StorageUser=slurm
StoragePass=$2
StorageLoc=slurm
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
CONF
  cat >"$dir/database.sql" <<SQL
CREATE DATABASE IF NOT EXISTS slurm;
CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY '$2';
GRANT ALL ON slurm.* TO 'slurm'@'127.0.0.1';
SQL
}

# ---------------------------------------------------------------- verbs
daemons() {  # lines of HOST DAEMON
  [ -s "$conf" ] || return 0
  printf "$controller %s\n" munged mariadbd slurmdbd slurmctld
  sed -n 's/^NodeName=\([^ ]*\) .*/\1 slurmd/p' "$conf"
}
hosts() { daemons | cut -d' ' -f1 | uniq; }
running() { daemons | while read -r host daemon; do ! pid_of "$host" "$daemon" >/dev/null || echo "$host $daemon"; done; }
# One at a time on this machine, so that no two clusters take the same ports.
lock() { exec 9<"$(type -P slurmctld)"; flock -w 120 9 || fail "another local_cluster.sh does not end"; }
start_database() {
  local store=(--no-defaults --user=root --datadir="$dir/db" --innodb-log-file-size=8M --innodb-flush-method=nosync)
  [ -d "$dir/db/mysql" ] || mariadb-install-db "${store[@]}" --skip-test-db --skip-name-resolve \
    --auth-root-authentication-method=socket >"$log/database.out" 2>&1 9>&- || fail "no database; log: $log/database.out"
  launch "$controller" mariadbd "${store[@]}" --socket="$dir/db.socket" --bind-address=127.0.0.1 \
    --port="$(sed -n 's/^StoragePort=//p' "$dir/slurmdbd.conf")" --pid-file="$dir/mariadbd.pid" \
    --skip-name-resolve --skip-log-bin --performance-schema=OFF --innodb-buffer-pool-size=64M \
    --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900 --init-file="$dir/database.sql"
}
all_idle() { [ "$(sinfo -h -N -p main -o %T | grep -cxE 'idle|mixed|allocated|completing')" = "$1" ]; }
start() {
  local program host
  for program in "${programs[@]}"; do
    [ -n "$(type -P "$program")" ] || fail "$program is not installed; run: bash $0 install"
  done
  lock
  mkdir -p "$dir"
  if [ -n "$(running)" ]; then
    [ "$(hosts | grep -c '^node')" = "$nodes" ] || fail "$dir: a cluster of another size runs there; stop it first"
  else
    stop_all
    configure
  fi
  trap 'stop_all' EXIT  # a start that fails leaves nothing
  for host in $(hosts); do make_host "$host"; done
  # --force: munged refuses folders of others' making, such as a test's 0700 ones.
  launch "$controller" munged --foreground --force --num-threads=2 --key-file="$dir/munge/key" \
    --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" --log-file="$log/munged.log" --seed-file="$dir/munge/seed"
  wait_for munged munge -n --socket="$dir/munge/socket"
  start_database
  wait_for mariadbd test -S "$dir/db.socket"
  launch "$controller" slurmdbd -D
  wait_for slurmdbd sacctmgr -n show cluster
  launch "$controller" slurmctld -D -f "$conf"
  wait_for slurmctld scontrol ping
  for host in $(hosts | grep '^node'); do mkdir -p "$dir/spool/$host"; launch "$host" slurmd -D -N "$host" -f "$conf"; done
  wait_for nodes all_idle "$nodes"
  trap - EXIT
  say "$nodes nodes run; export SLURM_CONF=$conf"
}
stop_all() {
  local host i
  if pid_of "$controller" slurmctld >/dev/null; then
    timeout 10 squeue -h -o %A 2>/dev/null | sort -u | timeout 10 xargs -r scancel 2>/dev/null || true
    for i in {1..30}; do [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break; sleep 0.1; done
  fi
  for host in $(hosts | grep '^node'); do end "$host" slurmd; kill_host "$host"; drop_host "$host"; done
  for i in slurmctld slurmdbd mariadbd munged; do end "$controller" "$i"; done
  drop_host "$controller"
}
status() {
  local up; up=$(running)
  [ -n "$up" ] || { echo "$dir: no cluster runs"; return 3; }
  echo "$up"
  [ "$up" = "$(daemons)" ] || return 1
}
node() {  # the node that a verb is about
  [ "$#" = 1 ] && hosts | grep '^node' | grep -qxF -- "$1" || fail "name one of: $(hosts | grep '^node' | xargs)"
  pid_of "$controller" slurmctld >/dev/null || fail "$dir: no cluster runs; start it"
}
node_start() {
  local since i state started
  pid_of "$1" slurmd >/dev/null && return
  kill_host "$1"
  # The controller takes a boot for one only if it is later, in whole seconds, than the node's last word.
  since=$EPOCHSECONDS; while [ "$EPOCHSECONDS" -le "$since" ]; do sleep 0.05; done
  printf -v since '%(%Y-%m-%dT%H:%M:%S)T' -1
  launch "$1" slurmd -D -N "$1" -f "$conf" -b
  for i in {1..200}; do
    read -r state started < <(scontrol -o show node "$1" | sed 's/.* State=\([^ ]*\) .*SlurmdStartTime=\([^ ]*\) .*/\1 \2/')
    if [[ ! $started < $since ]]; then
      case $state in
        DOWN*) scontrol update nodename="$1" state=resume ;;
        *NOT_RESPONDING* | *\**) ;;
        *) return 0 ;;
      esac
    fi
    sleep 0.1
  done
  fail "$1 did not come back (it is $state); logs: $log"
}

check_arguments
case $verb in
  install)
    export DEBIAN_FRONTEND=noninteractive
    dpkg -s "${packages[@]}" >/dev/null 2>&1 || {
      apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null; } ||
      fail "apt-get cannot install: ${packages[*]}" ;;
  start) start ;;
  stop) [ ! -s "$conf" ] || { lock; stop_all; }; say "$dir: stopped" ;;
  status) status ;;
  exec) is_host "$controller" || fail "$dir: no cluster runs; start it"; on_host "$controller" "${words[@]}" ;;
  node-kill) node "${words[@]}"; lock; kill_host "${words[0]}" ;;
  node-start) node "${words[@]}"; lock; node_start "${words[0]}" ;;
  *) usage ;;
esac
