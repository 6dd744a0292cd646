#!/usr/bin/env python3
"""Kills the gateway repeatedly while clients buy pictures, and looks for purchases that were lost or made twice.

Clients send edits with unique prompts and retry when a connection breaks, as an SDK does, until they have a final answer.
Three logs are then compared: the clients' answers, the gateway's journal, and the simulator's acceptances
(lib/kills/verdict.py lists what must not be found).

  kills at random      --kills N      SIGKILL at a random moment, at a random moment shortly after an event (a request, a commit
                                      of the journal, a purchase, an answer), or when the journal shows an open operation in a
                                      state that was seldom hit so far; the gateway is restarted at once, and one time in four
                                      killed again during its recovery
  stops                --signal term  the same with SIGTERM, with a grace of 0, 1 or 5 s, three times in ten followed by
                                      SIGKILL before the stop is complete
  kills at each call   --syscalls     one edit, killed at its k-th system call that changes something outside of the
                                      process, for each k; then the recovery of an accepted, a committing, a queued and an
                                      undelivered purchase, killed at each k of its start
                                      (--from, --to, --every select a part of the range; Linux 5.3 or newer)

--mix NAME chooses what the clients ask for and what happens to the gateway (lib/kills/mixes.py); all: one mix after the other,
each with its share of the kills.

  plain      edits in one call                         accounts   two upstream accounts, of which one is refused at times
  several    three purchases an operation              links      pictures that the upstream fetches; results as addresses
  keys       idempotency keys, without the cache       large      pictures of 20 MB that arrive slowly
  streams    stream: true                              pauses     SIGSTOP for 1 to 60 s, scaled by 20; a kill half of the times
  webhooks   Prefer: respond-async, with a webhook     clock      the wall clock jumps by 2 days, 10 years, or a day back, and
  held       the same, fetched by requests that wait              back again, while the gateway runs and between its processes
  together   six of these clients at once                         (needs libfaketime; its monotonic clock stays right)

With --profile NAME the simulator differs from the documents (config/profiles.toml), so that submits are refused for their
format, and what the gateway learns of formats has to outlast the kills (lib/kills/formats.py); one time in five it is made to
forget, so that kills hit what it does then. --syscalls then leaves the recovery out, which submits nothing.

A kill loses nothing that was written, synced or not, because the page cache survives the process. So this script cannot
tell synchronous=FULL from OFF; the simulation of `cargo test` drops unsynced data. tests/load/kill_controls.sh breaks a copy
of the gateway on purpose and demands that this script finds it. Exit codes: 0 nothing found, 1 found, 2 not carried out, 3 a run
of all mixes with 1000 kills or more had less than 20 landings in a state or 50 in a mix.

usage: tests/load/kill_loop.py [--kills 25] [--mix NAME|all] [--signal kill|term] [--cache on|off] [--pictures 1]
                                [--profile NAME] [--seed N] [--binary FILE] [--keep]
       tests/load/kill_loop.py --syscalls [--profile NAME] [--from K] [--to K] [--every N]
"""

import argparse
import dataclasses
import hashlib
import math
import random
import signal
import sqlite3
import sys
import time

from lib.kills import mixes, points
from lib.kills.answers import judge_webhooks
from lib.kills.disturbances import Run, faketime
from lib.kills.formats import FormatLog, print_formats, require_knowledge
from lib.kills.kinds import Notified
from lib.kills.moments import STATES, Landings
from lib.kills.verdict import Evidence, Verdict, holds_unknown, judge, print_verdict
from lib.project import ROOT, any_binary, give_up, require
from lib.rig import PROFILES, call

# Seconds after which an operation without an answer counts as unanswered.
ANSWER_TIMEOUT_S = 60
# What a run of all mixes with at least this number of kills has to hit.
WHOLE_RUN_KILLS, STATE_LANDINGS_MIN, MIX_LANDINGS_MIN = 1000, 20, 50


def main():
    arguments = parse()
    require(arguments.binary)
    if arguments.syscalls:
        sys.exit(points.run(arguments))
    sys.exit(kill_at_random(arguments))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--mix", default="plain", help=f"all, {', '.join(mixes.MIXES)}")
    parser.add_argument("--seed", type=int, default=None, help="of the moments and prompts; the timing of the machine stays random")
    parser.add_argument("--signal", choices=("kill", "term"), default="kill")
    parser.add_argument("--pictures", type=int, default=None, help="of one operation, each a prediction of its own; default: by the mix")
    parser.add_argument("--cache", choices=("on", "off"), default=None, help="default: by the mix")
    parser.add_argument("--binary", type=lambda text: ROOT.joinpath(text).resolve(), default=any_binary())
    parser.add_argument("--keep", action="store_true", help="keep the folder with the journal and the logs")
    parser.add_argument("--profile", choices=PROFILES, default="documented", help="how the simulator differs from the documents")
    parser.add_argument("--syscalls", action="store_true")
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--to", type=int, default=None, dest="last")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--part", choices=("edit", "recovery", "both"), default="both", help="of --syscalls")
    arguments = parser.parse_args()
    if arguments.profile != "documented" and arguments.mix != "plain":
        parser.error("--profile goes with --mix plain")
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1 << 32)
    return arguments


def kill_at_random(arguments):
    began = time.monotonic()
    chosen = mixes.named(arguments.mix)
    if any(mix.disturbance == "clock" for mix in chosen):
        faketime()
    print(f"seed {arguments.seed}, {arguments.kills} kills by SIG{arguments.signal.upper()}, mix {arguments.mix}, "
          f"profile {arguments.profile}, unknown purchases are {'held' if holds_unknown() else 'not held'}, {arguments.binary}", flush=True)
    landings, total, processes = Landings(), Verdict(), 0
    for mix in chosen:
        mix = dataclasses.replace(mix, pictures=arguments.pictures or mix.pictures, cache=arguments.cache or mix.cache)
        kills = math.ceil(arguments.kills * mix.share / sum(one.share for one in chosen))
        began_mix = time.monotonic()
        verdict, formats = one_mix(mix, kills, arguments, landings)
        landings.seconds[mix.name] += time.monotonic() - began_mix
        processes += formats.processes if formats else 0
        total.add(verdict, mix.name)
    made = sum(landings.kills.values())
    print(f"kills {made}, of them {sum(landings.recoveries.values())} during a recovery; {time.monotonic() - began:.0f} s; broken "
          f"connections {total.counts['broken connections']}, answered operations repeated {total.counts['repeats']}")
    landings.print_table()
    if arguments.profile != "documented":
        print_formats(total.counts, processes)
    print_verdict(total, made, "kills")
    if total.failed():
        return 1
    require_knowledge(arguments.profile, total.counts)
    return 3 if arguments.mix == "all" and arguments.kills >= WHOLE_RUN_KILLS and not hits_everything(landings) else 0


def one_mix(mix, kills, arguments, landings):
    """Disturbs one mix; returns its verdict, and what was seen of request formats."""
    seed = f"{arguments.seed}/{mix.name}" if arguments.mix == "all" else str(arguments.seed)
    began = time.monotonic()
    stage = mixes.Stage(mix, arguments, seed)
    failed = True
    try:
        rig = stage.rig
        formats = FormatLog(rig) if arguments.profile != "documented" else None
        run = Run(stage, arguments, landings, formats, random.Random(seed))
        stage.begin()
        reported = 0
        while landings.kills[mix.name] < kills:
            run.one()
            made = landings.kills[mix.name]
            if made // 25 > reported:
                reported = made // 25
                print(f"  {mix.name}: {made} kills, {stage.clients.begun()} operations, {stage.clients.answered()} answered, "
                      f"{time.monotonic() - began:.0f} s", flush=True)
        verdict = settle(stage, run, formats)
        failed = verdict.failed()
        print(f"{mix.name}: {landings.kills[mix.name]} kills, {verdict.counts['operations']} operations, {time.monotonic() - began:.0f} s"
              + (f", {len(verdict.complaints)} COMPLAINTS" if failed else ""), flush=True)
        if run.clock and not run.clock.seen:
            give_up("no job was journalled while the clock was wrong: nothing was tested")
        return verdict, formats
    finally:
        stage.close(arguments.keep or failed)
        if arguments.keep or failed:
            print(f"kept: {stage.rig.folder}")


def settle(stage, run, formats):
    """Lets all operations end, stops the gateway and compares the logs."""
    rig, mix, clients = stage.rig, stage.mix, stage.clients
    stage.calm()
    clients.deadline = time.monotonic() + ANSWER_TIMEOUT_S
    operations = clients.finish(ANSWER_TIMEOUT_S + 5)
    until = time.monotonic() + ANSWER_TIMEOUT_S
    while not (rig.idle() and no_event_is_pending(rig)) and time.monotonic() < until:
        time.sleep(0.05)
    run.codes[rig.stop()] += 1
    if formats:
        formats.note(operations)
    accepted = rig.accepted()
    evidence = Evidence(digests_of(rig, accepted, operations), dict(zip(mix.upstream_keys, mix.accounts)), mix.evicts,
                        rig.profile == "strict-plus")
    journal = rig.journal()
    verdict = judge(operations, mix.pictures, journal, accepted, rig.directory / "results", holds_unknown(), evidence)
    judge_webhooks(journal, [client for client in clients.clients if isinstance(client, Notified)], stage.helper, verdict)
    if formats:
        formats.judge(operations, accepted, mix.pictures, verdict)
    for problem in run.damaged:
        verdict.complain("damaged", problem)
    # A graceful stop exits with 0, also when its grace runs out; `stop` kills some of them.
    for code in set(run.codes) - {0, -signal.SIGKILL}:
        verdict.complain("exit codes", f"{run.codes[code]} gateways stopped with {code}", run.codes[code])
    verdict.counts["broken connections"] += sum(operation.broken for operation in operations)
    verdict.counts["repeats"] += sum(len(operation.repeats) for operation in operations)
    return verdict


def no_event_is_pending(rig):
    connection = sqlite3.connect(f"file:{rig.directory / 'journal.sqlite'}?mode=ro", uri=True, timeout=5)
    try:
        return connection.execute("SELECT count(*) FROM webhooks WHERE ended_ms IS NULL").fetchone()[0] == 0
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()


def digests_of(rig, accepted, operations):
    """Returns the SHA-256 of what the simulator delivers for each purchase that was answered with a picture."""
    answered = {operation.prompt for operation in operations
                if any(answer.status == 200 for answer in operation.answers + operation.repeats)}
    digests = {}
    for purchase in accepted:
        if purchase["prompt"] in answered and purchase["state"] == "completed":
            status, _, data = call(rig.simulator_port, "GET", f"/files/{purchase['id']}/0.png")
            if status == 200:
                digests[purchase["id"]] = hashlib.sha256(data).hexdigest()
    return digests


def hits_everything(landings):
    missed = [f"{state} {landings.of_state(state)}" for state in STATES if landings.of_state(state) < STATE_LANDINGS_MIN]
    missed += [f"{mix} {landings.of_mix(mix)}" for mix in landings.kills if landings.of_mix(mix) < MIX_LANDINGS_MIN]
    if missed:
        print(f"aim missed: at least {STATE_LANDINGS_MIN} landings in each state and {MIX_LANDINGS_MIN} in each mix: {', '.join(missed)}")
    return not missed


if __name__ == "__main__":
    main()
