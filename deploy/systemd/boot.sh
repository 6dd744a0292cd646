#!/usr/bin/env bash
# Boots the systemd of this machine in namespaces of its own (processes, mounts, network, control groups), with the units of this
# folder and nothing else, and has it start, reload, restart, watch and stop the gateway. Prints a line for each thing: thing, tool
# and verdict, separated by tabs. Nothing outside of the namespaces changes, but for a control group that is removed at the end.
#
#     deploy/systemd/boot.sh PROGRAM
#
# Needs root, systemd, util-linux, iproute2, curl and Python 3. Where it cannot boot, the only line says SKIPPED and why.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Where `edit` finds what draws its pictures.
export top
top=$(cd "$here/../.." && pwd)
binary=$(realpath "$1")
scratch=$(mktemp -d)
group=gateway-check-$$
booting=''
# The first process of the namespace, as it is called here.
init=''
tool="systemd $(systemctl --version 2>/dev/null | sed -n '1s/systemd \([0-9]*\).*/\1/p'), booted"
# shellcheck source=deploy/systemd/rows.sh
. "$here/rows.sh"

# Every process of the namespace ends with its first one.
closing() {
  local status=$?
  [ -z "$init" ] || kill -KILL "$init" 2>/dev/null || true
  [ -z "$booting" ] || wait "$booting" 2>/dev/null || true
  find /sys/fs/cgroup -mindepth 1 -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null || true
  cat "$scratch/rows" 2>/dev/null || true
  rm -rf "$scratch"
  exit "$status"
}
trap closing EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

skip() {
  row 'the units below a real systemd' "$tool" "SKIPPED: $1"
  exit 0
}

[ "$(id -u)" = 0 ] || skip 'needs root'
for needed in systemctl unshare nsenter ip curl python3; do
  command -v "$needed" >/dev/null || skip "$needed is missing"
done
[ -x /lib/systemd/systemd ] || skip 'systemd is missing'

# ---- what it boots with

units=$scratch/units
etc=$scratch/etc
mkdir "$units" "$etc" "$scratch/bin"
cp "$here"/*.service "$here"/*.socket "$units"
# The targets that the units name, without what else a machine has them start.
for target in sysinit basic sockets multi-user network-online shutdown slices local-fs umount; do
  sed '/^\(Wants\|Requires\|Documentation\)=/d' "/lib/systemd/system/$target.target" >"$units/$target.target"
done
printf '[Unit]\nDescription=Nothing but sockets\nWants=sockets.target\n' >"$units/default.target"
cp "$binary" "$scratch/bin/gptproto-gateway"
chmod 755 "$scratch/bin/gptproto-gateway"
cp -a /etc/. "$etc"
grep -q '^gptproto-gateway:' "$etc/passwd" || {
  printf 'gptproto-gateway:x:59871:59871::/var/lib/gptproto-gateway:/usr/sbin/nologin\n' >>"$etc/passwd"
  printf 'gptproto-gateway:x:59871:\n' >>"$etc/group"
}
mkdir -p "$etc/gptproto-gateway" "$etc/credstore" "$etc/default"
printf '[limits]\nrequests_per_minute = 100000\n' >"$etc/gptproto-gateway/config.toml"
chmod 755 "$etc/gptproto-gateway"
chmod 644 "$etc/gptproto-gateway/config.toml"
cat >"$etc/default/gptproto-gateway" <<'VARIABLES'
GATEWAY_UPSTREAM__BASE_URL=http://127.0.0.1:8790
GATEWAY_UPSTREAM__LATENCY_PRIORS=off
GATEWAY_UPSTREAM__FIRST_POLL_MS=100
GATEWAY_SERVER__SHUTDOWN_GRACE_S=5
VARIABLES
# Every key has the mark that tests/canary/scan.py looks for.
upstream_key=sk-upstream-vQ7kZp3XvQ7kZp3X-booted
client_key=sk-gw-vQ7kZp3XvQ7kZp3X-booted
(
  umask 077
  printf '%s\n' "$upstream_key" >"$etc/credstore/gptproto-gateway.api-key"
  printf 'alice:%s\n' "$client_key" >"$etc/credstore/gptproto-gateway.client-keys"
)

# ---- boot

# A control group below which systemd sees the root of all.
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
  hierarchies=(/sys/fs/cgroup)
elif [ -e /sys/fs/cgroup/systemd/cgroup.procs ] && [ -e /sys/fs/cgroup/unified/cgroup.procs ]; then
  hierarchies=(/sys/fs/cgroup/systemd /sys/fs/cgroup/unified)
else
  skip 'no control groups that systemd can use'
fi

# Run in the new namespaces; ends as their first process. Kernel settings stay out of reach.
cat >"$scratch/boot" <<'BOOT'
set -eu
scratch=$1
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
if [ -e /sys/fs/cgroup/systemd ]; then
  umount /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
else
  umount /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mount --bind "$scratch/etc" /etc
mount -t overlay -o "lowerdir=$scratch/bin:/usr/bin" overlay /usr/bin
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/systemd/system
# Among themselves, as systemd has it on a machine: it mounts credentials in a child.
mount --make-rshared /
ip link set lo up
exec env -i container=gateway-check PATH="$PATH" SYSTEMD_UNIT_PATH="$scratch/units:/etc/systemd/drop-in" \
  /lib/systemd/systemd --system --unit=default.target --log-target=null --show-status=no </dev/null
BOOT
(
  for hierarchy in "${hierarchies[@]}"; do
    mkdir "$hierarchy/$group" && echo "$BASHPID" >"$hierarchy/$group/cgroup.procs" || exit 1
  done
  exec unshare --cgroup --pid --fork --mount --propagation private --uts --ipc --net sh "$scratch/boot" "$scratch"
) >"$scratch/boot-log" 2>&1 &
booting=$!

in_namespace() {
  nsenter --target "$init" --mount --pid --net --cgroup --uts --ipc "$@"
}
booted() {
  init=$(pgrep --parent "$booting" systemd) && in_namespace systemctl show -p Version
}
until_it_works booted || skip "it did not boot: $(tail -n 1 "$scratch/boot-log")"
# shellcheck disable=SC2034 # for `edit`
at=(in_namespace)

# Ends with the namespace.
in_namespace env -i /usr/bin/gptproto-gateway simulate --listen 127.0.0.1:8790 --key "$upstream_key" --speed 20 >"$scratch/simulator" 2>&1 &

# ---- what it does with the gateway

all=(gptproto-gateway.socket gptproto-gateway-operator.socket gptproto-gateway.service)
manage() {
  in_namespace timeout 60 systemctl "$@"
}
# property NAME
property() {
  manage show --value -p "$1" gptproto-gateway.service
}
status_says() {
  local status
  status=$(property StatusText)
  printf '%s\n' "$status"
  [[ $status == *"$1"* ]]
}
# Another setting of the service, for the next start.
drop_in() {
  mkdir -p "$units/gptproto-gateway.service.d"
  printf '[Service]\n%s\n' "$2" >"$units/gptproto-gateway.service.d/$1.conf"
  manage daemon-reload
}
fresh() {
  edit 8787 "$client_key" "booted $RANDOM$RANDOM"
}

started() {
  manage start "${all[@]}" || { in_namespace tail -n 5 /run/gateway-log; return 1; }
}
# There is no journal to write to.
drop_in log 'StandardError=append:/run/gateway-log'
judge 'the service starts and is ready' "$tool" started
[ "$(property ActiveState)" = active ] || exit 0
judge 'its status is the sentence' "$tool" until_it_works status_says 'Ready'
judge 'an edit, with keys from LoadCredential' "$tool" fresh
confined() {
  local process
  process=$(in_namespace cat "/proc/$(property MainPID)/status")
  printf '%s\n' "$process"
  grep -q '^Seccomp:[[:space:]]*2' <<<"$process" && grep -q '^NoNewPrivs:[[:space:]]*1' <<<"$process" &&
    grep -q '^CapBnd:[[:space:]]*0*$' <<<"$process" && not grep -q '^Uid:[[:space:]]*0' <<<"$process"
}
judge 'it runs with its hardening, as its user' "$tool" confined
printf '[limits]\nrequests_per_minute = 90000\n' >"$etc/gptproto-gateway/config.toml"
judge 'a reload' "$tool" manage reload gptproto-gateway.service
judge 'its status is the outcome of the reload' "$tool" until_it_works status_says 'Reloaded: in force now: limits.requests_per_minute'

# Requests on connections of their own, from before a restart until after it.
restart() {
  local before after
  before=$(property MainPID)
  in_namespace sh -c 'while [ ! -e '"$scratch"'/enough ]; do
      curl -sS -m 60 -o /dev/null -w "%{http_code}\n" -H "Authorization: Bearer '"$client_key"'" http://127.0.0.1:8787/v1/models || true
    done' >"$scratch/answers" 2>&1 &
  local asking=$!
  sleep 0.5
  manage restart gptproto-gateway.service
  sleep 0.5
  touch "$scratch/enough"
  wait "$asking"
  after=$(property MainPID)
  printf 'processes %s and %s; answers: %s\n' "$before" "$after" "$(sort "$scratch/answers" | uniq -c)"
  [ "$before" != "$after" ] && [ "$(sort -u "$scratch/answers")" = 200 ] && [ "$(wc -l <"$scratch/answers")" -gt 10 ]
}
judge 'a restart refuses no connection' "$tool" restart

drop_in watchdog 'WatchdogSec=2'
replaced() {
  [ "$(property ActiveState)" = active ] && [ "$(property MainPID)" != "$1" ]
}
watchdog() {
  manage restart gptproto-gateway.service
  local before
  before=$(property MainPID)
  [ "$before" -gt 1 ] || return 1
  sleep 5
  [ "$(property MainPID)" = "$before" ] || { printf 'a process that lives was killed\n'; return 1; }
  in_namespace kill -STOP "$before"
  until_it_works replaced "$before"
  fresh
}
judge 'the watchdog replaces a process that is stuck' "$tool" watchdog
rm "$units/gptproto-gateway.service.d/watchdog.conf"
manage daemon-reload

stop() {
  # It warns that the sockets can start it again, which is wanted.
  manage stop gptproto-gateway.service 2>/dev/null
}
stopped() {
  stop
  property Result
  [ "$(property Result)" = success ] && [ "$(property ActiveState)" = inactive ]
}
judge 'a stop succeeds' "$tool" stopped
judge 'the first connection after it starts the gateway' "$tool" fresh
stop
drop_in mistake 'Environment=GATEWAY_CACHE__TTL_S=soon'
refused() {
  not manage start gptproto-gateway.service
  sleep 2
  printf 'status %s, restarts %s\n' "$(property ExecMainStatus)" "$(property NRestarts)"
  [ "$(property ExecMainStatus)" = 64 ] && [ "$(property NRestarts)" = 0 ]
}
judge 'a configuration error is final' "$tool" refused
