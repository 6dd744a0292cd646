# shellcheck shell=bash
# Sourced by the checks of this folder: rows of a table, and waiting. `scratch` is their folder.

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

# row THING TOOL VERDICT
row() {
  printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"${scratch:?}/rows"
}

# judge THING TOOL COMMAND...: the verdict is that of the command; its output is shown when it fails.
judge() {
  local thing=$1 tool=$2
  shift 2
  if "$@" >"$scratch/output" 2>&1; then
    row "$thing" "$tool" ok
  else
    row "$thing" "$tool" FAILED
    { printf '%s:\n' "$thing"; sed 's/^/    /' "$scratch/output"; } >&2
  fi
}

not() {
  ! "$@"
}

# Waits until a command succeeds, for 30 s at most.
until_it_works() {
  local tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 150 ] || return 1
    sleep 0.2
  done
}

# edit PORT KEY PROMPT: edits a picture; the answer must have a picture in it.
edit() {
  python3 - "${top:?}" >"$scratch/picture.png" <<'PY'
import sys
sys.path.append(f"{sys.argv[1]}/tests/load")
from lib.pictures import png
sys.stdout.buffer.write(png("a picture to edit"))
PY
  "${at[@]}" curl -sS -m 90 "http://127.0.0.1:$1/v1/images/edits" -H "Authorization: Bearer $2" -F model=gpt-image-1.5 -F quality=low \
    -F size=256x256 -F "prompt=$3" -F "image=@$scratch/picture.png" | tee "$scratch/answer" | grep -q '"b64_json"' || { head -c 600 "$scratch/answer"; return 1; }
}

# What a request is made through; nothing, where it is made from here.
at=()

# Prints the rows as a table; fails when one of them did.
print_rows() {
  local thing tool verdict
  printf '%-58s %-34s %s\n' thing tool verdict
  while IFS=$'\t' read -r thing tool verdict; do printf '%-58s %-34s %s\n' "$thing" "$tool" "$verdict"; done <"$scratch/rows"
  ! grep -q $'\tFAILED' "$scratch/rows"
}
