#!/usr/bin/env bash
# Every check and every test, from nothing: installs what is missing, then ruff, mypy and pytest.
#
#   bash tests/run.sh                    all of it
#   bash tests/run.sh quick              without the tests marked slow (tests/conftest.py): minutes, before a commit
#   bash tests/run.sh PYTEST_OPTIONS...  the checks, then pytest with these
#
# ALIGN_DIST_SHARED names a folder whose data/ holds real pictures; tests that need them run when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${ALIGN_DIST_SHARED:-}" ] && [ -d ../shared/data ]; then ALIGN_DIST_SHARED=$(cd ../shared && pwd); fi
export ALIGN_DIST_SHARED
bash launch/install.sh ffcv,embedded,lite0,masks,sam,export,deepspeed,submit,tune,test
quick=no
if [ "${1:-}" = quick ]; then quick=yes; shift; fi
# A real Slurm on this machine, for the tests that submit jobs; without root they say that they are skipped.
if [ $quick = no ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  bash slurm/local_cluster.sh install
  # A browser, for the tests of pages.
  command -v chromedriver >/dev/null || { apt-get update -qq &&
    apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; } ||
    echo "run: no browser could be installed; tests of pages say that they are skipped" >&2
fi
.venv/bin/ruff check align_dist launch tests
if [ $# != 0 ]; then
  .venv/bin/mypy
  exec .venv/bin/python -m pytest tests "$@"
fi

# Where Python keeps no compiled modules, each of some hundred processes would compile the package.
.venv/bin/python -m compileall -q align_dist || true

# A process for each part (pytest, and mypy), the longest parts first and the remaining tests third, as many at once as
# there are cores; what a part says is shown when it has ended.
if [ $quick = yes ]; then
  export chosen="not slow"
  parts=("tests/data tests/networks tests/bench tests/evaluation")
else
  export chosen=""
  parts=("tests/slurm" "tests/search tests/cluster" "tests/data tests/methods" "tests/parallel"
    "tests/training" "tests/selftest")
fi
# shellcheck disable=SC2048,SC2086
others="tests$(printf -- ' --ignore=%s' ${parts[*]})"
test_part() {
  local said code=0 command=(.venv/bin/mypy)
  # shellcheck disable=SC2206
  [ "$1" = mypy ] || command=(.venv/bin/python -m pytest $1 -m "$chosen" -p no:cacheprovider)
  said=$(mktemp)
  "${command[@]}" >"$said" 2>&1 || code=$?
  printf '== %s\n%s\n' "$1" "$(cat "$said")"
  rm "$said"
  return $code
}
export -f test_part
printf '%s\0' "${parts[@]:0:2}" "$others" "${parts[@]:2}" mypy | xargs -0 -n 1 -P "$(nproc)" bash -c 'test_part "$1"' part
