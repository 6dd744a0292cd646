#!/usr/bin/env bash
# Attacks a sandbox with the cases that schemathesis generates from its OpenAPI documents, of both listeners. Prints how often
# each status came from each route.
#
#     tests/openapi/run.sh                 # at least 2,000 cases, and 100 answers of 200 from each route that makes pictures
#     tests/openapi/run.sh --cases 500 --pictures 20 --seed 7
#
# Needs: cargo build --release (or BINARY=FILE), Python 3.11 with venv, curl. Packages are installed into tests/openapi/.venv.
set -euo pipefail
# shellcheck source=tests/clients/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../clients/lib/common.sh"

folder=$top/tests/openapi
if ! cmp -s "$folder/requirements.txt" "$folder/.venv/installed"; then
  need python3 'apt-get install python3'
  python3 -m venv --clear "$folder/.venv" || die "python3 cannot make a virtual environment: apt-get install python3-venv"
  "$folder/.venv/bin/pip" install --quiet --disable-pip-version-check -r "$folder/requirements.txt"
  cp "$folder/requirements.txt" "$folder/.venv/installed"
fi
prepare
read -r client operator <<<"$(free_ports 2)"
token=admin-$mark$mark$mark$mark
serve sandbox "$client" "$operator" --sandbox -- GATEWAY_ADMIN_TOKEN="$token"
cd "$scratch"
"$folder/.venv/bin/python" "$folder/attack.py" --client "http://127.0.0.1:$client" --operator "http://127.0.0.1:$operator" \
  --admin-token "$token" "$@"
if grep -n 'panicked at' "$scratch/sandbox.log"; then die 'the gateway panicked'; fi
