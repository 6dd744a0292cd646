# shellcheck shell=bash
# Sourced by the scripts of tests/clients: installs the packages, starts gateways and simulators on free ports
# of the loopback, and stops them again.
#
# PROFILE=NAME makes all simulators differ from the documents, as config/profiles.toml says. Each gateway learns of it before
# the suites begin, and the tests in differences.json are left out, which gives the reasons.
#
# The environment of the suites (no name begins with GATEWAY_, which would be a configuration key of the gateway):
#   SUITE_PROFILE          how the simulators differ
#   SUITE_PICTURES         folder of pictures to send
#   SUITE_CLIENT           the row of the table that the results belong to; SUITE_RESULTS is the file for the results
#   SUITE_GATEWAY          a gateway in sandbox mode, which all suites share
#   SUITE_SIMULATOR        a simulator with configurable faults, and the gateways in front of it:
#   SUITE_FAULTY             with the default configuration
#   SUITE_DIRECT             the same gateway without the recorder: for uploads that are refused before their end
#   SUITE_NARROW             bodies of at most 1 MB, with pauses of at most one second
#   SUITE_IMPATIENT          one second of patience
#   SUITE_LENIENT            drops unsupported parameters with a header; allows web pages of https://app.example.com
#   SUITE_INTERIM            102 Processing every second to clients that accept it
#   SUITE_WHITESPACE         a space every second before the JSON
#   SUITE_KEY              the client key of those gateways, SUITE_STRANGER_KEY that of another client, SUITE_UPSTREAM_KEY
#                          their upstream key
#   SUITE_HOOKS            where SUITE_FAULTY sends webhooks, signed with SUITE_HOOK_SECRET
#
# recorder.py stands between the clients and SUITE_GATEWAY and SUITE_FAULTY, and passes every byte unchanged; answers.py
# checks all recorded answers against the schemas.

# tests/clients.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
top=$(cd "$here/../.." && pwd)
binary=${BINARY:-${CARGO_TARGET_DIR:-$top/target}/release/gptproto-gateway}
profile=${PROFILE:-documented}
scratch=''
# Every key of a rig contains this mark for tests/canary/scan.py. The folder keeps what was written, if it is set.
mark=vQ7kZp3X
kept=${GATEWAY_TEST_OUTPUT:-}
pids=()
# Whether a failure shows the last lines of every log: only until the suites run, which print their own failures.
logs_shown=yes

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
    [ "$status" = 0 ] || [ "$logs_shown" = no ] || show_logs
    if [ -n "$kept" ]; then
      mkdir -p "$kept" && mv "$scratch" "$kept/clients-$$"
      # The simulators' banners show the upstream key, and are not scanned.
      printf '%s\n' "$kept/clients-$$"/*simulator.* >"$kept/clients-$$/inputs"
    else
      rm -rf "$scratch"
    fi
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
  # The gateways under test must not inherit settings from this environment.
  local variable
  while read -r variable; do unset "$variable"; done < <(compgen -e | grep -E '^(GATEWAY|GPTPROTO)_' || true)
  trap stop_all EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  scratch=$(mktemp -d)
  export SUITE_PICTURES=$scratch/pictures SUITE_PROFILE=$profile
  mkdir "$SUITE_PICTURES"
  python3 "$here/lib/pictures.py" "$SUITE_PICTURES"
  python3 "$here/lib/scenario.py" "$here/lib/scenario.toml" "$profile" >"$scratch/scenario.toml"
}

# install_venv FOLDER NAME: the packages of python/requirements/NAME.txt, into the folder.
install_venv() {
  local folder=$here/$1 requirements=$here/python/requirements/$2.txt
  local stamp=$folder/installed
  if ! cmp -s "$requirements" "$stamp"; then
    python3 -m venv --clear "$folder" || die "python3 cannot make a virtual environment: apt-get install python3-venv"
    "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$stamp"
  fi
}

install_python() {
  install_venv .venv newest
}

# The packages of package.json, into node_modules. Some need a newer Node.js than the system's, which npm has as a package.
install_node() {
  need node 'Node.js 20 or newer'
  need npm 'apt-get install npm'
  local stamp=$here/node/node_modules/.installed
  if ! cmp -s "$here/node/package-lock.json" "$stamp"; then
    (cd "$here/node" && npm ci --silent)
    cp "$here/node/package-lock.json" "$stamp"
  fi
}

# The Node.js that the newer packages need.
node22() {
  if [ "$(node -p 'process.versions.node.split(".")[0] >= 22')" = true ]; then
    node "$@"
  else
    "$here/node/node_modules/node22/bin/node" "$@"
  fi
}

# free_ports COUNT: prints free ports of TEST_PORTS (FIRST-LAST). The default lies below the ephemeral range, so that no
# outgoing connection takes such a port before its use; scripts that run side by side are given ranges that do not overlap.
free_ports() {
  python3 -c '
import os, random, socket, sys
wanted, held = int(sys.argv[1]), []
first, last = map(int, os.environ.get("TEST_PORTS", "15000-31999").split("-"))
for port in random.sample(range(first, last + 1), min(1000, last + 1 - first)):
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

# wait_for NAME ADDRESS [STATUS]: until the address answers with the status (200). NAME is the program started last.
wait_for() {
  local name=$1 address=$2 status=${3:-200} deadline=$((SECONDS + 20))
  until [ "$(curl -sS -m 2 -o /dev/null -w '%{http_code}' "$address" 2>/dev/null)" = "$status" ]; do
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
  local client operator recorded
  read -r client operator recorded <<<"$(free_ports 3)"
  serve sandbox "$client" "$operator" --sandbox --profile "$profile"
  record sandbox "$recorded" "$client"
  export SUITE_GATEWAY=http://127.0.0.1:$recorded SUITE_SANDBOX_KEY=sk-sandbox
}

# start_rig NAME: starts a simulator with configurable faults and gateways in front of it. Sets the array `rig` to the
# environment of a suite.
start_rig() {
  local name=$1 ports simulator key=sk-suite-$mark$mark$mark stranger=sk-stranger-$mark$mark$mark
  local upstream_key=sk-upstream-$mark$mark$mark secret
  secret=whsec_$(printf %s "suite-hooks-$mark$mark$mark" | base64 -w 0)
  read -r -a ports <<<"$(free_ports 15)"
  simulator=http://127.0.0.1:${ports[0]}
  start "$name-simulator" "$binary" simulate --listen "127.0.0.1:${ports[0]}" --key "$upstream_key" \
    --scenario "$scratch/scenario.toml"
  wait_for "$name-simulator" "$simulator/_simulator/counters"

  local common=(
    GPTPROTO_API_KEY="$upstream_key" GATEWAY_UPSTREAM__BASE_URL="$simulator"
    GATEWAY_CLIENT_KEYS="suite:$key,stranger:$stranger"
    GATEWAY_UPSTREAM__LATENCY_PRIORS=off GATEWAY_UPSTREAM__FIRST_POLL_MS=100 GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS=100
    GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS=200 GATEWAY_SERVER__STREAM_HEARTBEAT_MS=500
  )
  serve "$name-faulty" "${ports[1]}" "${ports[2]}" -- "${common[@]}" GATEWAY_WEBHOOK_SECRET="$secret" \
    GATEWAY_WEBHOOKS__ALLOWED_ORIGINS="http://127.0.0.1:${ports[14]}" GATEWAY_WEBHOOKS__RETRY_DELAY_MIN_MS=300
  serve "$name-narrow" "${ports[3]}" "${ports[4]}" -- "${common[@]}" GATEWAY_SERVER__BODY_BYTES_MAX=1000000 \
    GATEWAY_SERVER__BODY_IDLE_TIMEOUT_S=1
  serve "$name-impatient" "${ports[5]}" "${ports[6]}" -- "${common[@]}" GATEWAY_SERVER__RESPONSE_TIMEOUT_S=1
  serve "$name-lenient" "${ports[12]}" "${ports[13]}" -- "${common[@]}" GATEWAY_SERVER__UNSUPPORTED_PARAMETERS=drop \
    GATEWAY_SERVER__CORS_ORIGINS=https://app.example.com
  serve "$name-interim" "${ports[8]}" "${ports[9]}" -- "${common[@]}" \
    GATEWAY_SERVER__INTERIM_RESPONSES=known_clients GATEWAY_SERVER__INTERIM_INTERVAL_S=1
  serve "$name-whitespace" "${ports[10]}" "${ports[11]}" -- "${common[@]}" GATEWAY_SERVER__JSON_HEARTBEAT_S=1
  record "$name" "${ports[7]}" "${ports[1]}"
  local port
  if [ "$profile" != documented ]; then
    for port in 1 3 5 12 8 10; do first_contact "http://127.0.0.1:${ports[port]}" "$key"; done
    curl -fsS -m 10 -X POST "$simulator/_simulator/reset"
  fi
  # shellcheck disable=SC2034 # run.sh and curl.sh read it.
  rig=(
    SUITE_SIMULATOR="$simulator" SUITE_KEY="$key" SUITE_STRANGER_KEY="$stranger"
    SUITE_UPSTREAM_KEY="$upstream_key"
    SUITE_HOOKS="http://127.0.0.1:${ports[14]}" SUITE_HOOK_SECRET="$secret" SUITE_FAULTY="http://127.0.0.1:${ports[7]}"
    SUITE_DIRECT="http://127.0.0.1:${ports[1]}" SUITE_NARROW="http://127.0.0.1:${ports[3]}"
    SUITE_IMPATIENT="http://127.0.0.1:${ports[5]}" SUITE_LENIENT="http://127.0.0.1:${ports[12]}"
    SUITE_INTERIM="http://127.0.0.1:${ports[8]}" SUITE_WHITESPACE="http://127.0.0.1:${ports[10]}"
  )
}

# first_contact GATEWAY KEY: an edit, so that the gateway learns which request formats are refused: a test counts its own
# submits alone. The answer does not matter.
first_contact() {
  curl -sS -m 30 -o /dev/null -H "Authorization: Bearer $2" -F model=gpt-image-1.5 -F size=256x256 -F quality=low \
    -F 'prompt=first contact' -F "image=@$SUITE_PICTURES/photo.png" "$1/v1/images/edits"
}

# record NAME PORT TO: passes connections from the port to the gateway, and records the answers in NAME.answers.
record() {
  start "$1-recorder" python3 "$here/lib/recorder.py" --listen "$2" --to "$3" --log "$scratch/$1.answers"
  wait_for "$1-recorder" "http://127.0.0.1:$2/v1/models" 401
}
