#!/usr/bin/env bash
# Negative controls of kill_loop.py: breaks a copy of the gateway on purpose, and demands that the loop finds the fault.
#
# no-committing    the record before the last byte is not written: after a crash a purchase is forgotten
# forget-unknown   the restart treats an unknown outcome as abandoned, and its repeat buys again
# forget-formats   what is learned of request formats is not stored: each process is refused the same format again. Found with
#                  an upstream that refuses one (--profile no-inline).
# forget-keys      an idempotency key is not looked up in the journal: after a restart it buys again (--mix keys)
# wall-clock       the age of results and keys follows the wall clock: where that jumps ahead, what was paid for is deleted and keys
#                  buy again (--mix clock; needs libfaketime)
# no-bytes         a purchase is resolved without the bytes of its picture, which has no file, and nothing is fetched again (which
#                  would heal it): what was paid for is lost
# forget-webhooks  a start does not read the events that are pending: what ended before a crash is not reported (--mix webhooks)
#
# The working tree is not touched: the copy is in a temporary folder, its build in target/controls. There is no control for
# synchronous=OFF, because written data survives a killed process, synced or not.
#
# usage: tests/load/kill_controls.sh [CONTROL …]     (default all); needs Rust, git, perl and Python 3
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD

case ${1:-} in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' tests/load/kill_controls.sh; exit 0 ;;
esac

for tool in cargo git perl python3; do
  command -v "$tool" >/dev/null || { echo "kill_controls.sh needs $tool" >&2; exit 2; }
done
if [ ! -d target/controls ] && [ -d target/debug/deps ]; then
  # The compiled dependencies are the same.
  mkdir -p target/controls/debug
  cp -a target/debug/{deps,build,.fingerprint} target/controls/debug/
fi

scratch=$(mktemp -d -t kill-controls-XXXXXX)
trap 'rm -rf "$scratch"' EXIT

# replace FOLDER FROM TO: replaces a text that must be in exactly one line below the folder: a control that no longer
# applies is an error.
replace() {
  local folder=$1 from=$2 to=$3 file
  file=$(grep -rlF --include='*.rs' "$from" "$folder" || true)
  if [ ! -f "$file" ] || [ "$(grep -cF "$from" "$file")" != 1 ]; then
    echo "not in exactly one line below $folder: $from" >&2
    exit 2
  fi
  FROM=$from TO=$to perl -pi -e 's/\Q$ENV{FROM}\E/$ENV{TO}/' "$file"
}

sabotage() {
  case $1 in
    no-committing)
      replace src/engine 'cx.append(record, Step::Commit { purchase, submit });' \
        '{ drop(record); cx.push(Effect::Append { records: Vec::new(), step: Step::Commit { purchase, submit } }); }' ;;
    forget-unknown)
      replace src/engine 'ended.push(EndedAtStart { purchase: id, pictures, failure: failure.clone() });' \
        'let failure = if failure.may_have_been_bought() { Failure::Abandoned } else { failure };
            ended.push(EndedAtStart { purchase: id, pictures, failure: failure.clone() });' ;;
    forget-formats)
      replace src/app 'self.0.write(FORMAT_STATE, formats)' '{ let _ = (&self.0, FORMAT_STATE, formats); Ok(()) }' ;;
    forget-keys)
      replace src/engine 'let Some(stored) = stored.map_err(|_| Failure::JournalUnavailable)? else' \
        'let Some(stored) = stored.map_err(|_| Failure::JournalUnavailable)?.filter(|_| false) else' ;;
    wall-clock)
      replace src/storage/journal/sqlite/thread/running_clock.rs 'Arc::new(move || began.elapsed())' \
        '{ let _ = began; Arc::new(|| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()) }' ;;
    forget-webhooks)
      replace src/webhooks.rs 'let mut ask_for = Some(None);' 'let mut ask_for: Option<Option<JobId>> = None;' ;;
    no-bytes)
      replace src/engine 'Record::Resolved { purchase, upstream, poll_url, pictures, contents, usage: *usage, at: *at }' \
        '{ drop(contents); Record::Resolved { purchase, upstream, poll_url, pictures, contents: Vec::new(), usage: *usage, at: *at } }'
      replace src/engine 'match driver.refetch(stored, &purchases) {' \
        'match { let _ = (&stored, &purchases); if true { Err(crate::model::Failure::ResultLost { message: String::new() }) } else { driver.refetch(stored, &purchases) } } {' ;;
    *) echo "there is no control $1" >&2; exit 2 ;;
  esac
}

# The profile of the simulator in which a fault shows.
profile_of() {
  case $1 in
    forget-formats) echo no-inline ;;
    *) echo documented ;;
  esac
}

# What the clients ask for while the fault shows.
mix_of() {
  case $1 in
    forget-keys) echo keys ;;
    wall-clock) echo clock ;;
    forget-webhooks) echo webhooks ;;
    *) echo plain ;;
  esac
}

[ $# -gt 0 ] || set -- no-committing no-bytes forget-unknown forget-formats forget-keys forget-webhooks wall-clock
missed=0
for control in "$@"; do
  # The same folder for all, so that only what differs is built.
  rm -rf "$scratch/tree"
  mkdir "$scratch/tree"
  git ls-files -z --cached --others --exclude-standard | xargs -0 cp -p --parents -t "$scratch/tree"
  cd "$scratch/tree"
  sabotage "$control"
  # The broken code has warnings about unused items.
  CARGO_TARGET_DIR="$root/target/controls" cargo build --quiet --locked 2>"$scratch/warnings" || { cat "$scratch/warnings" >&2; exit 2; }
  cd "$root"
  set +e
  python3 tests/load/kill_loop.py --binary target/controls/debug/gptproto-gateway --kills 60 --seed 1 \
    --profile "$(profile_of "$control")" --mix "$(mix_of "$control")" >"$scratch/output" 2>&1
  code=$?
  set -e
  if [ "$code" = 1 ] && grep -q 'MUST BE 0' "$scratch/output"; then
    echo "$control: caught: $(grep 'MUST BE 0' "$scratch/output" | sed 's/ *MUST BE 0.*//; s/^ *//; s/  */ /g' | paste -sd, | sed 's/,/, /g')"
  else
    echo "$control: NOT CAUGHT (exit code $code)"
    tail -n 30 "$scratch/output"
    missed=1
  fi
  # A failed loop keeps its folder, which is not needed here.
  sed -n 's/^kept: //p' "$scratch/output" | xargs -r rm -rf
done
exit $missed
