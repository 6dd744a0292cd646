#!/usr/bin/env bash
# Shows that a real Prometheus understands the metrics, the alerts and the board: starts a sandbox with TLS, lets Prometheus scrape it
# in both text formats, makes pictures of which some fail, and runs every query of the board and of the alerts. Prints a table.
#
#     BINARY=target/debug/gptproto-gateway deploy/prometheus/check.sh
#
# Needs: cargo build --release (or BINARY=FILE), prometheus with promtool (apt-get install prometheus, or PROMETHEUS=FILE and
# PROMTOOL=FILE), python3, curl, openssl. Takes about half a minute.
set -euo pipefail
# shellcheck source=tests/clients/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../tests/clients/lib/common.sh"

folder=$top/deploy/prometheus
prometheus=${PROMETHEUS:-prometheus}
promtool=${PROMTOOL:-promtool}
failed=0

# judge THING TOOL COMMAND...: prints a row of the table; the output of the command only when it fails.
judge() {
  local thing=$1 tool=$2 verdict=passed
  shift 2
  if ! "$@" >"$scratch/judged" 2>&1; then
    verdict=FAILED
    failed=1
  fi
  printf '%-60s %-24s %s\n' "$thing" "$tool" "$verdict"
  [ "$verdict" = passed ] || sed 's/^/    /' "$scratch/judged"
}

# scrape ACCEPT FILE
scrape() {
  curl -fsS -m 10 -H "Accept: $1" -o "$2" "http://127.0.0.1:$operator/metrics"
}

# shellcheck disable=SC2317 # judge calls it.
metrics_are_good() {
  "$promtool" check metrics <"$scratch/metrics.txt"
}

# ask CURL-ARGUMENT...: a request for a picture. Prints the status.
ask() {
  curl -sS -k -m 60 -o "$scratch/answer" -w '%{http_code}\n' -H 'Authorization: Bearer sk-sandbox' "$@"
}

# edit MODEL PROMPT
edit() {
  ask -F "model=$1" -F size=256x256 -F quality=low -F "prompt=$2" -F "image=@$SUITE_PICTURES/photo.png" \
    "https://127.0.0.1:$client/v1/images/edits"
}

# expect STATUS COMMAND...
expect() {
  local wanted=$1 got
  shift
  got=$("$@")
  [ "$got" = "$wanted" ] || die "$*: $got instead of $wanted: $(head -c 400 "$scratch/answer")"
}

need "$prometheus" 'apt-get install prometheus, or PROMETHEUS=FILE'
need "$promtool" 'apt-get install prometheus, or PROMTOOL=FILE'
need openssl 'apt-get install openssl'
prepare
read -r client operator text database <<<"$(free_ports 4)"

printf '%-60s %-24s %s\n' thing tool verdict
judge 'alerts.yml: rules' 'promtool check rules' "$promtool" check rules "$folder/alerts.yml"
judge 'alerts_test.yml: each alert fires and does not' 'promtool test rules' "$promtool" test rules "$folder/alerts_test.yml"
judge 'prometheus.yml: configuration' 'promtool check config' "$promtool" check config "$folder/prometheus.yml"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
  -keyout "$scratch/key.pem" -out "$scratch/certificate.pem" 2>/dev/null
serve sandbox "$client" "$operator" --sandbox --profile overloaded -- \
  GATEWAY_SERVER__TLS_CERTIFICATE_FILE="$scratch/certificate.pem" GATEWAY_SERVER__TLS_KEY_FILE="$scratch/key.pem" \
  GATEWAY_LIMITS__REQUESTS_PER_MINUTE=1000
simulator=$(sed -n 's|^ *simulator *\(http://[^/]*\)/.*|\1|p' "$scratch/sandbox.out")
[ -n "$simulator" ] || die 'the sandbox does not print the address of its simulator'
scrape text/plain "$scratch/metrics.txt"
judge 'metrics of a new gateway, as Prometheus text' 'promtool check metrics' \
  metrics_are_good

# A forwarder that asks for plain text, because Prometheus itself asks for OpenMetrics.
start forwarder python3 "$folder/check.py" forward "$text" "$operator"
wait_for forwarder "http://127.0.0.1:$text/metrics"
cat >"$scratch/prometheus.yml" <<YAML
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: ["$folder/alerts.yml"]
scrape_configs:
  - {job_name: gptproto-gateway, static_configs: [{targets: ["127.0.0.1:$operator"]}]}
  - {job_name: gptproto-gateway-text, static_configs: [{targets: ["127.0.0.1:$text"]}]}
YAML
start prometheus "$prometheus" --config.file="$scratch/prometheus.yml" --storage.tsdb.path="$scratch/database" \
  --web.listen-address="127.0.0.1:$database"
wait_for prometheus "http://127.0.0.1:$database/-/ready"
python3 "$folder/check.py" scraped "http://127.0.0.1:$database"

# The model that the profile refuses is refused until its patience ends, and meanwhile the others go on.
edit gpt-image-2 refused >/dev/null &
refused=$!
for round in 1 2 3; do expect 200 edit gpt-image-1.5 "round $round"; done
expect 200 edit gpt-image-1.5 'round 1'
curl -fsS -m 10 -o /dev/null -H 'content-type: application/json' \
  -d '{"on": "submit", "fault": "drop_after", "skip": 0, "times": 1}' "$simulator/_simulator/faults"
expect 502 edit gpt-image-1.5 'its answer is lost'
expect 200 ask -H 'content-type: application/json' \
  -d '{"model": "gpt-image-1.5", "size": "256x256", "quality": "low", "prompt": "a square"}' \
  "https://127.0.0.1:$client/v1/images/generations"
expect 404 ask "https://127.0.0.1:$client/v1/models/none"
kill "$refused" 2>/dev/null || true
wait "$refused" 2>/dev/null || true
# Some scrapes more.
sleep 3

scrape text/plain "$scratch/metrics.txt"
judge 'metrics after some traffic, as Prometheus text' 'promtool check metrics' \
  metrics_are_good
python3 "$folder/check.py" queries "http://127.0.0.1:$database" "$top" || failed=1
exit "$failed"
