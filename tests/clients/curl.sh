#!/usr/bin/env bash
# curl as people type it, against a sandbox of the release binary and against a simulator with configurable faults, on the
# loopback, stopped at the end. Part of run.sh; also runs alone.
#
#     tests/clients/curl.sh
#
# Needs: cargo build --release, curl, python3.
set -euo pipefail
# shellcheck source=tests/clients/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

passed=0 failed=0 code=''

# ask PATH CURL-ARGUMENT...: leaves the status in `code`, the body in answer.json, the headers in answer.headers.
ask() {
  ask_as "Authorization: Bearer $SUITE_SANDBOX_KEY" "$@"
}

# ask_as KEY-HEADER PATH CURL-ARGUMENT...
ask_as() {
  ask_at "$SUITE_GATEWAY" "$@"
}

# ask_at GATEWAY KEY-HEADER PATH CURL-ARGUMENT...
ask_at() {
  local gateway=$1 key=$2 path=$3
  shift 3
  rm -f "$scratch/answer.json" "$scratch/answer.headers"
  code=$(curl -sS -m 60 -o "$scratch/answer.json" -D "$scratch/answer.headers" -w '%{http_code}' \
    -H "$key" "$gateway$path" "$@" 2>"$scratch/curl.err") ||
    code="curl failed: $(tail -1 "$scratch/curl.err")"
}

# Prints a prompt that was not used before, so that no answer comes from the cache.
fresh() {
  printf 'paint it blue %s%s' "$RANDOM" "$RANDOM$RANDOM"
}

# Sets `common` to the fields of every edit.
form() {
  common=(-F model=gpt-image-1.5 -F size=256x256 -F quality=low -F "prompt=$(fresh)")
}

# What an answer must be.
is_picture() {
  [ "$code" = 200 ] && python3 - "$scratch/answer.json" <<'PY'
import base64, json, struct, sys
item = json.load(open(sys.argv[1]))["data"][0]
picture = base64.b64decode(item["b64_json"], validate=True)
assert picture.startswith(b"\x89PNG\r\n\x1a\n") and struct.unpack(">II", picture[16:24]) == (256, 256)
PY
}

# is_error STATUS CODE
is_error() {
  [ "$code" = "$1" ] && python3 - "$scratch/answer.json" "$2" <<'PY'
import json, sys
error = json.load(open(sys.argv[1]))["error"]
assert error["code"] == sys.argv[2] and error["message"] and {"type", "param"} <= error.keys(), error
PY
}

has_header() {
  grep -qiE "^$1" "$scratch/answer.headers"
}

# verdict NAME CHECK...: counts one case.
verdict() {
  cell '' "$@"
}

# cell COLUMN NAME CHECK...: counts one case, which fills a cell of the table that run.sh prints.
cell() {
  local column=$1 name=$2 outcome=failed
  shift 2
  if "$@" 2>"$scratch/why"; then
    outcome=passed
    passed=$((passed + 1))
    printf 'ok      %s\n' "$name"
  else
    failed=$((failed + 1))
    printf 'FAILED  %s: status %s, %s %s\n' "$name" "$code" "$(head -c 300 "$scratch/answer.json" 2>/dev/null)" \
      "$(tail -1 "$scratch/why")"
  fi
  [ -z "$column" ] || printf '{"client":"curl","version":"%s","cell":"%s","verdict":"%s","test":"%s"}\n' "$version" \
    "$column" "$outcome" "$name" >>"$SUITE_RESULTS"
}

# control METHOD ROUTE [BODY]: a request to the control API of the simulator.
control() {
  curl -fsS -m 10 -o "$scratch/control" -X "$1" "$SUITE_SIMULATOR/_simulator/$2" ${3:+-d "$3"}
}

# bought COUNT: whether the simulator has received that number of submits.
bought() {
  control GET counters
  [ "$(grep -oE '"submits":[0-9]+' "$scratch/control" | head -1)" = "\"submits\":$1" ]
}

# streamed EVENT: whether the answer is a stream with this event alone, kept alive by comments.
streamed() {
  [ "$code" = 200 ] && has_header 'content-type: text/event-stream' && grep -q '^:' "$scratch/answer.json" &&
    [ "$(grep '^event: ' "$scratch/answer.json")" = "event: $1" ]
}

prepare
# run.sh has already started both and keeps the results.
: "${SUITE_RESULTS:=$scratch/results}"
if [ -z "${SUITE_GATEWAY:-}" ]; then
  start_sandbox
  start_rig curl
  for variable in "${rig[@]}"; do export "${variable?}"; done
fi
version=$(curl --version | head -1 | cut -d ' ' -f 2)
photo=$SUITE_PICTURES/photo.png second=$SUITE_PICTURES/second.png mask=$SUITE_PICTURES/mask.png
large=$SUITE_PICTURES/large.png

form
ask /v1/images/edits "${common[@]}" -F "image=@$photo"
cell edit 'one image' is_picture
verdict 'the answer has a request id' has_header 'x-request-id: req_'

ask /v1/images/edits "${common[@]}" -F "image=@$photo"
verdict 'an identical request is answered from the cache' has_header 'x-gateway-cache: hit'

form
ask /v1/images/edits "${common[@]}" -F "image[]=@$photo" -F "image[]=@$second"
cell list 'image[] twice' is_picture

form
ask /v1/images/edits "${common[@]}" -F "image=@$photo" -F "image=@$second"
verdict 'image twice' is_picture

form
ask /v1/images/edits "${common[@]}" -F "image[1]=@$second" -F "image[0]=@$photo"
verdict 'image[0] and image[1]' is_picture

form
ask /v1/images/edits "${common[@]}" -F "image=@$photo" -F "mask=@$mask"
cell mask 'a mask' is_picture

form
ask /v1/images/edits "${common[@]}" -F "image=@$photo;type=application/octet-stream"
cell bytes 'an image without a type' is_picture

form
[ "$(stat -c %s "$large")" -gt 1048576 ] || die 'large.png is not above 1 MB'
ask /v1/images/edits "${common[@]}" -F "image=@$large" -H 'Expect: 100-continue' --expect100-timeout 30 -v
verdict 'a large image after 100 Continue' is_picture
verdict 'the 100 Continue was sent' grep -q '^< HTTP/1.1 100' "$scratch/curl.err"

form
ask /v1/images/edits "${common[@]}" -F "image=@$photo" -H 'Transfer-Encoding: chunked'
verdict 'a chunked body' is_picture

form
ask /v1/images/edits/ "${common[@]}" -F "image=@$photo"
verdict 'a trailing slash' is_picture

form
ask /images/edits "${common[@]}" -F "image=@$photo"
verdict 'without /v1' is_picture

form
ask '/v1/images/edits?api-version=2025-04-01-preview' "${common[@]}" -F "image=@$photo"
verdict 'with an api-version' is_picture

form
ask_as "api-key: $SUITE_SANDBOX_KEY" /v1/images/edits "${common[@]}" -F "image=@$photo"
verdict 'the key as api-key' is_picture

form
ask /v1/images/edits "${common[@]}" -F "image=@$photo" -F response_format=url
address=$(grep -oE '"url":"[^"]+"' "$scratch/answer.json" | cut -d '"' -f 4 || true)
is_address() {
  [ "$code" = 200 ] && curl -fsS -m 10 -o "$scratch/picture" "$address" && head -c 8 "$scratch/picture" | grep -q PNG
}
cell url 'an address instead of base64' is_address

ask /v1/images/generations -H 'Content-Type: application/json' \
  -d "{\"model\":\"gpt-image-1.5\",\"size\":\"256x256\",\"quality\":\"low\",\"prompt\":\"$(fresh)\"}"
cell generate 'generations' is_picture

form
ask_as 'Authorization: Bearer sk-wrong' /v1/images/edits "${common[@]}" -F "image=@$photo"
cell errors 'a wrong key' is_error 401 invalid_api_key

form
ask_as 'X-No-Key: here' /v1/images/edits "${common[@]}" -F "image=@$photo"
cell errors 'no key' is_error 401 missing_api_key

form
ask /v1/images/edits "${common[@]}"
cell errors 'no image' is_error 400 missing_required_parameter

ask /v1/images/edits -d 'prompt=blue'
verdict 'a form that is no multipart form' is_error 400 unsupported_content_type

ask /v1/images/edits
verdict 'GET instead of POST' is_error 405 method_not_supported

ask /v1/images/variations -F "image=@$photo"
verdict 'the retired variations' is_error 400 endpoint_retired

ask /v1/embeddings -H 'Content-Type: application/json' -d '{}'
verdict 'an unknown path' is_error 404 unknown_url

key="Authorization: Bearer $SUITE_KEY"
control POST reset
form
ask_at "$SUITE_FAULTY" "$key" /v1/images/edits -F prompt=forbidden-picture -F "image=@$photo"
cell errors 'a forbidden prompt' is_error 400 moderation_blocked

control POST reset
control PUT scenario '{"balance":{"usd":0}}'
form
ask_at "$SUITE_FAULTY" "$key" /v1/images/edits "${common[@]}" -F "image=@$photo"
cell errors 'an exhausted balance' is_error 429 insufficient_quota

# Every picture takes three seconds now.
slow='{"life":{"low_ms":[300000,300000],"size_counts":"no"}}'
control POST reset
control PUT scenario "$slow"
form
ask_at "$SUITE_FAULTY" "$key" /v1/images/edits "${common[@]}" -F "image=@$photo" --retry 3 --max-time 2
cell retry "curl's retry after a timeout joins the purchase" is_picture
cell retry 'the retry buys nothing' bought 1

control POST reset
control PUT scenario "$slow"
form
ask_at "$SUITE_FAULTY" "$key" /v1/images/edits "${common[@]}" -F "image=@$photo" -F stream=true -N
cell stream 'a stream' streamed image_edit.completed

control POST reset
control PUT scenario '{"life":{"low_ms":[300000,300000],"size_counts":"no","outcome":"failed_provider"}}'
form
ask_at "$SUITE_FAULTY" "$key" /v1/images/edits "${common[@]}" -F "image=@$photo" -F stream=true -N
cell errors 'a failure within a stream' streamed error

# With the user agent of a client that accepts interim responses, because curl is not in the list.
control POST reset
control PUT scenario "$slow"
form
ask_at "$SUITE_INTERIM" "$key" /v1/images/edits "${common[@]}" -F "image=@$photo" -A 'aiohttp/3' -v
cell waits 'interim responses are not taken for the answer' is_picture
cell waits 'interim responses were sent' grep -q '^< HTTP/1.1 102' "$scratch/curl.err"
control POST reset

# A prediction in the background.
form
ask_at "$SUITE_FAULTY" "$key" /v1/images/edits "${common[@]}" -F "image=@$photo" -H 'Prefer: respond-async'
is_taken() {
  [ "$code" = 202 ] && has_header 'preference-applied: respond-async' && has_header 'location: /v1/predictions/pred_'
}
verdict 'Prefer: respond-async returns 202' is_taken
location=$(grep -i '^location: ' "$scratch/answer.headers" | tr -d '\r' | cut -d ' ' -f 2 || true)
ask_at "$SUITE_FAULTY" "$key" "$location" -H 'Prefer: wait=20'
is_completed() {
  [ "$code" = 200 ] && python3 - "$scratch/answer.json" <<'PY'
import base64, json, sys
answer = json.load(open(sys.argv[1]))
assert answer["status"] == "completed", answer
assert base64.b64decode(answer["result"]["data"][0]["b64_json"]).startswith(b"\x89PNG")
PY
}
verdict 'the result is fetched later' is_completed

page='Origin: https://app.example.com'
form
control POST reset
ask_at "$SUITE_FAULTY" "$key" /v1/images/edits "${common[@]}" -F "image=@$photo" -H "$page"
verdict 'a web page that is not listed is refused' [ "$code" = 403 ]
verdict 'the refused web page buys nothing' bought 0
ask_at "$SUITE_LENIENT" "$key" /v1/images/edits "${common[@]}" -F "image=@$photo" -H "$page"
allowed() {
  is_picture && has_header 'access-control-allow-origin: https://app.example.com' && has_header 'vary: .*origin'
}
verdict 'a web page that is listed' allowed
ask_at "$SUITE_LENIENT" 'X-No-Key: here' /v1/images/edits -X OPTIONS -H "$page" \
  -H 'Access-Control-Request-Method: POST' -H 'Access-Control-Request-Headers: authorization,content-type'
preflight() {
  [[ $code = 20[04] ]] && has_header 'access-control-allow-origin: https://app.example.com' &&
    has_header 'access-control-allow-headers: .*authorization' && has_header 'access-control-allow-methods: .*POST'
}
verdict 'its preflight' preflight
ask_at "$SUITE_LENIENT" "$key" /v1/images/edits "${common[@]}" -F "image=@$photo" -H 'Origin: https://evil.example'
verdict 'another web page than the listed one is refused' [ "$code" = 403 ]
ask_at "$SUITE_FAULTY" "$key" /v1/images/edits "${common[@]}" -F "image=@$photo" -H 'Host: evil.example'
verdict 'an unknown host name is refused' [ "$code" = 421 ]
ask_at "$SUITE_FAULTY" 'X-No-Key: here' /v1/images/generations -X OPTIONS
verdict "SillyTavern's OPTIONS" [ "$code" = 204 ]

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
