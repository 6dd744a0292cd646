#!/usr/bin/env python3
"""Kills the gateway with SIGKILL again and again while clients buy pictures, and looks for money lost or spent twice.

Clients want edits of unique prompts and repeat a request whose connection broke, as an SDK would, until they have a
final answer. Three logs are then compared: the clients' answers, the gateway's journal, and the simulator's acceptances
(crash_verdict.py says what is looked for).

  kills at random      --kills N      killed at a moment that is random, or random shortly after something happened (a
                                      request, a commit of the journal, a purchase, an answer), restarted at once, and
                                      one time in four killed again while it recovers
  stops                --signal term  the same with SIGTERM, with a grace from none to enough, and SIGKILL now and then
                                      in the midst of it
  kills at each call   --syscalls     one edit with a kill at its k-th system call that changes something outside of the
                                      process, for each k; then, likewise, a recovery of an accepted, a committing, a
                                      queued and an undelivered purchase, killed at each k of its start
                                      (--from, --to, --every take a part of the range; Linux 5.3 or newer)

A kill loses nothing that was written, synced or not: the page cache survives the process. So nothing here can tell
synchronous=FULL from OFF; only a test that drops unsynced data can. tests/load/kill_controls.sh breaks a copy of the
gateway on purpose and demands that this finds it. Exit codes: 0 nothing found, 1 found, 2 it could not be tried.

usage: tests/load/kill_loop.py [--kills 25] [--signal kill|term] [--cache on|off] [--pictures 1]
                                [--seed N] [--binary FILE] [--keep]
       tests/load/kill_loop.py --syscalls [--from K] [--to K] [--every N]
"""

import argparse
import random
import signal
import sys
import time
from collections import Counter

from crash_kit import ROOT, Crowd, Journal, World, default_binary, give_up
from crash_verdict import judge, print_verdict

WORKERS = 4
# Fast, and with pauses that make the short moments of a purchase longer: a download comes in pieces.
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
# Seconds after which whoever still has no answer will not get one.
RESPONSE_TIMEOUT_S = 60
STATES = ("not journalled", "intent", "committing", "accepted", "resolved", "delivered", "unknown", "failed")


def main():
    arguments = parse()
    if not arguments.binary.exists():
        give_up(f"{arguments.binary} is missing: run cargo build --release, or name a binary with --binary")
    if arguments.syscalls:
        import crash_points
        sys.exit(crash_points.run(arguments))
    sys.exit(kill_at_random(arguments))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=None, help="of the moments and prompts; what the machine adds stays random")
    parser.add_argument("--signal", choices=("kill", "term"), default="kill")
    parser.add_argument("--pictures", type=int, default=1, help="of one wish, each a prediction of its own")
    parser.add_argument("--cache", choices=("on", "off"), default="on")
    parser.add_argument("--binary", type=lambda text: ROOT.joinpath(text).resolve(), default=default_binary())
    parser.add_argument("--keep", action="store_true", help="keep the folder with the journal and the logs")
    parser.add_argument("--syscalls", action="store_true")
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--to", type=int, default=None, dest="last")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--part", choices=("edit", "recovery", "both"), default="both", help="of --syscalls")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1 << 32)
    return arguments


def holds_unknown():
    """Whether this version refuses to repeat an unknown purchase, which is its default where it knows the setting."""
    return 'on_unknown = "hold"' in (ROOT / "config" / "default.toml").read_text()


def kill_at_random(arguments):
    chance = random.Random(arguments.seed)
    began = time.monotonic()
    print(f"seed {arguments.seed}, {arguments.kills} kills by SIG{arguments.signal.upper()}, cache {arguments.cache}, unknown purchases are "
          f"{'held' if holds_unknown() else 'not held'}, {arguments.binary.relative_to(ROOT.parent)}", flush=True)
    # Fewer places than clients, so that intents wait.
    world = World(arguments.binary, WORKERS, SCENARIO, {
        "GATEWAY_CACHE__MODE": arguments.cache, "GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS": str(WORKERS - 1)}, arguments.pictures)
    failed = True
    try:
        world.start()
        crowd = Crowd(world, arguments.seed, again_share=0.2 if arguments.cache == "on" else 0.0)
        landings, strategies, codes, kills, recoveries, damaged = Counter(), Counter(), Counter(), 0, 0, []
        while kills < arguments.kills:
            world.tell_simulator("PUT", "/_simulator/scenario", {"submit": {"delay_ms": chance.choice([0, 0, 0, 5, 30])}})
            strategies[wait_for_a_moment(chance, world, crowd)] += 1
            if arguments.signal == "kill":
                world.kill()
            else:
                codes[stop(chance, world)] += 1
            kills += 1
            land(world, crowd, landings, damaged)
            world.launch()
            while kills < arguments.kills and chance.random() < 0.25:
                time.sleep(chance.uniform(0, 0.12))
                world.kill()
                kills += 1
                recoveries += 1
                note_damage(world.journal(), damaged)
                world.launch()
            world.wait_until_ready()
            if kills % 25 == 0:
                print(f"  {kills} kills, {crowd.begun()} wishes, {crowd.answered()} answered, "
                      f"{time.monotonic() - began:.0f} s", flush=True)
        crowd.deadline = time.monotonic() + RESPONSE_TIMEOUT_S
        wishes = crowd.finish(RESPONSE_TIMEOUT_S + 5)
        until = time.monotonic() + RESPONSE_TIMEOUT_S
        while not world.idle() and time.monotonic() < until:
            time.sleep(0.05)
        code = world.stop()
        verdict = judge(wishes, world.pictures, world.journal(), world.accepted(), world.directory / "results", holds_unknown())
        for problem in damaged:
            verdict.complain("damaged", problem)
        print(f"kills {kills}, of them {recoveries} during a recovery; {time.monotonic() - began:.0f} s; broken connections "
              f"{sum(wish.broken for wish in wishes)}, answered wishes asked again {sum(len(wish.asked_again) for wish in wishes)}")
        print("moments: " + ", ".join(f"{name} {count}" for name, count in sorted(strategies.items())))
        print("open wishes at a kill, by the state of their newest prediction in the journal: "
              + ", ".join(f"{state} {landings[state]}" for state in STATES))
        if codes:
            print("stops by exit code: " + ", ".join(f"{code} {count}" for code, count in sorted(codes.items())))
        print_verdict(verdict, kills, "kills")
        failed = verdict.failed()
        codes[code] += 1
        # A stop that outlives its grace is cut short, and still a good stop.
        if set(codes) - {0, -signal.SIGKILL}:
            print(f"! MUST BE 0: exit codes of stopped gateways: {dict(codes)}")
            failed = True
    finally:
        world.close(arguments.keep or failed)
        if arguments.keep or failed:
            print(f"kept: {world.folder}")
    return 1 if failed else 0


def stop(chance, world):
    """Stops the gateway with SIGTERM, and now and then with SIGKILL before that is over; returns its exit code."""
    world.gateway.send_signal(signal.SIGTERM)
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0, 0.2))
        world.gateway.send_signal(signal.SIGKILL)
    code = world.gateway.wait(30)
    # Of the next one: none, hardly any, or enough for what runs.
    world.environment["GATEWAY_SERVER__SHUTDOWN_GRACE_S"] = chance.choice(["0", "1", "5"])
    return code


def wait_for_a_moment(chance, world, crowd):
    """Sleeps until it is time for a kill; returns what it waited for."""
    strategy = chance.choice(("any moment", "after a request", "after a commit", "after a commit", "after a purchase", "after an answer"))
    if strategy == "any moment":
        time.sleep(chance.uniform(0, 0.5))
        return strategy
    watched, longest_s = {
        "after a request": (crowd.begun, 0.025),
        "after a commit": (lambda: modified(world.directory / "journal.sqlite-wal"), 0.002),
        "after a purchase": (lambda: modified(world.simulator_log), 0.012),
        "after an answer": (crowd.answered, 0.004),
    }[strategy]
    changes = chance.randint(1, 8)
    until = time.monotonic() + 3
    before = watched()
    while changes and time.monotonic() < until:
        time.sleep(0.0003)
        now = watched()
        changes -= now != before
        before = now
    time.sleep(chance.uniform(0, longest_s))
    return strategy


def modified(path):
    return path.stat().st_mtime_ns if path.exists() else 0


def land(world, crowd, landings, damaged):
    """Notes what the journal knew of each open wish at the kill."""
    open_wishes = [client.current for client in crowd.clients]
    journal = world.journal()
    note_damage(journal, damaged)
    for wish in filter(None, open_wishes):
        order = journal.newest_of(wish.worker, wish.began_ms)
        if order is None:
            landings["not journalled"] += 1
        else:
            landings["delivered" if order["delivered_ms"] else order["state"]] += 1


def note_damage(journal: Journal, damaged):
    if journal.verdict != "ok":
        damaged.append(journal.verdict)


if __name__ == "__main__":
    main()
