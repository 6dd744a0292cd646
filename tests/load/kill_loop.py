#!/usr/bin/env python3
"""Kills the gateway repeatedly while clients buy pictures, and looks for purchases that were lost or made twice.

Clients send edits with unique prompts and retry when a connection breaks, as an SDK does, until they have a final answer.
Three logs are then compared: the clients' answers, the gateway's journal, and the simulator's acceptances
(lib/kills/verdict.py lists what must not be found).

  kills at random      --kills N      SIGKILL at a random moment, or at a random moment shortly after an event (a request,
                                      a commit of the journal, a purchase, an answer); the gateway is restarted at once,
                                      and one time in four killed again during its recovery
  stops                --signal term  the same with SIGTERM, with a grace of 0, 1 or 5 s, three times in ten followed by
                                      SIGKILL before the stop is complete
  kills at each call   --syscalls     one edit, killed at its k-th system call that changes something outside of the
                                      process, for each k; then the recovery of an accepted, a committing, a queued and an
                                      undelivered purchase, killed at each k of its start
                                      (--from, --to, --every select a part of the range; Linux 5.3 or newer)

With --profile NAME the simulator differs from the documents (config/profiles.toml), so that submits are refused for their
format, and what the gateway learns of formats has to outlast the kills (lib/kills/formats.py); one time in five it is made to
forget, so that kills hit what it does then. --syscalls then leaves the recovery out, which submits nothing.

A kill loses nothing that was written, synced or not, because the page cache survives the process. So this script cannot
tell synchronous=FULL from OFF; the simulation of `cargo test` drops unsynced data. tests/load/kill_controls.sh breaks a copy
of the gateway on purpose and demands that this script finds it. Exit codes: 0 nothing found, 1 found, 2 not carried out.

usage: tests/load/kill_loop.py [--kills 25] [--signal kill|term] [--cache on|off] [--pictures 1]
                                [--profile NAME] [--seed N] [--binary FILE] [--keep]
       tests/load/kill_loop.py --syscalls [--profile NAME] [--from K] [--to K] [--every N]
"""

import argparse
import random
import signal
import sys
import time
from collections import Counter

from lib.clients import ClientThreads
from lib.kills import points
from lib.kills.formats import FormatLog, print_formats, require_knowledge
from lib.kills.verdict import holds_unknown, judge, print_verdict
from lib.project import ROOT, any_binary, require
from lib.rig import PROFILES, Journal, Rig

WORKERS = 4
# Fast, and with pauses that lengthen the short phases of a purchase: a download comes in pieces.
SCENARIO = """
[life]
low_ms = [40, 220]
medium_ms = [40, 220]
size_counts = "no"
[limits]
poll_interval_min_ms = 0
[files]
piece_pause_ms = 2
"""
# The share of kills after which the gateway starts without what it had learned of request formats.
FORGET_SHARE = 0.2
# Seconds after which an operation without an answer counts as unanswered.
ANSWER_TIMEOUT_S = 60
STATES = ("not journalled", "intent", "committing", "accepted", "resolved", "delivered", "unknown", "failed")


def main():
    arguments = parse()
    require(arguments.binary)
    if arguments.syscalls:
        sys.exit(points.run(arguments))
    sys.exit(kill_at_random(arguments))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=None, help="of the moments and prompts; the timing of the machine stays random")
    parser.add_argument("--signal", choices=("kill", "term"), default="kill")
    parser.add_argument("--pictures", type=int, default=1, help="of one operation, each a prediction of its own")
    parser.add_argument("--cache", choices=("on", "off"), default="on")
    parser.add_argument("--binary", type=lambda text: ROOT.joinpath(text).resolve(), default=any_binary())
    parser.add_argument("--keep", action="store_true", help="keep the folder with the journal and the logs")
    parser.add_argument("--profile", choices=PROFILES, default="documented", help="how the simulator differs from the documents")
    parser.add_argument("--syscalls", action="store_true")
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--to", type=int, default=None, dest="last")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--part", choices=("edit", "recovery", "both"), default="both", help="of --syscalls")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1 << 32)
    return arguments


def kill_at_random(arguments):
    rng = random.Random(arguments.seed)
    began = time.monotonic()
    print(f"seed {arguments.seed}, {arguments.kills} kills by SIG{arguments.signal.upper()}, cache {arguments.cache}, profile {arguments.profile}, unknown purchases are "
          f"{'held' if holds_unknown() else 'not held'}, {arguments.binary}", flush=True)
    # Fewer places than clients, so that intents wait.
    rig = Rig(arguments.binary, WORKERS, SCENARIO, {
        "GATEWAY_CACHE__MODE": arguments.cache, "GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS": str(WORKERS - 1)}, arguments.pictures,
        profile=arguments.profile)
    failed = True
    try:
        rig.start()
        formats = FormatLog(rig)
        clients = ClientThreads(rig, arguments.seed, repeat_share=0.2 if arguments.cache == "on" else 0.0)
        states_at_kill, strategies, codes, kills, recoveries, damaged = Counter(), Counter(), Counter(), 0, 0, []
        while kills < arguments.kills:
            rig.call_simulator("PUT", "/_simulator/scenario", {"submit": {"delay_ms": rng.choice([0, 0, 0, 5, 30])}})
            strategies[wait_for_moment(rng, rig, clients)] += 1
            if arguments.signal == "kill":
                rig.kill()
            else:
                codes[stop(rng, rig)] += 1
            kills += 1
            formats.process_ended(clients.operations())
            record_states(rig, clients, states_at_kill, damaged)
            if arguments.profile != "documented" and rng.random() < FORGET_SHARE:
                formats.forget()
            rig.launch()
            while kills < arguments.kills and rng.random() < 0.25:
                time.sleep(rng.uniform(0, 0.12))
                rig.kill()
                kills += 1
                recoveries += 1
                formats.process_ended(clients.operations())
                note_damage(rig.journal(), damaged)
                rig.launch()
            rig.wait_until_ready()
            if kills % 25 == 0:
                print(f"  {kills} kills, {clients.begun()} operations, {clients.answered()} answered, "
                      f"{time.monotonic() - began:.0f} s", flush=True)
        clients.deadline = time.monotonic() + ANSWER_TIMEOUT_S
        operations = clients.finish(ANSWER_TIMEOUT_S + 5)
        until = time.monotonic() + ANSWER_TIMEOUT_S
        while not rig.idle() and time.monotonic() < until:
            time.sleep(0.05)
        code = rig.stop()
        formats.note(operations)
        accepted = rig.accepted()
        verdict = judge(operations, rig.pictures, rig.journal(), accepted, rig.directory / "results", holds_unknown(),
                        arguments.profile == "strict-plus")
        formats.judge(operations, accepted, rig.pictures, verdict)
        for problem in damaged:
            verdict.complain("damaged", problem)
        print(f"kills {kills}, of them {recoveries} during a recovery; {time.monotonic() - began:.0f} s; broken connections "
              f"{sum(operation.broken for operation in operations)}, answered operations repeated {sum(len(operation.repeats) for operation in operations)}")
        print("moments: " + ", ".join(f"{name} {count}" for name, count in sorted(strategies.items())))
        print("open operations at a kill, by the state of their newest prediction in the journal: "
              + ", ".join(f"{state} {states_at_kill[state]}" for state in STATES))
        if codes:
            print("stops by exit code: " + ", ".join(f"{code} {count}" for code, count in sorted(codes.items())))
        print_formats(verdict.counts, formats.processes)
        print_verdict(verdict, kills, "kills")
        failed = verdict.failed()
        codes[code] += 1
        # A graceful stop exits with 0, also when its grace runs out; `stop` kills some of them.
        if set(codes) - {0, -signal.SIGKILL}:
            print(f"! MUST BE 0: exit codes of stopped gateways: {dict(codes)}")
            failed = True
        if not failed:
            require_knowledge(arguments.profile, verdict.counts)
    finally:
        rig.close(arguments.keep or failed)
        if arguments.keep or failed:
            print(f"kept: {rig.folder}")
    return 1 if failed else 0


def stop(rng, rig):
    """Stops the gateway with SIGTERM, three times in ten followed by SIGKILL; returns its exit code."""
    rig.gateway.send_signal(signal.SIGTERM)
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0, 0.2))
        rig.gateway.send_signal(signal.SIGKILL)
    code = rig.gateway.wait(30)
    # For the next gateway: none, little, or enough for what is under way.
    rig.environment["GATEWAY_SERVER__SHUTDOWN_GRACE_S"] = rng.choice(["0", "1", "5"])
    return code


def wait_for_moment(rng, rig, clients):
    """Sleeps until the moment of the next kill; returns the kind of moment."""
    strategy = rng.choice(("any moment", "after a request", "after a commit", "after a commit", "after a purchase", "after an answer"))
    if strategy == "any moment":
        time.sleep(rng.uniform(0, 0.5))
        return strategy
    watched, longest_s = {
        "after a request": (clients.begun, 0.025),
        "after a commit": (lambda: modified(rig.directory / "journal.sqlite-wal"), 0.002),
        "after a purchase": (lambda: modified(rig.simulator_log), 0.012),
        "after an answer": (clients.answered, 0.004),
    }[strategy]
    changes = rng.randint(1, 8)
    until = time.monotonic() + 3
    before = watched()
    while changes and time.monotonic() < until:
        time.sleep(0.0003)
        now = watched()
        changes -= now != before
        before = now
    time.sleep(rng.uniform(0, longest_s))
    return strategy


def modified(path):
    return path.stat().st_mtime_ns if path.exists() else 0


def record_states(rig, clients, states_at_kill, damaged):
    """Counts what the journal knew of each open operation at the kill."""
    open_operations = [client.current for client in clients.clients]
    journal = rig.journal()
    note_damage(journal, damaged)
    for operation in filter(None, open_operations):
        row = journal.newest_of(operation.worker, operation.began_ms)
        if row is None:
            states_at_kill["not journalled"] += 1
        else:
            states_at_kill["delivered" if row["delivered_ms"] else row["state"]] += 1


def note_damage(journal: Journal, damaged):
    if journal.verdict != "ok":
        damaged.append(journal.verdict)


if __name__ == "__main__":
    main()
