#!/usr/bin/env python3
"""How well the gateway uses a budget that nobody tells it, and how justly it deals it out.

Each scene starts the release binary twice, as simulator with a hidden budget and as gateway that does not know it, and
lets many clients ask over loopback. Prints a table and ends with 1 when an aim is missed. Needs nothing but Python 3 and
target/release/gptproto-gateway; stops by itself.

(a) hidden: a rate, a number of running predictions, and both; doubled or halved while running.
    Aims: 90 % of the budget is used before the time to learn is over; from then on 95 % of it, at no more than 10 429s for
    1,000 accepted submits.
(b) fair: a noisy client with ten times the requests of each of two quiet ones; and weights 1:3.
    Aim: Jain's index of what each got over its max-min fair share is 0.95 or more.
(c) overload: clients with less patience than the queue is long, and some that hang up.
    Aims: whoever is refused has bought nothing and hears when to come back; whoever is let in gets a picture in time;
    nothing is bought for who has gone. Without an aim: how true the announced time is for who comes back exactly then.
(d) accounts: one of two upstream keys is revoked, or its balance empty, and later well again.
    Aims: no client notices; every prediction is asked for with the key that bought it; both keys are used in the end.

usage: tests/load/budget.py [--quick] [--control] [--lanes N] [SCENE...]
  --quick    shorter phases and fewer scenes: two to three minutes. What is learned after a change needs longer, so those
             phases are printed and held to nothing
  --control  with the learning switched off: demands that the aims of (a) are missed
  --lanes    scenes that run at the same time (default 4)
  SCENE      only scenes whose name begins so
"""

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass

from budget_kit import BINARY, LATENCY_MS, SEED, UNKNOWN_SETTINGS, WINDOW_S, Stage, fair_shares, jain, quantile

USED_MIN = 0.95
REFUSED_PER_1000_MAX = 10
# So few say nothing about a rate.
REFUSED_FEW = 4
JAIN_MIN = 0.95
# From here on a changed budget counts as found again.
FOUND = 0.90
# A client that hung up less than this before a purchase may have met it on its way.
ON_THE_WAY_S = 0.1
LATENCY_S = sum(LATENCY_MS) / 2000


class Report:
    """Lines of the table, and the aims that were missed."""

    def __init__(self, name):
        self.name, self.lines, self.missed = name, [], []

    def say(self, text):
        self.lines.append(text)

    def aim(self, reached, what):
        if not reached:
            self.missed.append(what)


# ---- (a) ------------------------------------------------------------------------------------------------------------

@dataclass
class Phase:
    label: str
    # Accepted submits in a window, and running predictions; 0 is no limit.
    submits: int
    concurrent: int
    learn_s: float
    measure_s: float
    # Long enough to be held to the aims.
    judged: bool = True

    def limits(self):
        return {"submits_per_minute": self.submits, "concurrent": self.concurrent}


@dataclass
class Pace:
    """How long a phase takes, in quick and in full runs."""
    # To learn from nothing, to learn a change, to measure what was learned.
    learn_s: float
    relearn_s: float
    measure_s: float
    judges_changes: bool = True

    def phases(self, *budgets):
        phases = []
        for number, (label, submits_per_second, concurrent) in enumerate(budgets):
            learn_s = self.relearn_s if number else self.learn_s
            submits, judged = round(submits_per_second * WINDOW_S), number == 0 or self.judges_changes
            phases.append(Phase(label, submits, concurrent, learn_s, self.measure_s, judged))
        return phases


QUICK = Pace(learn_s=21, relearn_s=18, measure_s=21, judges_changes=False)
FULL = Pace(learn_s=40, relearn_s=40, measure_s=60)


async def hidden(report, phases, scenario, settings):
    """Always more demand than budget, which changes from phase to phase."""
    scenario = scenario | {f"limits.{key}": value for key, value in phases[0].limits().items()}
    stage = await Stage.open(scenario, settings)
    try:
        spans, changed = [], (await stage.look()).at
        # Enough to fill the largest budget and to keep a queue behind it.
        largest = max(min(phase.submits / WINDOW_S * LATENCY_S or 1e9, phase.concurrent or 1e9) for phase in phases)
        stage.crowd(0, round(largest * 1.5) + 30)
        for phase in phases:
            if phase is not phases[0]:
                changed = await stage.change({"limits": phase.limits()})
            await asyncio.sleep(phase.learn_s + phase.measure_s)
            span = judge_phase(report, stage, phase, changed)
            if phase.judged:
                spans.append(span)
        accepted, refused = (sum(column) for column in zip(*spans))
        rate = 1000 * refused / max(1, accepted)
        report.say(f"{'':<12} 429s once learned: {refused} beside {accepted} accepted submits, {rate:.1f} per 1,000")
        report.aim(rate <= REFUSED_PER_1000_MAX or refused <= REFUSED_FEW, f"{rate:.1f} 429s for 1,000 accepted submits once learned")
        wrong = [answer for answer in stage.answers if answer.status != 200]
        report.aim(not wrong, f"{len(wrong)} clients got no picture, such as {wrong[:1]}")
    finally:
        await stage.shut()


def judge_phase(report, stage, phase, changed):
    def used(begin, end):
        return stage.between(begin, end).utilisation(phase.submits, phase.concurrent)

    over = changed + phase.learn_s + phase.measure_s
    ends = [sample.at for sample in stage.samples if changed + WINDOW_S <= sample.at < over - WINDOW_S]
    # A window that is used by chance, as the first may be, is not found yet: it has to stay so.
    found = next((end - changed for end in ends if used(end - WINDOW_S, end) >= FOUND and used(end, over) >= FOUND), None)
    learning = stage.between(changed, changed + phase.learn_s)
    learned = stage.between(changed + phase.learn_s, over)
    share = learned.utilisation(phase.submits, phase.concurrent)
    budget = ", ".join(filter(None, [phase.submits and f"{phase.submits} a window", phase.concurrent and f"{phase.concurrent} running"]))
    again = "never" if found is None else f"{found:5.1f} s {found / WINDOW_S:4.1f} windows"
    early = learned.of("polls_of_unfinished") / max(1, learned.of("submits_accepted"))
    report.say(f"{phase.label:<12} {budget:<24} 90 % after {again:<20} used {share:6.1%}  429s while learning "
               f"{learning.refused():>3}, then {learned.refused():>3} of {learned.of('submits_accepted'):>4}  "
               f"early polls each {early:.1f}")
    if phase.judged:
        report.aim(share >= USED_MIN, f"{phase.label}: {share:.1%} of the budget was used once learned")
        report.aim(found is not None and found <= phase.learn_s, f"{phase.label}: 90 % again after {again}")
    return learned.of("submits_accepted"), learned.refused()


# ---- (b) ------------------------------------------------------------------------------------------------------------

PLACES = 30
CAPACITY = PLACES / LATENCY_S
KNOWN_PLACES = {"GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS": str(PLACES)}


async def waits(stage, begin, end):
    """Of each client, how long each request between two moments waited until its picture was bought, or until now."""
    bought, now = await stage.bought(), time.time()
    found = {f"w{number}": [] for number in range(len(stage.keys))}
    for client, prompt, sent in stage.asked:
        if begin <= sent < end:
            found[client].append(bought.get(prompt, now) - sent)
    return found


async def purchases(stage, begin, end):
    """How many pictures each client got bought between two moments."""
    counts = dict.fromkeys((f"w{number}" for number in range(len(stage.keys))), 0)
    for prompt, at in (await stage.bought()).items():
        counts[prompt.split()[0]] += begin <= at < end
    return counts


async def noisy(report, measure_s):
    quiet_rate, alone = 0.2 * CAPACITY, None
    for crowded in (False, True):
        stage = await Stage.open({}, KNOWN_PLACES, clients=3)
        try:
            if crowded:
                stage.arrivals(0, 10 * quiet_rate)
            for quiet in (1, 2):
                stage.arrivals(quiet, quiet_rate)
            # Until the queue of the noisy one stands.
            await asyncio.sleep(2.5 * LATENCY_S)
            begin = time.time()
            await asyncio.sleep(measure_s)
            end = time.time()
            got, waited = await purchases(stage, begin, end), await waits(stage, begin, end)
            p99 = quantile(waited["w1"] + waited["w2"], 0.99)
            if not crowded:
                alone = p99
                continue
            share = fair_shares({name: len(waited[name]) for name in got}, sum(got.values()))
            index = jain([got[name] / max(1e-9, share[name]) for name in got])
            report.say("noisy, two quiet: got " + ", ".join(f"{got[name]} of {share[name]:.0f}" for name in got)
                       + f" fair; Jain {index:.3f}; quiet ones wait at p99 {p99:.2f} s, alone {alone:.2f} s")
            report.aim(index >= JAIN_MIN, f"Jain's index is {index:.3f}")
        finally:
            await stage.shut()


async def weights(report, measure_s):
    stage = await Stage.open({}, KNOWN_PLACES, clients=2, weights=(1, 3))
    try:
        for number in range(2):
            stage.crowd(number, 2 * PLACES)
        await asyncio.sleep(2.5 * LATENCY_S)
        begin = time.time()
        await asyncio.sleep(measure_s)
        got = await purchases(stage, begin, time.time())
        index = jain([got["w0"] / 1, got["w1"] / 3])
        report.say(f"weights 1:3: got {got['w0']} and {got['w1']}, 1:{got['w1'] / max(1, got['w0']):.2f}; Jain {index:.3f}")
        report.aim(index >= JAIN_MIN, f"with weights 1:3 Jain's index is {index:.3f}")
    finally:
        await stage.shut()


# ---- (c) ------------------------------------------------------------------------------------------------------------

async def overload(report, burst):
    """Far more clients at once than can be served in their patience, who come back when they are told."""
    patience, seed = 4 * LATENCY_S, random.Random(SEED)
    stage = await Stage.open({}, {**KNOWN_PLACES, "GATEWAY_SERVER__RESPONSE_TIMEOUT_MARGIN_MS": "500"})
    try:
        # What a picture takes is learned first.
        await asyncio.gather(*(stage.ask(0) for _ in range(2 * PLACES)))
        stage.answers.clear()
        begin = (await stage.look()).at
        came_back, leavers = [], []

        async def obedient():
            await asyncio.sleep(seed.uniform(0, 0.5))
            tries = [await stage.ask(0, patience)]
            while tries[-1].refused and tries[-1].sent < tries[0].sent + 20 * LATENCY_S:
                await asyncio.sleep(tries[-1].retry_after)
                tries.append(await stage.ask(0, patience))
            came_back.append(tries)

        async def leaver():
            await asyncio.sleep(seed.uniform(0, 0.5))
            leavers.append(await stage.ask(0, patience, leave_after=seed.uniform(0.5, patience / 2)))

        await asyncio.gather(*(obedient() for _ in range(burst)), *(leaver() for _ in range(burst // 5)))
        bought = await stage.bought()
        judge_overload(report, stage, begin, came_back, leavers, bought)
    finally:
        await stage.shut()


def judge_overload(report, stage, begin, came_back, leavers, bought):
    refused = [answer for tries in came_back for answer in tries if answer.refused]
    paid = [answer for answer in refused if answer.prompt in bought]
    others = [tries[-1] for tries in came_back if tries[-1].status != 200 and not tries[-1].refused]
    mute = sum(answer.retry_after == 0 for answer in refused)
    slow = quantile([answer.ended - answer.sent for answer in refused], 0.95)
    report.say(f"{len(came_back)} clients at once: {sum(len(tries) == 1 for tries in came_back)} let in, {len(refused)} refusals, p95 after "
               f"{slow * 1000:.0f} ms; {len(paid)} of the refused were paid for, {mute} refusals name no time, {len(others)} ended otherwise")
    report.aim(refused, "nobody was refused: this is no overload")
    report.aim(not paid, f"{len(paid)} refused requests were paid for")
    report.aim(not mute, f"{mute} refusals name no Retry-After")
    report.aim(not others, f"{len(others)} clients that were let in got no picture in their patience, such as {others[:1]}")
    gone = [answer for answer in leavers if answer.code == "left"]
    late = [answer for answer in gone if bought.get(answer.prompt, 0) > answer.ended + ON_THE_WAY_S]
    queued = [answer for answer in gone if answer.prompt not in bought]
    report.say(f"{len(gone)} hung up, {len(queued)} of them before anything was bought; bought after they had gone: {len(late)}")
    report.aim(queued, "nobody hung up while queued: this tests nothing")
    report.aim(not late, f"{len(late)} purchases for clients that had gone")
    returned = [tries for tries in came_back if len(tries) > 1]
    at_once = sum(not tries[1].refused for tries in returned)
    # What was needed, beyond what was announced first; who never got in needed at least until the last try.
    errors = [tries[-1].sent - tries[0].ended - tries[0].retry_after for tries in returned]
    announced = [tries[0].retry_after for tries in returned]
    accepted = [sample.at for sample in stage.samples if sample.total("submits_accepted") < len(bought)]
    busy = stage.between(begin, max(accepted)).utilisation(0, PLACES)
    report.say(f"came back as told (after {quantile(announced, 0):.0f} to {quantile(announced, 1):.0f} s): {at_once} of {len(returned)} got in at once "
               f"({at_once / max(1, len(returned)):.0%}); really needed beyond it: p50 {quantile(errors, 0.5):+.1f} s, p95 {quantile(errors, 0.95):+.1f} s; "
               f"meanwhile the upstream was {busy:.0%} busy")


# ---- (d) ------------------------------------------------------------------------------------------------------------

async def accounts(report, section, pause_s):
    """One of two accounts fails midway and is well again later; `section`: the scenario's list of failing keys."""
    keys = ("sk-a", "sk-b")
    settings = {"GPTPROTO_API_KEY": None, "GPTPROTO_API_KEYS": "one:sk-a,two:sk-b", "GATEWAY_UPSTREAM__ACCOUNT_COOLDOWN_MAX_S": "2"}
    table, name = section.split(".")
    stage = await Stage.open({"limits.concurrent": PLACES // 2}, settings, upstream_keys=keys)
    try:
        stage.crowd(0, 2 * PLACES)
        await asyncio.sleep(pause_s)
        begin = await stage.change({table: {name: ["sk-a"]}})
        await asyncio.sleep(pause_s)
        restored = await stage.change({table: {name: []}})
        await asyncio.sleep(1.5 * pause_s)
        end = (await stage.look()).at
        without, after = stage.between(begin, restored), stage.between(end - pause_s / 2, end)
        last = stage.samples[-1]
        wrong = [answer for answer in stage.answers if answer.status != 200]
        parts = [f"{when} {span.of('submits_accepted', 'sk-a')} and {span.of('submits_accepted', 'sk-b')}"
                 for when, span in (("without it", without), ("in the end", after))]
        report.say(f"{section}: {len(stage.answers)} answers, {len(wrong)} of them errors; polls with the wrong key "
                   f"{last.counters['polls_unknown']}; bought {', '.join(parts)}; calls refused with 403: {last.total('calls_403')}")
        report.aim(not wrong, f"{len(wrong)} clients saw an error, such as {wrong[:1]}")
        report.aim(last.counters["polls_unknown"] == 0, f"{last.counters['polls_unknown']} polls with a key that did not buy")
        for key in keys:
            report.aim(after.of("submits_accepted", key), f"{key} is not used in the end")
        report.aim(without.of("submits_accepted", "sk-b"), "nothing was bought while one account was away")
    finally:
        await stage.shut()


# ---- all ------------------------------------------------------------------------------------------------------------

def scenes(quick, control):
    """Name to a coroutine function that takes a report; the longest first."""
    pace = QUICK if quick or control else FULL
    settings = {"GATEWAY_UPSTREAM__LEARNING": "off"} if control else {}

    def hide(phases, **scenario):
        scenario = {key.replace("__", "."): value for key, value in scenario.items()}
        return lambda report: hidden(report, phases, scenario, settings)

    rate = pace.phases(("start", 10, 0), ("x2", 20, 0), ("x0.5", 10, 0))
    running = pace.phases(("start", 0, 30), ("x2", 0, 60), ("x0.5", 0, 30))
    # Thirty places are ten a second: first the places bind, then the rate, then half of it, then the places again.
    both = pace.phases(("places bind", 15, 30), ("places x2", 15, 60), ("rate x0.5", 7.5, 60))
    found = {
        "a-rate-sliding": hide(rate, limits__submit_counting="sliding"),
        "a-running": hide(running),
        "a-both": hide(both),
    }
    if control:
        return found
    # Not among them: Retry-After, whose whole seconds cannot run faster and are most of a window here.
    if not quick:
        found |= {
            "a-rate-fixed": hide(rate, limits__submit_counting="fixed"),
            "a-rate-bucket": hide(rate, limits__submit_counting="bucket"),
            "a-hiccups": hide(running, faults__submit="status_429", faults__submit_share=0.01),
        }
    measure_s = 18 if quick else 60
    found |= {
        "b-noisy": lambda report: noisy(report, measure_s),
        "c-overload": lambda report: overload(report, 200 if quick else 400),
        "d-revoked": lambda report: accounts(report, "auth.revoked", 10 if quick else 20),
        "b-weights": lambda report: weights(report, measure_s),
    }
    if not quick:
        found["d-no-balance"] = lambda report: accounts(report, "balance.empty_keys", 20)
    return found


async def run(chosen, lanes):
    gate, reports = asyncio.Semaphore(lanes), []

    async def one(name, scene):
        async with gate:
            report, began = Report(name), time.monotonic()
            try:
                await scene(report)
            except (Exception, SystemExit) as error:
                report.missed.append(f"the scene broke: {type(error).__name__}: {error}")
        print(f"--- {name} ({time.monotonic() - began:.0f} s)", *report.lines, *(f"MISSED: {what}" for what in report.missed),
              sep="\n    ", flush=True)
        reports.append(report)

    async with asyncio.TaskGroup() as group:
        for name, scene in chosen.items():
            group.create_task(one(name, scene))
    return reports


def main():
    parser = argparse.ArgumentParser(usage=__doc__.partition("usage: ")[2])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--lanes", type=int, default=4)
    parser.add_argument("scenes", nargs="*")
    arguments = parser.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is missing: run cargo build --release")
    chosen = scenes(arguments.quick, arguments.control)
    if arguments.scenes:
        chosen = {name: scene for name, scene in chosen.items() if name.startswith(tuple(arguments.scenes))}
    if not chosen:
        sys.exit(f"no such scene: {' '.join(arguments.scenes)}")
    began = time.monotonic()
    reports = asyncio.run(run(chosen, arguments.lanes))
    missed = sum(bool(report.missed) for report in reports)
    print(f"\n{len(reports)} scenes in {time.monotonic() - began:.0f} s, {missed} with missed aims")
    if UNKNOWN_SETTINGS:
        sys.exit(f"this build does not know {', '.join(sorted(UNKNOWN_SETTINGS))}: no verdict")
    if arguments.control:
        print("control: learning is off, and every scene must miss an aim: " + ("they do" if missed == len(reports) else "THEY DO NOT"))
        sys.exit(0 if missed == len(reports) else 1)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
