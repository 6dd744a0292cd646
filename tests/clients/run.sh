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
passed=0 failed=0 status=0

# run_in_view FILE COMMAND...: runs it in this folder, shows and keeps what it prints, and leaves its status in `status`.
run_in_view() {
  local closing=$1
  shift
  status=0
  (cd "$here" && "$@") 2>&1 | tee "$closing" || status=$?
}

python_suite() {
  local closing=$scratch/python.closing
  run_in_view "$closing" env PYTHONDONTWRITEBYTECODE=1 .venv/bin/python -m pytest --color=no "$@"
  # "2 failed, 41 passed, 1 error in 12.34s"
  count "$(tail -n 1 "$closing" | grep -oE '[0-9]+ passed')" \
    "$(tail -n 1 "$closing" | grep -oE '[0-9]+ (failed|error)')"
}

node_suite() {
  local closing=$scratch/node.closing
  run_in_view "$closing" node --test --test-concurrency=1 --test-reporter=spec "$@"
  count "$(grep -E '^[^ ]+ pass [0-9]+$' "$closing")" "$(grep -E '^[^ ]+ (fail|cancelled) [0-9]+$' "$closing")"
}

# count PASSED FAILED: adds the numbers in these lines. A runner that counted nothing, or failed and did not say where,
# has failed as a whole.
count() {
  local good bad
  good=$(sum "$1")
  bad=$(sum "$2")
  [ $((good + bad)) -gt 0 ] || die 'a suite ran no test'
  [ "$status" = 0 ] || [ "$bad" -gt 0 ] || die "a suite ended with status $status"
  passed=$((passed + good))
  failed=$((failed + bad))
}

# sum TEXT: of all the numbers in it.
sum() {
  local number total=0
  while read -r number; do total=$((total + number)); done < <(grep -oE '[0-9]+' <<<"$1")
  printf '%d' "$total"
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
