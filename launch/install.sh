#!/usr/bin/env bash
# Installs align_dist into .venv of this checkout: system packages where it may, Python packages at pinned versions.
# pip's own settings (index, mirror, find-links) are left alone. Arguments: extras, default `ffcv,embedded,lite0`.
set -euo pipefail
cd "$(dirname "$0")/.."
extras=${1:-ffcv,embedded,lite0}

say() { printf '%s\n' "install: $*" >&2; }

known=$(sed -n '/^EXTRAS/,/^}/s/^    "\([a-z0-9]*\)".*/\1/p' setup.py)
for extra in ${extras//,/ }; do
  grep -qx "$extra" <<<"$known" || { say "$extra: no such extra; there are: ${known//$'\n'/, }"; exit 2; }
done

python=$(command -v python3 || true)
[ -n "$python" ] && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  say "needs Python 3.10 or newer (apt install python3 python3-venv, or conda create python=3.11)"; exit 5; }

have_headers() { command -v g++ pkg-config >/dev/null && pkg-config --exists libturbojpeg opencv4; }
if ! have_headers; then
  packages="g++ pkg-config libturbojpeg0-dev libopencv-dev"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "system packages: $packages"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages >/dev/null
  else
    say "needs system packages: sudo apt install $packages   or: conda install -c conda-forge pkg-config compilers libjpeg-turbo opencv"
    exit 5
  fi
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv || { say "needs venv: apt install python3-venv"; exit 5; }
stamp=".venv/.installed-$(cat setup.py launch/constraints.txt launch/install.sh | sha256sum | cut -c1-12)-${extras//,/-}"
if [ ! -e "$stamp" ]; then
  say "Python packages (a few minutes the first time)"
  pip=(.venv/bin/python -m pip install --disable-pip-version-check --quiet --progress-bar off -c launch/constraints.txt)
  # torch first: everything else must find it there; FFCV builds against the numpy that it will run with.
  "${pip[@]}" torch
  "${pip[@]}" torchvision numpy numba
  "${pip[@]}" -e ".[$extras]"
  touch "$stamp"
fi
say "ready: .venv/bin/align-dist"
