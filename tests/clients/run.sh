#!/usr/bin/env bash
# Runs real OpenAI clients against the release binary: a sandbox for what works, and a simulator that misbehaves on
# order for what does not. Everything is on the loopback and is stopped at the end.
#
#     tests/clients/run.sh             # both suites
#     tests/clients/run.sh python      # or node
#
# Needs: cargo build --release, Python 3.11 with venv, Node 20 with npm, curl. The packages that requirements.txt and
# package.json name are installed into tests/clients/.venv and tests/clients/node_modules.
set -euo pipefail
# shellcheck source=tests/clients/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(python node)
passed=0 failed=0

install_python() {
  local stamp=$here/.venv/installed
  if ! cmp -s "$here/requirements.txt" "$stamp"; then
    python3 -m venv "$here/.venv" || die "python3 cannot make a virtual environment: apt-get install python3-venv"
    "$here/.venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$stamp"
  fi
}

install_node() {
  need node 'Node.js 20 or newer'
  need npm 'apt-get install npm'
  local stamp=$here/node_modules/.installed
  if ! cmp -s "$here/package-lock.json" "$stamp"; then
    (cd "$here" && npm ci --silent)
    cp "$here/package-lock.json" "$stamp"
  fi
}

python_suite() {
  local closing=$scratch/python.closing
  (cd "$here" && PYTHONDONTWRITEBYTECODE=1 .venv/bin/python -m pytest --color=no --durations=3 "$@") | tee "$closing" || true
  # "2 failed, 41 passed in 12.34s"
  count "$(grep -oE '[0-9]+ passed' "$closing" | tail -1)" "$(grep -oE '[0-9]+ (failed|error)' "$closing" | tail -1)"
}

node_suite() {
  local closing=$scratch/node.closing
  (cd "$here" && node --test --test-concurrency=1 --test-reporter=spec "$@") | tee "$closing" || true
  count "$(grep -E '^[^ ]+ pass [0-9]+$' "$closing" | tail -1)" "$(grep -E '^[^ ]+ fail [0-9]+$' "$closing" | tail -1)"
}

# count PASSED FAILED: adds the numbers in two closing lines. A suite that counted nothing has failed.
count() {
  local good=${1//[!0-9]/} bad=${2//[!0-9]/}
  [ "${good:-0}" -gt 0 ] || [ "${bad:-0}" -gt 0 ] || die 'a suite ran no test'
  passed=$((passed + ${good:-0}))
  failed=$((failed + ${bad:-0}))
}

prepare
for suite in "${suites[@]}"; do
  case $suite in
    python | node) "install_$suite" ;;
    *) die "no suite called $suite; there are python and node" ;;
  esac
done

start_sandbox
start_faulty
for suite in "${suites[@]}"; do
  printf '== %s\n' "$suite"
  case $suite in
    python) python_suite test_sandbox.py test_faults.py ;;
    node) node_suite sandbox.test.mjs ai-sdk.test.mjs faults.test.mjs ;;
  esac
done

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
