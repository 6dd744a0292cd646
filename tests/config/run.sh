#!/usr/bin/env bash
# What the program writes for others, judged by others: the JSON Schema of the configuration by a validator, the completions by
# their shells, the manual pages by groff. Prints a line for each: what, who judged it, the verdict.
#
#     tests/config/run.sh
#
# Needs: cargo build --release (or BINARY=FILE), Python 3.11 with venv. bash judges its own completions; zsh, fish and groff judge
# theirs where they are installed, and are named where they are not. Packages are installed into tests/config/.venv.
set -euo pipefail
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$folder/../.." && pwd)
binary=$(realpath "${BINARY:-${CARGO_TARGET_DIR:-$top/target}/release/gptproto-gateway}" 2>/dev/null || true)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

row() {
  printf '%-34s %-28s %s\n' "$@"
}

[ -x "$binary" ] || die 'there is no program: cargo build --release, or BINARY=FILE'
command -v python3 >/dev/null || die 'python3 is missing: apt-get install python3 python3-venv'
if ! cmp -s "$folder/requirements.txt" "$folder/.venv/installed"; then
  python3 -m venv --clear "$folder/.venv" || die 'python3 cannot make a virtual environment: apt-get install python3-venv'
  "$folder/.venv/bin/pip" install --quiet --disable-pip-version-check -r "$folder/requirements.txt"
  cp "$folder/requirements.txt" "$folder/.venv/installed"
fi

cd "$scratch"
"$binary" config schema >schema.json
"$folder/.venv/bin/python" "$folder/schema.py" "$binary" schema.json "$top/config"

for shell in bash zsh fish; do
  "$binary" completions "$shell" >"completions.$shell"
  [ -s "completions.$shell" ] || die "completions $shell is empty"
  if command -v "$shell" >/dev/null; then
    "$shell" -n "completions.$shell" || die "$shell does not read its completions"
    row "completions of $shell" "$("$shell" --version | head -n 1 | cut -c 1-27)" 'can be read'
  else
    row "completions of $shell" "$shell is not installed" 'not judged'
  fi
done
# What the first words are completed to, in a shell that has loaded the script.
completed=$(bash -c '. ./completions.bash; COMP_WORDS=(gptproto-gateway config ""); COMP_CWORD=2
  _gptproto-gateway gptproto-gateway "" config; printf "%s " "${COMPREPLY[@]}"')
for word in print check schema; do
  case " $completed " in *" $word "*) ;; *) die "bash completes config to: $completed" ;; esac
done
row 'completion of: config' bash "$completed"

"$binary" man --directory man1 >pages
if command -v groff >/dev/null; then
  while read -r page; do
    groff -man -Tutf8 -ww "man1/$page" >"$page.txt" 2>"$page.warnings" || die "groff cannot format $page"
    [ ! -s "$page.warnings" ] || die "groff warns of $page: $(head -n 1 "$page.warnings")"
  done <pages
  row "$(wc -l <pages) manual pages" "$(groff --version | head -n 1)" 'no warning'
else
  row "$(wc -l <pages) manual pages" 'groff is not installed' 'not judged'
fi
