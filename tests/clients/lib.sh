# shellcheck shell=bash
# Sourced by run.sh, curl.sh and broken_network.sh: installs the packages, starts gateways and simulators on free ports
# of the loopback, and stops them again.
#
# What the suites are told, by environment (nothing begins with GATEWAY_, which the gateway would take for its own):
#   SUITE_PICTURES         folder of pictures to send
#   SUITE_GATEWAY          a gateway in sandbox mode, with its simulator in SUITE_SANDBOX_SIMULATOR
#   SUITE_SIMULATOR        a simulator whose faults can be ordered, and the gateways in front of it:
#   SUITE_FAULTY             as configured by default
#   SUITE_NARROW             bodies of 1 MB at most
#   SUITE_IMPATIENT          one second of patience
#   SUITE_KEY              the client key of those three

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
binary=${BINARY:-${CARGO_TARGET_DIR:-$top/target}/release/gptproto-gateway}
scratch=''
pids=()

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# need TOOL HOW-TO-INSTALL
need() {
  command -v "$1" >/dev/null || die "$1 is missing: $2"
}

stop_all() {
  local status=$? pid
  trap - EXIT
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  if [ -n "$scratch" ]; then
    [ "$status" = 0 ] || show_logs
    rm -rf "$scratch"
  fi
  exit "$status"
}

show_logs() {
  local log
  for log in "$scratch"/*.log; do
    [ -s "$log" ] || continue
    printf -- '--- the last lines of %s\n' "${log##*/}" >&2
    tail -n 5 "$log" | cut -c 1-400 >&2
  done
}

prepare() {
  need python3 'apt-get install python3'
  need curl 'apt-get install curl'
  [ -x "$binary" ] || die "$binary is missing: cargo build --release"
  # The settings of whoever runs this are not those of the gateways under test.
  local variable
  while read -r variable; do unset "$variable"; done < <(compgen -e | grep -E '^(GATEWAY|GPTPROTO)_' || true)
  trap stop_all EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  scratch=$(mktemp -d)
  export SUITE_PICTURES=$scratch/pictures
  mkdir "$SUITE_PICTURES"
  python3 "$here/pictures.py" "$SUITE_PICTURES"
}

# The packages of requirements.txt, into .venv.
install_python() {
  local stamp=$here/.venv/installed
  if ! cmp -s "$here/requirements.txt" "$stamp"; then
    python3 -m venv "$here/.venv" || die "python3 cannot make a virtual environment: apt-get install python3-venv"
    "$here/.venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$stamp"
  fi
}

# The packages of package.json, into node_modules.
install_node() {
  need node 'Node.js 20 or newer'
  need npm 'apt-get install npm'
  local stamp=$here/node_modules/.installed
  if ! cmp -s "$here/package-lock.json" "$stamp"; then
    (cd "$here" && npm ci --silent)
    cp "$here/package-lock.json" "$stamp"
  fi
}

# Prints as many free ports as asked for. They lie below those that the system gives to outgoing connections, one of which
# could take such a port between here and its use.
free_ports() {
  python3 -c '
import random, socket, sys
wanted, held = int(sys.argv[1]), []
for port in random.sample(range(15000, 32000), 1000):
    try:
        held.append(socket.create_server(("127.0.0.1", port)))
    except OSError:
        continue
    if len(held) == wanted:
        break
print(*(one.getsockname()[1] for one in held))' "$1"
}

# start NAME COMMAND...: runs it in the background, with its output in NAME.out and NAME.log.
start() {
  local name=$1
  shift
  "$@" >"$scratch/$name.out" 2>"$scratch/$name.log" </dev/null &
  pids+=($!)
}

# wait_for NAME ADDRESS: until the address answers 200. NAME is the program that was started last.
wait_for() {
  local name=$1 address=$2 deadline=$((SECONDS + 20))
  until curl -fsS -m 2 -o /dev/null "$address" 2>/dev/null; do
    kill -0 "${pids[-1]}" 2>/dev/null || die "$name ended instead of starting"
    [ $SECONDS -lt $deadline ] || die "$name is not ready after 20 s: $address"
    sleep 0.05
  done
}

# serve NAME LISTEN OPERATOR ARGUMENT... [-- VARIABLE=VALUE...]: starts a gateway and waits until it is ready.
serve() {
  local name=$1 listen=$2 operator=$3 arguments=()
  shift 3
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    arguments+=("$1")
    shift
  done
  [ $# = 0 ] || shift
  start "$name" env GATEWAY_SERVER__LISTEN="127.0.0.1:$listen" GATEWAY_OPERATOR__LISTEN="127.0.0.1:$operator" \
    GATEWAY_SERVER__SHUTDOWN_DELAY_S=0 GATEWAY_STORAGE__DIRECTORY="$scratch/$name" "$@" \
    "$binary" serve "${arguments[@]}"
  wait_for "$name" "http://127.0.0.1:$operator/readyz"
}

start_sandbox() {
  local client operator
  read -r client operator <<<"$(free_ports 2)"
  serve sandbox "$client" "$operator" --sandbox
  export SUITE_GATEWAY=http://127.0.0.1:$client SUITE_SANDBOX_KEY=sk-sandbox SUITE_SANDBOX_SIMULATOR
  # The banner, which follows, says where the simulator is.
  local deadline=$((SECONDS + 10))
  until SUITE_SANDBOX_SIMULATOR=$(grep -oE 'simulator +http://[0-9.:]+' "$scratch/sandbox.out" | grep -oE 'http.*'); do
    [ $SECONDS -lt $deadline ] || die "the banner of the sandbox names no simulator: $(cat "$scratch/sandbox.out")"
    sleep 0.05
  done
}

start_faulty() {
  local ports
  read -r -a ports <<<"$(free_ports 7)"
  export SUITE_SIMULATOR=http://127.0.0.1:${ports[0]} SUITE_KEY=sk-suite-0123456789abcdef
  start simulator "$binary" simulate --listen "127.0.0.1:${ports[0]}" --key sk-upstream --scenario "$here/scenario.toml"
  wait_for simulator "$SUITE_SIMULATOR/_simulator/counters"

  local common=(
    GPTPROTO_API_KEY=sk-upstream GATEWAY_CLIENT_KEYS="suite:$SUITE_KEY" GATEWAY_UPSTREAM__BASE_URL="$SUITE_SIMULATOR"
    GATEWAY_UPSTREAM__LATENCY_PRIORS=off GATEWAY_UPSTREAM__FIRST_POLL_MS=100 GATEWAY_UPSTREAM__MIN_POLL_INTERVAL_MS=100
    GATEWAY_UPSTREAM__LONGEST_POLL_INTERVAL_MS=200
  )
  serve faulty "${ports[1]}" "${ports[2]}" -- "${common[@]}"
  serve narrow "${ports[3]}" "${ports[4]}" -- "${common[@]}" GATEWAY_SERVER__BODY_BYTES_MAX=1000000
  serve impatient "${ports[5]}" "${ports[6]}" -- "${common[@]}" GATEWAY_SERVER__PATIENCE_S=1
  export SUITE_FAULTY=http://127.0.0.1:${ports[1]}
  export SUITE_NARROW=http://127.0.0.1:${ports[3]}
  export SUITE_IMPATIENT=http://127.0.0.1:${ports[5]}
}
