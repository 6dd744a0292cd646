#!/usr/bin/env bash
# The official OpenAI packages, with their built-in retries, on a network that cuts, stalls and slows down connections to the
# gateway. Counts how often the same picture was bought, with the result cache on and off, and for comparison by an endpoint
# that buys in each request. Fails when the gateway bought a picture twice, and when the comparison did not. One kind is
# counted and allowed with the cache off: see `overtaken` in broken_network/report.py.
#
#     tests/clients/broken_network.sh
#     CALLS=1000 tests/clients/broken_network.sh      # for each client and each of the three
#
# Environment: CALLS (60), IN_FLIGHT (12), SEED (1) of the network, KEEP (a folder for logs and journals).
# Needs: cargo build --release (or BINARY=FILE), Python 3.11 with venv, Node 20 with npm, curl.
set -euo pipefail
# shellcheck source=tests/clients/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

calls=${CALLS:-60} in_flight=${IN_FLIGHT:-12} seed=${SEED:-1}
# How long a client waits, and how long the network stalls.
timeout=3 stall=4
parts=$here/broken_network
key=sk-suite-0123456789abcdef

# start_network TARGET PORT TO
start_network() {
  start "network-$1" python3 "$parts/network.py" --listen "$2" --to "$3" --seed "$seed:$1" --stall "$stall" \
    --log "$scratch/$1.network"
  wait_for "network-$1" "http://127.0.0.1:$2/_network"
}

# call TARGET PORT: both clients at once.
call() {
  local target=$1 address=http://127.0.0.1:$2/v1 client callers=()
  for client in python node; do
    local program=("$here/.venv/bin/python" "$parts/calls.py")
    [ "$client" = python ] || program=(node22 "$here/node/broken_network.mjs")
    # One upload in four is large.
    PYTHONDONTWRITEBYTECODE=1 "${program[@]}" "$address" "$key" "nonce-$client-$target" "$calls" "$in_flight" \
      "$timeout" "$SUITE_PICTURES"/{photo,second,photo,large}.png >"$scratch/$client.$target.json" &
    callers+=($!)
  done
  for client in "${callers[@]}"; do wait "$client" || die "a client of $target failed"; done
}

prepare
install_python
install_node

read -r -a ports <<<"$(free_ports 9)"
simulator=http://127.0.0.1:${ports[0]} synchronous=http://127.0.0.1:${ports[1]}
start simulator "$binary" simulate --listen "127.0.0.1:${ports[0]}" --key sk-upstream \
  --scenario "$parts/scenario.toml"
wait_for simulator "$simulator/_simulator/counters"
start synchronous python3 "$parts/synchronous.py" --listen "${ports[1]}" --picture "$SUITE_PICTURES/photo.png"
wait_for synchronous "$synchronous/purchases"
listen=2
for mode in on off; do
  serve "gateway-$mode" "${ports[listen]}" "${ports[listen + 1]}" -- GPTPROTO_API_KEY=sk-upstream \
    GATEWAY_CLIENT_KEYS="suite:$key" GATEWAY_UPSTREAM__BASE_URL="$simulator" GATEWAY_CACHE__MODE=$mode \
    GATEWAY_UPSTREAM__LATENCY_PRIORS=off GATEWAY_UPSTREAM__FIRST_POLL_MS=100 GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS=100 \
    GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS=200 GATEWAY_UPSTREAM__SUBMITS_PER_MINUTE=100000 \
    GATEWAY_UPSTREAM__REQUESTS_PER_MINUTE=1000000
  start_network "$mode" "${ports[listen + 2]}" "${ports[listen]}"
  listen=$((listen + 3))
done
start_network without "${ports[8]}" "${ports[1]}"

printf 'seed %s, %s calls of each client, %s at once, who wait %s s; the network stalls for %s s\n' "$seed" "$calls" \
  "$in_flight" "$timeout" "$stall"
begun=$SECONDS
call on "${ports[4]}"
call off "${ports[7]}"
call without "${ports[8]}"
# Until the gateways have read what the network delivers late, of clients that have disconnected.
sleep 2
printf 'done in %d s\n\n' $((SECONDS - begun))

result=0
python3 "$parts/report.py" "$scratch" "$simulator" "$synchronous" || result=$?
if [ -n "${KEEP:-}" ]; then
  mkdir -p "$KEEP"
  cp "$scratch"/*.{json,network,log} "$KEEP"
  cp -r "$scratch"/gateway-{on,off} "$KEEP"
fi
exit "$result"
