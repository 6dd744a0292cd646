#!/usr/bin/env bash
# Runs real OpenAI clients against the release binary, and programs that send the exact bytes of clients that cannot be
# installed in a test: against a sandbox, and against a simulator with configurable faults. Everything is on the loopback and
# is stopped at the end. Prints a line for each suite and a table of clients; the output of a suite only when it failed.
#
#     tests/clients/run.sh                 # everything
#     tests/clients/run.sh python node     # or some of: python node programs chat curl
#
# Needs: cargo build --release (or BINARY=FILE), Python 3.11 with venv, Node 20 with npm, curl. Packages
# are installed into tests/clients/.venv* (python/requirements) and tests/clients/node/node_modules (node/package.json).
set -euo pipefail
# shellcheck source=tests/clients/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(python node programs chat curl)
for suite in "${suites[@]}"; do
  case $suite in
    python | node | programs | chat | curl) ;;
    *) die "no suite called $suite; there are python, node, programs, chat and curl" ;;
  esac
done

# part NAME FOLDER COMMAND...: runs a part of a suite in a folder and prints its result in one line. Writes the counts of the
# runner to NAME.count.
part() {
  local name=$1 folder=$here/$2 status=0 begun=$SECONDS good bad output
  shift 2
  output=$scratch/${name//[^a-zA-Z0-9]/-}
  (cd "$folder" && "$@") >"$output.out" 2>&1 </dev/null || status=$?
  good=$(sum "$(closing_lines "$output.out" 'pass|passed')")
  bad=$(sum "$(closing_lines "$output.out" 'fail|failed|cancelled|errors?')")
  # A runner without counts, or that failed without a failed test, counts as one failure.
  [ $((good + bad)) -gt 0 ] && { [ "$status" = 0 ] || [ "$bad" -gt 0 ]; } || bad=1
  printf '%d %d\n' "$good" "$bad" >"$output.count"
  if [ "$bad" = 0 ]; then
    printf '%-32s %3d passed in %3d s\n' "$name" "$good" $((SECONDS - begun))
  else
    printf -- '--- %s, status %d\n' "$name" "$status"
    cat "$output.out"
    printf '%-32s %3d passed, %d FAILED\n' "$name" "$good" "$bad"
  fi
}

# closing_lines FILE WORDS: the counts with these words, as pytest, node's runner and the shell suites print them at their
# end: "2 failed, 41 passed, 1 error in 12.34s", "ℹ pass 38", "23 passed, 0 failed".
closing_lines() {
  { grep -E '^ℹ [a-z]+ [0-9]+$' "$1" || tail -n 1 "$1"; } | grep -oE "[0-9]+ ($2)\>|\<($2) [0-9]+" || true
}

# sum TEXT: the sum of all numbers in the text.
sum() {
  local number total=0
  while read -r number; do total=$((total + number)); done < <(grep -oE '[0-9]+' <<<"$1")
  printf '%d' "$total"
}

# pytest_part NAME VENV ARGUMENT...: the name begins with the row of the table that its results belong to.
pytest_part() {
  local name=$1 row=${1%%:*} venv=$2
  shift 2
  part "$name" python env "${rig[@]}" SUITE_CLIENT="$row" PYTHONDONTWRITEBYTECODE=1 "$here/$venv/bin/python" -m pytest --color=no "$@"
}

# node_part ROW NODE [VARIABLE=VALUE...] ARGUMENT...
node_part() {
  local row=$1 node=$2 variables=()
  shift 2
  while [[ $1 == *=* ]]; do
    variables+=("$1")
    shift
  done
  part "$row" node in_environment "${rig[@]}" SUITE_CLIENT="$row" "${variables[@]}" -- \
    "$node" --test --test-concurrency=1 --test-reporter=spec "$@"
}

# in_environment VARIABLE=VALUE... -- COMMAND...: like env, for functions too.
in_environment() (
  while [ "$1" != -- ]; do
    export "${1?}"
    shift
  done
  shift
  "$@"
)

# The lanes of each suite. They run side by side, because they mostly wait, each with gateways and a simulator of its own.
lanes_of() {
  case $1 in
    python) printf '%s\n' python_newest python_patient python_older ;;
    node) printf '%s\n' node_newest node_older ;;
    programs) printf '%s\n' programs_in_python programs_in_javascript ;;
    chat) printf '%s\n' chat_programs chat_in_python chat_in_javascript ;;
    curl) printf '%s\n' curl_alone ;;
  esac
}

python_tests=(test_sandbox.py test_faults.py test_stream.py)
node_tests=(sandbox.test.mjs faults.test.mjs waiting.test.mjs)

# The newest version runs all tests, the older ones those of the table.
python_newest() {
  pytest_part 'openai-python 3' .venv "${python_tests[@]}"
}

python_patient() {
  pytest_part 'openai-python 3: slow pictures' .venv test_waiting.py test_async.py
  pytest_part AzureOpenAI .venv test_azure.py
}

python_older() {
  pytest_part 'openai-python 2' .venv-openai2 -m cell "${python_tests[@]}" test_waiting.py
  pytest_part 'openai-python 1' .venv-openai1 -m cell "${python_tests[@]}" test_waiting.py
}

node_newest() {
  node_part 'openai-node 7' node22 SUITE_OPENAI=openai "${node_tests[@]}" stream.test.mjs
  node_part 'AI SDK 7' node22 ai-sdk.test.mjs
  node_part 'AI SDK 6' node SUITE_OPENAI=openai6 SUITE_AI=ai6 SUITE_AI_OPENAI=ai-sdk-openai6 ai-sdk.test.mjs
}

node_older() {
  node_part 'openai-node 6' node SUITE_OPENAI=openai6 SUITE_ONLY_CELLS=1 "${node_tests[@]}" stream.test.mjs
  node_part 'openai-node 5' node SUITE_OPENAI=openai5 SUITE_ONLY_CELLS=1 "${node_tests[@]}" stream.test.mjs
  # It cannot stream.
  node_part 'openai-node 4' node SUITE_OPENAI=openai4 SUITE_ONLY_CELLS=1 "${node_tests[@]}"
}

programs_in_python() {
  pytest_part replicas .venv programs/test_replicas.py
  pytest_part LiteLLM .venv-openai2 programs/test_litellm.py
  pytest_part pydantic-ai .venv programs/test_pydantic_ai.py
  pytest_part 'openai CLI' .venv-openai1 programs/test_openai_cli.py
}

programs_in_javascript() {
  node_part 'programs in JavaScript' node22 programs.test.mjs
}

# Chat completions: they fill no cell of the table, whose columns are those of the image API.
chat_programs() {
  pytest_part 'chat programs' .venv programs/test_chat_programs.py
}

chat_in_python() {
  pytest_part 'openai-python 3: chat' .venv test_chat.py
  pytest_part 'openai-python 2: chat' .venv-openai2 test_chat.py
  pytest_part 'openai-python 1: chat' .venv-openai1 test_chat.py
}

chat_in_javascript() {
  node_part 'openai-node 7: chat' node22 SUITE_OPENAI=openai chat.test.mjs
  node_part 'openai-node 6: chat' node SUITE_OPENAI=openai6 chat.test.mjs
  node_part 'openai-node 5: chat' node SUITE_OPENAI=openai5 chat.test.mjs
  node_part 'openai-node 4: chat' node SUITE_OPENAI=openai4 chat.test.mjs
}

curl_alone() {
  part curl . in_environment "${rig[@]}" SUITE_CLIENT=curl -- "$here/curl.sh"
}

install() {
  case $1 in
    python)
      install_python
      install_venv .venv-openai2 openai2
      install_venv .venv-openai1 openai1
      ;;
    node) install_node ;;
    programs | chat)
      install_python
      install_venv .venv-openai2 openai2
      install_venv .venv-openai1 openai1
      install_node
      ;;
    curl) ;;
  esac
}

prepare
for suite in "${suites[@]}"; do install "$suite"; done
# lib/answers.py needs it.
install_python

export SUITE_RESULTS=$scratch/results
: >"$SUITE_RESULTS"
start_sandbox
lanes=()
for suite in "${suites[@]}"; do
  for lane in $(lanes_of "$suite"); do
    start_rig "$lane"
    "$lane" &
    lanes+=($!)
    pids+=($!)
  done
done
for lane in "${lanes[@]}"; do wait "$lane"; done
logs_shown=no

printf '\n'
failed=0
"$here/.venv/bin/python" "$here/lib/answers.py" "$scratch"/*.answers || failed=1
printf '\n'
python3 "$here/lib/table.py" "$SUITE_RESULTS" "${suites[@]}" || failed=$((failed + 1))

counts=$(cat "$scratch"/*.count)
passed=$(sum "$(cut -d ' ' -f 1 <<<"$counts")")
failed=$((failed + $(sum "$(cut -d ' ' -f 2 <<<"$counts")")))
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
