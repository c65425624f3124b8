#!/usr/bin/env bash
# Every check and every test, from nothing: installs what is missing, then ruff, mypy and pytest.
# ALIGN_DIST_SHARED names a folder whose data/ holds real pictures; tests that need them run when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${ALIGN_DIST_SHARED:-}" ] && [ -d ../shared/data ]; then ALIGN_DIST_SHARED=$(cd ../shared && pwd); fi
export ALIGN_DIST_SHARED
bash launch/install.sh ffcv,embedded,lite0,deepspeed,tune,test
.venv/bin/ruff check align_dist launch tests
.venv/bin/mypy
.venv/bin/python -m pytest tests "$@"
