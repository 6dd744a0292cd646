#!/usr/bin/env bash
# Drives the proxies' snippets in front of a gateway with a simulator, and prints a table. Beside each runs a control, mostly the
# proxy with its defaults, which has to fail where the snippet does not.
#
#     deploy/proxies/check.sh               # BINARY=FILE, or a program of `cargo build --release`
#     deploy/proxies/check.sh nginx caddy   # some of: nginx caddy haproxy traefik
#     deploy/proxies/check.sh --whole       # with the proxies' own time-outs, and edits of 65 s, instead of short ones
#
# Needs: Python 3.11, curl with HTTP/2, openssl, and the proxies: apt-get install nginx-light caddy haproxy. Traefik is driven where
# it is installed (Debian has none). Everything listens on the loopback, and is stopped at the end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

BINARY=${BINARY:-${CARGO_TARGET_DIR:-$top/target}/release/gptproto-gateway}
[ -x "$BINARY" ] || die "$BINARY is missing: cargo build --release, or BINARY=FILE"
for tool in python3 curl openssl; do
  command -v "$tool" >/dev/null || die "$tool is missing: apt-get install $tool"
done
proxies=()
arguments=()
for argument in "$@"; do
  case $argument in
    nginx | caddy | haproxy | traefik) proxies+=("$argument") ;;
    --whole) arguments+=("$argument") ;;
    *) die "no proxy called $argument; there are nginx, caddy, haproxy and traefik" ;;
  esac
done
if [ ${#proxies[@]} = 0 ]; then
  proxies=(nginx caddy haproxy)
  ! command -v traefik >/dev/null || proxies+=(traefik)
fi
for proxy in "${proxies[@]}"; do
  command -v "$proxy" >/dev/null || die "$proxy is missing: apt-get install ${proxy/%nginx/nginx-light}"
done

export BINARY
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$top/deploy/lib exec python3 "$here/drive.py" "${arguments[@]}" "${proxies[@]}"
