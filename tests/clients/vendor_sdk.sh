#!/usr/bin/env bash
# GPTProto's Python SDK against the simulator's unified API, to show that the simulator behaves as the vendor's client
# expects. On the loopback, stopped at the end.
#
#     tests/clients/vendor_sdk.sh
#
# Needs: cargo build --release (or BINARY=...), curl, Python 3.10 with venv. The package of
# python/requirements/vendor.txt is installed into tests/clients/.venv-vendor.
set -euo pipefail
# shellcheck source=tests/clients/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

# The package of python/requirements/vendor.txt, in an environment of its own, because it pins other packages.
install_vendor() {
  local venv=$here/.venv-vendor wanted=$here/python/requirements/vendor.txt
  if ! cmp -s "$wanted" "$venv/installed"; then
    python3 -m venv "$venv" || die "python3 cannot make a virtual environment: apt-get install python3-venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted" ||
      die "the SDK cannot be installed: $(grep -v '^#' "$wanted") has to come from PyPI, or from a mirror of it"
    cp "$wanted" "$venv/installed"
  fi
}

prepare
install_vendor
port=$(free_ports 1)
export SUITE_SIMULATOR=http://127.0.0.1:$port SUITE_KEY=sk-upstream
start simulator "$binary" simulate --listen "127.0.0.1:$port" --key "$SUITE_KEY" --scenario "$here/lib/scenario.toml"
wait_for simulator "$SUITE_SIMULATOR/_simulator/counters"
PYTHONDONTWRITEBYTECODE=1 "$here/.venv-vendor/bin/python" "$here/python/vendor_sdk.py"
