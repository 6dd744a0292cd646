#!/usr/bin/env bash
# Runs a coverage-guided fuzzer on each parser of bytes from outside: forms, JSON bodies, answers of the
# upstream, and pictures.
#
#     tests/fuzz/run.sh              # a minute for each target
#     tests/fuzz/run.sh 3600 json    # an hour for one
#
# Needs: cargo-fuzz (cargo install cargo-fuzz --locked), a C++ compiler. Uses a nightly toolchain where there is one, and
# otherwise the stable one with RUSTC_BOOTSTRAP=1. Inputs that reach new code are kept in target/fuzz/corpus; an input that
# fails is printed and kept in target/fuzz/artifacts. No sanitizer, because the project has no unsafe code: failures are
# panics, overflows, endless loops, and results that depend on how the input is cut into chunks.
set -euo pipefail

seconds=${1:-60}
[ $# = 0 ] || shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(form json answer picture)

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

failed=0
for target in "${targets[@]}"; do
  [ -d "$here/seeds/$target" ] || die "no target called $target; there are $(cd "$here/seeds" && echo *)"
  mkdir -p "$work/corpus/$target" "$work/artifacts/$target"
  log=$work/$target.log
  printf '== %s for %d s\n' "$target" "$seconds"
  cargo "${toolchain[@]}" fuzz run --dev --sanitizer none --fuzz-dir "$here" --target-dir "$work/build" "$target" \
    "$work/corpus/$target" "$here/seeds/$target" -- \
    -max_total_time="$seconds" -max_len=16384 -rss_limit_mb=4096 -timeout=20 -print_final_stats=1 \
    -dict="$here/$target.dict" -artifact_prefix="$work/artifacts/$target/" >"$log" 2>&1 || failed=1
  grep -E '(DONE|stat::number_of_executed_units|stat::peak_rss_mb)' "$log" || tail -n 40 "$log"
  printf 'corpus: %d inputs\n' "$(find "$work/corpus/$target" -type f | wc -l)"
done
[ "$failed" = 0 ] || die 'a target failed: see above'
