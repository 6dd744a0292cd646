#!/usr/bin/env bash
# Drives the web pages in Chromium, against a gateway in the sandbox on free ports: behaviour, keyboard, phone width, axe-core
# in light and dark, console errors, requests to other hosts, size. Screenshots and logs are kept in $GATEWAY_TEST_OUTPUT/web, or
# in a folder "output" beside this script.
#
#     tests/web/run.sh                   # every page that has tests
#     tests/web/run.sh playground        # or some of: playground dashboard admin docs
#
# Needs: cargo build (or BINARY=FILE), Node 20 with npm, Chromium (or CHROMIUM=FILE). Packages are installed into
# tests/web/node_modules.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

for tool in node npm; do
  command -v "$tool" >/dev/null || die "$tool is missing: install Node 20 or newer (apt-get install nodejs npm)"
done
export BINARY=${BINARY:-${CARGO_TARGET_DIR:-$PWD/../../target}/debug/gptproto-gateway}
[ -x "$BINARY" ] || die "there is no program at $BINARY: run cargo build, or set BINARY"
if [ -z "${CHROMIUM:-}" ]; then
  CHROMIUM=$(command -v chromium || command -v chromium-browser || command -v google-chrome) \
    || die "Chromium is missing: apt-get install chromium, or set CHROMIUM"
fi
export CHROMIUM

pages=("$@")
if [ ${#pages[@]} = 0 ]; then
  for page in playground dashboard admin docs; do [ ! -f "$page.mjs" ] || pages+=("$page"); done
fi
for page in "${pages[@]}"; do
  [ -f "$page.mjs" ] || die "there are no tests called $page"
done

if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  npm ci --loglevel=error
fi
status=0
for page in "${pages[@]}"; do
  printf '%s\n' "--- $page"
  node --test --test-reporter=spec "$page.mjs" || status=1
done
exit "$status"
