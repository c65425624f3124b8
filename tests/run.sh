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
  command -v chromedriver >/dev/null || apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null
fi
.venv/bin/ruff check align_dist launch tests
.venv/bin/mypy
[ $# = 0 ] || exec .venv/bin/python -m pytest tests "$@"

# Two halves that take equally long, on as many cores as there are. Slurm has the machine for itself.
if [ $quick = yes ]; then half="tests/data tests/networks tests/bench tests/evaluation"; else half="tests/search tests/training tests/selftest"; fi
chosen=(); [ $quick = no ] || chosen=(-m "not slow")
other=$(mktemp)
# shellcheck disable=SC2086
.venv/bin/python -m pytest $half "${chosen[@]}" -o cache_dir=.pytest_cache/half >"$other" 2>&1 &
trap 'kill $! 2>/dev/null || true; rm -f "$other"' EXIT
failed=0
# shellcheck disable=SC2086
.venv/bin/python -m pytest tests $(printf -- '--ignore=%s ' $half) --ignore=tests/slurm "${chosen[@]}" || failed=$?
wait $! || failed=$?
cat "$other"
[ $quick = yes ] || .venv/bin/python -m pytest tests/slurm || failed=$?
exit $failed
