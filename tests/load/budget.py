#!/usr/bin/env python3
"""How well the gateway uses an upstream budget that it does not know, and how fairly it shares it between clients.

Each scene starts the release binary as simulator with a hidden budget and as gateway, with many clients on loopback. Prints
a table and exits 1 when an aim is missed. Needs Python 3 and target/release/gptproto-gateway.

(a) hidden: a rate, a number of running predictions, and both; doubled or halved during the run.
    Aims: 90 % of the budget is used before the time to learn is over; from then on 95 %, with at most 10 429s for 1,000
    accepted submits.
(b) fair: a noisy client with ten times the requests of each of two quiet ones; and weights 1:3.
    Aim: Jain's index of what each client got over its max-min fair share is at least 0.95.
(c) overload: clients whose patience is shorter than the queue, and clients that disconnect.
    Aims: nothing is bought for a refused request, and the refusal has a Retry-After; an accepted request gets its picture in
    time; nothing is bought after its client has disconnected. Printed without an aim: whether a client that retries exactly
    after Retry-After is accepted.
(d) accounts: one of two upstream keys is revoked, or has no balance, and works again later.
    Aims: no client sees an error; each prediction is polled with the key that bought it; both keys are used in the end.

usage: tests/load/budget.py [--quick] [--control] [--lanes N] [SCENE...]
  --quick    shorter phases and fewer scenes: about two minutes. Phases after a change of the budget are too short to
             learn it, and are printed without aims
  --control  with learning switched off: each scene of (a) must miss an aim
  --lanes    scenes that run at the same time (default 4)
  SCENE      only scenes whose name begins with this
"""

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass

from lib.project import require
from lib.scaled_time import BINARY, LATENCY_MS, SEED, UNKNOWN_SETTINGS, WINDOW_S, ScaledRig, fair_shares, jain, quantile

USED_MIN = 0.95
REFUSED_PER_1000_MAX = 10
# Up to this number, 429s are too few to estimate a rate.
REFUSED_FEW = 4
JAIN_MIN = 0.95
# From this share on, a budget counts as learned.
FOUND = 0.90
# A purchase up to this time after its client disconnected may have been under way already.
IN_FLIGHT_S = 0.1
LATENCY_S = sum(LATENCY_MS) / 2000


class Report:
    """Lines of the table, and the aims that were missed."""

    def __init__(self, name):
        self.name, self.lines, self.missed = name, [], []
        # Why the scene could not be carried out.
        self.failed = None

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
    # Whether the phase is long enough for the aims.
    judged: bool = True

    def limits(self):
        return {"submits_per_minute": self.submits, "concurrent": self.concurrent}


@dataclass
class Pace:
    """Durations of a phase: to learn from nothing, to learn a change, to measure what was learned."""
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


QUICK = Pace(learn_s=21, relearn_s=6, measure_s=21, judges_changes=False)
FULL = Pace(learn_s=40, relearn_s=40, measure_s=60)


async def hidden(report, phases, scenario, settings):
    """Demand always exceeds the budget, which changes from phase to phase."""
    scenario = scenario | {f"limits.{key}": value for key, value in phases[0].limits().items()}
    rig = await ScaledRig.open(scenario, settings)
    try:
        spans, changed = [], (await rig.counters()).at
        # Enough to fill the largest budget and to keep a queue behind it.
        largest = max(min(phase.submits / WINDOW_S * LATENCY_S or 1e9, phase.concurrent or 1e9) for phase in phases)
        rig.saturate(0, round(largest * 1.5) + 30)
        for phase in phases:
            if phase is not phases[0]:
                changed = await rig.change({"limits": phase.limits()})
            await asyncio.sleep(phase.learn_s + phase.measure_s)
            span = judge_phase(report, rig, phase, changed)
            if phase.judged:
                spans.append(span)
        accepted, refused = (sum(column) for column in zip(*spans))
        rate = 1000 * refused / max(1, accepted)
        report.say(f"{'':<12} 429s once learned: {refused} beside {accepted} accepted submits, {rate:.1f} per 1,000")
        report.aim(rate <= REFUSED_PER_1000_MAX or refused <= REFUSED_FEW, f"{rate:.1f} 429s for 1,000 accepted submits once learned")
        wrong = [answer for answer in rig.answers if answer.status != 200]
        report.aim(not wrong, f"{len(wrong)} clients got no picture, such as {wrong[:1]}")
    finally:
        await rig.shut()


def judge_phase(report, rig, phase, changed):
    def used(begin, end):
        return rig.between(begin, end).utilisation(phase.submits, phase.concurrent)

    over = changed + phase.learn_s + phase.measure_s
    ends = [sample.at for sample in rig.samples if changed + WINDOW_S <= sample.at < over - WINDOW_S]
    # One window may be used by accident, such as the first: the budget is learned when all later windows are used too.
    found = next((end - changed for end in ends if used(end - WINDOW_S, end) >= FOUND and used(end, over) >= FOUND), None)
    learning = rig.between(changed, changed + phase.learn_s)
    learned = rig.between(changed + phase.learn_s, over)
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


async def waits(rig, begin, end):
    """Returns for each client how long its requests between two moments waited until they were bought, or until now."""
    bought, now = await rig.bought(), time.time()
    found = {f"w{number}": [] for number in range(len(rig.keys))}
    for client, prompt, sent in rig.asked:
        if begin <= sent < end:
            found[client].append(bought.get(prompt, now) - sent)
    return found


async def purchases(rig, begin, end):
    """Returns how many pictures were bought for each client between two moments."""
    counts = dict.fromkeys((f"w{number}" for number in range(len(rig.keys))), 0)
    for prompt, at in (await rig.bought()).items():
        counts[prompt.split()[0]] += begin <= at < end
    return counts


async def noisy(report, measure_s):
    quiet_rate, alone = 0.2 * CAPACITY, None
    for crowded in (False, True):
        rig = await ScaledRig.open({}, KNOWN_PLACES, clients=3)
        try:
            if crowded:
                rig.arrivals(0, 10 * quiet_rate)
            for quiet in (1, 2):
                rig.arrivals(quiet, quiet_rate)
            # Until the noisy client has a queue.
            await asyncio.sleep(2.5 * LATENCY_S)
            begin = time.time()
            await asyncio.sleep(measure_s)
            end = time.time()
            got, waited = await purchases(rig, begin, end), await waits(rig, begin, end)
            p99 = quantile(waited["w1"] + waited["w2"], 0.99)
            if not crowded:
                alone = p99
                continue
            share = fair_shares({name: len(waited[name]) for name in got}, sum(got.values()))
            index = jain([got[name] / max(1e-9, share[name]) for name in got])
            report.say("noisy, two quiet: got " + ", ".join(f"{got[name]} of {share[name]:.0f}" for name in got)
                       + f" fair; Jain {index:.3f}; quiet clients wait at p99 {p99:.2f} s, alone {alone:.2f} s")
            report.aim(index >= JAIN_MIN, f"Jain's index is {index:.3f}")
        finally:
            await rig.shut()


async def weights(report, measure_s):
    rig = await ScaledRig.open({}, KNOWN_PLACES, clients=2, weights=(1, 3))
    try:
        for number in range(2):
            rig.saturate(number, 2 * PLACES)
        await asyncio.sleep(2.5 * LATENCY_S)
        begin = time.time()
        await asyncio.sleep(measure_s)
        got = await purchases(rig, begin, time.time())
        index = jain([got["w0"] / 1, got["w1"] / 3])
        report.say(f"weights 1:3: got {got['w0']} and {got['w1']}, 1:{got['w1'] / max(1, got['w0']):.2f}; Jain {index:.3f}")
        report.aim(index >= JAIN_MIN, f"with weights 1:3 Jain's index is {index:.3f}")
    finally:
        await rig.shut()


# ---- (c) ------------------------------------------------------------------------------------------------------------

async def overload(report, burst):
    """More clients at once than can be served within their patience; refused clients retry after Retry-After."""
    patience, rng = 4 * LATENCY_S, random.Random(SEED)
    rig = await ScaledRig.open({}, {**KNOWN_PLACES, "GATEWAY_SERVER__RESPONSE_TIMEOUT_MARGIN_MS": "500"})
    try:
        # The gateway learns first how long a picture takes.
        await asyncio.gather(*(rig.ask(0) for _ in range(2 * PLACES)))
        rig.answers.clear()
        begin = (await rig.counters()).at
        retried, leavers = [], []

        async def retrying():
            await asyncio.sleep(rng.uniform(0, 0.5))
            tries = [await rig.ask(0, patience)]
            while tries[-1].refused and tries[-1].sent < tries[0].sent + 20 * LATENCY_S:
                await asyncio.sleep(tries[-1].retry_after)
                tries.append(await rig.ask(0, patience))
            retried.append(tries)

        async def leaving():
            await asyncio.sleep(rng.uniform(0, 0.5))
            leavers.append(await rig.ask(0, patience, leave_after=rng.uniform(0.5, patience / 2)))

        await asyncio.gather(*(retrying() for _ in range(burst)), *(leaving() for _ in range(burst // 5)))
        bought = await rig.bought()
        judge_overload(report, rig, begin, retried, leavers, bought)
    finally:
        await rig.shut()


def judge_overload(report, rig, begin, retried, leavers, bought):
    refused = [answer for tries in retried for answer in tries if answer.refused]
    paid = [answer for answer in refused if answer.prompt in bought]
    others = [tries[-1] for tries in retried if tries[-1].status != 200 and not tries[-1].refused]
    mute = sum(answer.retry_after == 0 for answer in refused)
    slow = quantile([answer.ended - answer.sent for answer in refused], 0.95)
    report.say(f"{len(retried)} clients at once: {sum(len(tries) == 1 for tries in retried)} accepted, {len(refused)} refusals, p95 after "
               f"{slow * 1000:.0f} ms; {len(paid)} refused requests were bought, {mute} refusals without Retry-After, {len(others)} other failures")
    report.aim(refused, "no request was refused: this is no overload")
    report.aim(not paid, f"{len(paid)} refused requests were bought")
    report.aim(not mute, f"{mute} refusals without Retry-After")
    report.aim(not others, f"{len(others)} accepted requests got no picture within their patience, such as {others[:1]}")
    gone = [answer for answer in leavers if answer.code == "left"]
    late = [answer for answer in gone if bought.get(answer.prompt, 0) > answer.ended + IN_FLIGHT_S]
    queued = [answer for answer in gone if answer.prompt not in bought]
    report.say(f"{len(gone)} disconnected, {len(queued)} of them before the purchase; bought after the disconnection: {len(late)}")
    report.aim(queued, "no client disconnected while queued: this tests nothing")
    report.aim(not late, f"{len(late)} purchases for disconnected clients")
    returned = [tries for tries in retried if len(tries) > 1]
    at_once = sum(not tries[1].refused for tries in returned)
    # The time that was needed beyond the first Retry-After; a client that was never accepted needed at least until its last try.
    errors = [tries[-1].sent - tries[0].ended - tries[0].retry_after for tries in returned]
    announced = [tries[0].retry_after for tries in returned]
    accepted = [sample.at for sample in rig.samples if sample.total("submits_accepted") < len(bought)]
    busy = rig.between(begin, max(accepted)).utilisation(0, PLACES)
    report.say(f"retried after Retry-After ({quantile(announced, 0):.0f} to {quantile(announced, 1):.0f} s): {at_once} of {len(returned)} were accepted at the first retry "
               f"({at_once / max(1, len(returned)):.0%}); needed beyond it: p50 {quantile(errors, 0.5):+.1f} s, p95 {quantile(errors, 0.95):+.1f} s; "
               f"meanwhile the upstream was {busy:.0%} busy")


# ---- (d) ------------------------------------------------------------------------------------------------------------

async def accounts(report, section, pause_s):
    """One of two accounts fails and works again later; `section`: the scenario's list of failing keys."""
    keys = ("sk-a", "sk-b")
    settings = {"GPTPROTO_API_KEY": None, "GPTPROTO_API_KEYS": "one:sk-a,two:sk-b", "GATEWAY_UPSTREAM__ACCOUNT_COOLDOWN_MAX_S": "2"}
    table, name = section.split(".")
    rig = await ScaledRig.open({"limits.concurrent": PLACES // 2}, settings, upstream_keys=keys)
    try:
        rig.saturate(0, 2 * PLACES)
        await asyncio.sleep(pause_s)
        begin = await rig.change({table: {name: ["sk-a"]}})
        await asyncio.sleep(pause_s)
        restored = await rig.change({table: {name: []}})
        await asyncio.sleep(1.5 * pause_s)
        end = (await rig.counters()).at
        without, after = rig.between(begin, restored), rig.between(end - pause_s / 2, end)
        last = rig.samples[-1]
        wrong = [answer for answer in rig.answers if answer.status != 200]
        parts = [f"{when} {span.of('submits_accepted', 'sk-a')} and {span.of('submits_accepted', 'sk-b')}"
                 for when, span in (("without it", without), ("in the end", after))]
        report.say(f"{section}: {len(rig.answers)} answers, {len(wrong)} of them errors; polls with the wrong key "
                   f"{last.counters['polls_unknown']}; bought {', '.join(parts)}; calls refused with 403: {last.total('calls_403')}")
        report.aim(not wrong, f"{len(wrong)} clients saw an error, such as {wrong[:1]}")
        report.aim(last.counters["polls_unknown"] == 0, f"{last.counters['polls_unknown']} polls with a key that did not buy")
        for key in keys:
            report.aim(after.of("submits_accepted", key), f"{key} is not used in the end")
        report.aim(without.of("submits_accepted", "sk-b"), "nothing was bought while one account failed")
    finally:
        await rig.shut()


# ---- all ------------------------------------------------------------------------------------------------------------

def scenes(quick, control):
    """Returns coroutine functions that take a report, by name, the longest first."""
    pace = QUICK if quick or control else FULL
    settings = {"GATEWAY_UPSTREAM__LEARNING": "off"} if control else {}

    def hide(phases, **scenario):
        # Without learning, the first phase suffices to miss an aim.
        phases = phases[:1] if control else phases
        scenario = {key.replace("__", "."): value for key, value in scenario.items()}
        return lambda report: hidden(report, phases, scenario, settings)

    rate = pace.phases(("start", 10, 0), ("x2", 20, 0), ("x0.5", 10, 0))
    running = pace.phases(("start", 0, 30), ("x2", 0, 60), ("x0.5", 0, 30))
    # Thirty running predictions are ten a second: first the number limits, then the rate, then half of the rate.
    both = pace.phases(("places bind", 15, 30), ("places x2", 15, 60), ("rate x0.5", 7.5, 60))
    found = {
        "a-rate-sliding": hide(rate, limits__submit_counting="sliding"),
        "a-running": hide(running),
        "a-both": hide(both),
    }
    if control:
        return found
    # Without Retry-After: its whole seconds cannot be scaled, and are most of a window here.
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
                report.failed = f"the scene failed: {type(error).__name__}: {error}"
                report.missed.append(report.failed)
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
    require(BINARY)
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
        print("control: learning is off; scenes that missed an aim, as all must: " + f"{missed} of {len(reports)}")
        sys.exit(0 if missed == len(reports) and not any(report.failed for report in reports) else 1)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
