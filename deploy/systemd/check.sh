#!/usr/bin/env bash
# Checks the units of this folder and the program below them, on a machine whose first process need not be systemd. Prints a
# table: thing, tool that judged it, verdict.
#
#     deploy/systemd/check.sh            # BINARY=FILE names another program than target/release/gptproto-gateway
#
# Needs systemd (systemd-analyze, systemd-socket-activate), Python 3, curl and libseccomp2; root for the unit's read-only file systems and
# its user; root and strace for the stalled journal.
# Exit codes: 0 all well, 1 something is not, 2 not carried out.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
binary=${BINARY:-${CARGO_TARGET_DIR:-$top/target}/release/gptproto-gateway}
binary=$(cd "$top" && realpath -m "$binary")
# The highest exposure of the service, in tenths.
threshold=15
scratch=$(mktemp -d)
activator=''

closing() {
  [ -z "$activator" ] || kill -TERM "$activator" 2>/dev/null || true
  rm -rf "$scratch"
}
trap closing EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# shellcheck source=deploy/systemd/rows.sh
. "$here/rows.sh"

for tool in systemd-analyze:systemd systemd-socket-activate:systemd python3:python3 curl:curl; do
  command -v "${tool%%:*}" >/dev/null || die "${tool%%:*} is missing: apt-get install ${tool#*:}"
done
[ -x "$binary" ] || die "$binary is missing: run cargo build --release, or name a program with BINARY=FILE"

# ---- the units

# A copy that starts this program: the units name the one that the package installs.
units=$scratch/units
mkdir "$units"
for unit in "$here"/*.service "$here"/*.socket; do
  sed "s#^ExecStart=/usr/bin/gptproto-gateway#ExecStart=$binary#" "$unit" >"$units/${unit##*/}"
done
mapfile -t names < <(cd "$units" && ls)

# verify FOLDER: the units of a folder. What is merely ignored there is a mistake, too.
verify() {
  local said
  said=$(cd "$1" && systemd-analyze verify --man=no "${names[@]/#/./}" 2>&1) || { printf '%s\n' "$said"; return 1; }
  printf '%s\n' "$said"
  [ -z "$said" ]
}

exposure() {
  systemd-analyze security --offline=true --no-pager --threshold="$threshold" "$1/gptproto-gateway.service"
}

judge 'the units' 'systemd-analyze verify' verify "$units"
judge "the service's exposure is 1.5 at most" 'systemd-analyze security' exposure "$units"
row 'the exposure itself' 'systemd-analyze security' "$(exposure "$units" | sed -n 's/^→ Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p')"
cp -r "$units" "$scratch/broken"
sed -i 's/^WatchdogSec=/WatchdogSecs=/' "$scratch/broken/gptproto-gateway.service"
judge 'control: a key with a mistake is found' 'systemd-analyze verify' not verify "$scratch/broken"
cp -r "$units" "$scratch/open"
sed -i '/^SystemCallFilter=/d; /^CapabilityBoundingSet=/d; /^Protect/d' "$scratch/open/gptproto-gateway.service"
judge 'control: a service with less hardening is found' 'systemd-analyze security' not exposure "$scratch/open"

# ---- a real edit through systemd-socket-activate

free_port() {
  python3 - "$top" <<'PY'
import sys
sys.path.append(f"{sys.argv[1]}/tests/load")
from lib.rig import free_ports
print(free_ports(1)[0])
PY
}

client_port=$(free_port)
operator_port=$(free_port)
# Below the confinement of the unit, which is that of another user where this one is root: what it reads has to be readable.
chmod 711 "$scratch"
mkdir -m 755 "$scratch/readable" "$scratch/data"
cp "$here/confined.py" "$units/gptproto-gateway.service" "$binary" "$scratch/readable"
chmod 755 "$scratch/readable"/*
confined=(python3 "$scratch/readable/confined.py" "$scratch/readable/gptproto-gateway.service" "$scratch/data")
(cd "$scratch/data" && exec systemd-socket-activate -l "127.0.0.1:$client_port" -l "127.0.0.1:$operator_port" --fdname=client:operator \
  -E "GATEWAY_STORAGE__DIRECTORY=$scratch/data" "${confined[@]}" "$scratch/readable/${binary##*/}" serve --sandbox) >"$scratch/activated" 2>&1 &
activator=$!
# Nothing runs yet: the first connection starts the gateway, and waits for it.
judge 'the first connection starts the gateway' 'systemd-socket-activate' until_it_works curl -sSf -m 30 "http://127.0.0.1:$operator_port/readyz"
judge 'an edit over an inherited socket' 'systemd-socket-activate' edit "$client_port" sk-sandbox activated
judge "it runs below the unit's system calls, without capabilities" 'confined.py (seccomp, setpriv)' grep -q "^Seccomp:[[:space:]]*2" "/proc/$activator/status"
judge 'control: what the unit does not allow is refused' 'confined.py (seccomp, setpriv)' not "${confined[@]}" python3 -c 'import os; os.setpriority(os.PRIO_PROCESS, 0, 5)'
judge 'both sockets were inherited' 'systemd-socket-activate' grep -q "listening on an inherited socket" "$scratch/activated"
kill -TERM "$activator"
judge 'it stops with exit code 0' 'systemd-socket-activate' wait "$activator"
activator=''

# ---- what it says, and credentials

python3 "$here/emulate.py" --binary "$binary" >"$scratch/emulated" || true
cat "$scratch/emulated" >>"$scratch/rows"
[ -s "$scratch/emulated" ] || row 'notifications and credentials' 'emulate.py' FAILED

# ---- a systemd of this machine, booted for the purpose

"$here/boot.sh" "$binary" >"$scratch/booted" || true
cat "$scratch/booted" >>"$scratch/rows"
[ -s "$scratch/booted" ] || row 'the units below a real systemd' 'boot.sh' FAILED

print_rows
