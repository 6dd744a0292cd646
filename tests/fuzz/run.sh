#!/usr/bin/env bash
# Runs a coverage-guided fuzzer on each parser of bytes from outside: forms, JSON bodies, chat completions, compressed bodies,
# answers of the upstream, pictures, and the conversion of input pictures.
#
#     tests/fuzz/run.sh              # a minute for each target
#     tests/fuzz/run.sh 3600 json    # an hour for one
#     tests/fuzz/run.sh --keep       # stores what was found, so that later runs begin with it
#
# Needs: cargo-fuzz (cargo install cargo-fuzz --locked), a C++ compiler. Uses a nightly toolchain where there is one, and
# otherwise the stable one with RUSTC_BOOTSTRAP=1. A run begins with the inputs of tests/fuzz/seeds and of the archives beside it. Inputs
# that reach new code are kept in target/fuzz/corpus, from which --keep selects the smallest set that reaches the same code; an
# input that fails is printed and kept in target/fuzz/artifacts. No sanitizer, because the project has no unsafe code: failures are
# panics, overflows, endless loops, and results that depend on how the input is cut into chunks.
set -euo pipefail

mode=run
if [ "${1:-}" = --keep ]; then
  mode=keep
  shift
  seconds=0
else
  seconds=${1:-60}
  [ $# = 0 ] || shift
fi
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(form json chat answer picture input unpack)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
work=$top/target/fuzz

die() {
  printf 'fuzz: %s\n' "$*" >&2
  exit 1
}

cargo fuzz --version >/dev/null 2>&1 || die 'cargo-fuzz is missing: cargo install cargo-fuzz --locked'
command -v c++ >/dev/null || die 'a C++ compiler is missing: apt-get install g++'
if rustc +nightly --version >/dev/null 2>&1; then
  toolchain=(+nightly)
else
  toolchain=()
  export RUSTC_BOOTSTRAP=1
fi

# fuzz TARGET FOLDER... -- ARGUMENTS: builds the target and runs it on the inputs of these folders.
fuzz() {
  local target=$1
  shift
  cargo "${toolchain[@]}" fuzz run --dev --sanitizer none --fuzz-dir "$here" --target-dir "$work/build" "$target" "$@" \
    -max_len=16384 -rss_limit_mb=4096 -timeout=20 -artifact_prefix="$work/artifacts/$target/"
}

# Packs a folder so that the same inputs make the same bytes.
pack() {
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar -C "$1" -cf - . | gzip -9n >"$2"
}

failed=0
for target in "${targets[@]}"; do
  [ -d "$here/seeds/$target" ] || die "no target called $target; there are $(cd "$here/seeds" && echo *)"
  corpus=$work/corpus/$target kept=$here/corpus/$target.tar.gz log=$work/$target.log
  mkdir -p "$corpus" "$work/artifacts/$target"
  [ ! -f "$kept" ] || tar -xzf "$kept" -C "$corpus" --skip-old-files
  if [ "$mode" = keep ]; then
    least=$work/least/$target
    rm -rf "$least"
    mkdir -p "$least" "$here/corpus"
    fuzz "$target" "$least" "$here/seeds/$target" "$corpus" -- -merge=1 >"$log" 2>&1 || { tail -n 40 "$log"; die "merging the inputs of $target failed"; }
    pack "$least" "$kept"
    printf '%s: %d of %d inputs kept, %d KB\n' "$target" "$(find "$least" -type f | wc -l)" "$(find "$corpus" -type f | wc -l)" \
      "$(($(stat -c %s "$kept") / 1024))"
    continue
  fi
  printf '== %s for %d s\n' "$target" "$seconds"
  fuzz "$target" "$corpus" "$here/seeds/$target" -- -max_total_time="$seconds" -print_final_stats=1 -dict="$here/$target.dict" \
    >"$log" 2>&1 || failed=1
  grep -E '(DONE|stat::number_of_executed_units|stat::peak_rss_mb)' "$log" || tail -n 40 "$log"
  printf 'corpus: %d inputs\n' "$(find "$corpus" -type f | wc -l)"
done
[ "$failed" = 0 ] || die 'a target failed: see above'
