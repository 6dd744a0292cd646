#!/usr/bin/env python3
"""What one of something costs, by how many of them there are: whether anything grows worse than linearly.

  waiters  2,000 to 15,000 clients that wait (waiters.py): memory of one, CPU of an arrival, a poll and a delivery
  polls    1,000 to 100,000 purchases that are polled, asked for with `respond-async`: memory of one, CPU of a submit and of its
           first poll
  storm    100 edits/s, 50 clients that ask for stored results without a pause, and both together: latency and CPU of each. The
           load has one core too, which both together fill, so read the CPU of the sum

One gateway at a time, on one core. An aim is missed where one of the most costs more than 1.5 times one of the fewest, or where
both loads together take more than 1.5 times the CPU of each alone.

Needs wrk, two cores, 20,000 descriptors and target/dist/gptproto-gateway, or a program that BINARY names. All of it takes
about 20 minutes.

usage: tests/load/scaling.py [--quick] [waiters|polls|storm]...
"""

import asyncio
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lib.project import ROOT, give_up

# As ratios.py: figures are published of the fully optimised program.
os.environ.setdefault("BINARY", str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "dist", "gptproto-gateway")))

import edits  # noqa: E402
import waiters  # noqa: E402
from lib.http_client import connect  # noqa: E402
from lib.measuring import Scratch, Stopwatch, Table, WrkLoad, counters, form, memory, parse_arguments, prepare, raw_request  # noqa: E402
from lib.pictures import png  # noqa: E402
from lib.rig import call  # noqa: E402

WORSE = 1.5
# Longer than the first polls of all take.
PAUSE_MS = 120_000
POLLED_WITHIN_S = 300
SUBMITTERS = 64
STORM_CLIENTS = 50
NUMBER = b"0000000000"


def compare(table, name, figures):
    """Adds what one of the most costs, relative to one of the fewest; `figures` by number."""
    few, many = min(figures), max(figures)
    table.row(f"{name}, at {many:,} of that at {few:,}", figures[many] / figures[few], "x", WORSE)


def waiting(table, numbers):
    waiters.allow_descriptors(max(numbers))
    arrivals_a_second = 100.0
    for number in numbers:
        arrivals_a_second = asyncio.run(waiters.step(table, number, arrivals_a_second))
    for what in ("memory", "arrival", "poll", "delivery"):
        compare(table, f"{what} of a waiter", {number: table.figures[f"{number} {what}"] for number in numbers})


async def submit(port, key, number):
    """Has purchases made, without waiting for their results."""
    body = json.dumps({"model": "gpt-image-2", "prompt": f"picture {NUMBER.decode()}", "quality": "low", "size": "1024x1024"}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Prefer": "respond-async"}
    head, tail = raw_request("/v1/images/generations", body, headers).split(NUMBER)
    numbers = iter(range(number))

    async def client():
        connection = await connect(port)
        for each in numbers:
            exchange = await connection.send(b"%s%010d%s" % (head, each, tail))
            if exchange.status != 202:
                give_up(f"the gateway answers {exchange.status}: {exchange.answer[:500]}")
        connection.transport.close()

    await asyncio.gather(*(client() for _ in range(SUBMITTERS)))


def wait_for_polls(upstream, number, deadline):
    """Waits until the upstream has had a number of polls, and returns how many it has had."""
    while (polls := counters(upstream)["polls"]) < number:
        if time.monotonic() > deadline:
            give_up(f"only {polls} of {number:.0f} polls have come in time")
        time.sleep(0.1)
    return polls


def polled(table, numbers):
    costs = {"memory": {}, "submit": {}, "poll": {}}
    arrivals_a_second = 100.0
    for number in numbers:
        scratch = Scratch("scaling")
        first_ms = int(number / arrivals_a_second * 1500) + 10_000
        upstream = scratch.upstream("--held", "--latency-ms", 0, "--picture-bytes", 1000)
        rig = scratch.gateway(upstream, {
            "GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS": "200000",
            "GATEWAY_UPSTREAM__QUEUE_MAX": "200000",
            "GATEWAY_UPSTREAM__FIRST_POLL_MS": str(first_ms),
            "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": str(PAUSE_MS),
            "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": str(PAUSE_MS),
        })
        pid = rig.gateway.pid
        idle, watch, began = memory(pid), Stopwatch(pid), time.monotonic()
        asyncio.run(submit(rig.port, rig.keys[0], number))
        while (counted := counters(upstream)["submits"]) < number:
            if time.monotonic() > began + first_ms / 1000:
                give_up(f"only {counted} of {number} have been submitted after {first_ms / 1000:.0f} s")
            time.sleep(0.1)
        watch.stop()
        arrivals_a_second = number / watch.seconds
        costs["memory"][number] = (memory(pid) - idle) / number
        costs["submit"][number] = watch.cpu / number
        # The first polls are as far apart as the submits were. Nearly all of them are counted.
        deadline = began + first_ms / 1000 + POLLED_WITHIN_S
        begun_at, watch = wait_for_polls(upstream, number * 0.05, deadline), Stopwatch(pid)
        polls = wait_for_polls(upstream, number * 0.95, deadline) - begun_at
        watch.stop()
        costs["poll"][number] = watch.cpu / polls
        name = f"{number:,} purchases"
        table.row(f"{name}: memory of one", costs["memory"][number] / 1000, "KB")
        table.row(f"{name}: submitted", arrivals_a_second, "a second")
        table.row(f"{name}: CPU of a submit", costs["submit"][number] * 1e6, "CPU us")
        table.row(f"{name}: polls", polls / watch.seconds, "polls/s")
        table.row(f"{name}: CPU of a poll", costs["poll"][number] * 1e6, "CPU us")
        rig.close(keep=True)
        scratch.close()
    for what, figures in costs.items():
        compare(table, f"{what} of a purchase", figures)


def storm(table, seconds):
    scratch = Scratch("scaling")
    upstream = scratch.upstream(*edits.PICTURE)
    rig = scratch.gateway(upstream, edits.POLLS)
    body, headers = form([png("scaling", 58)], "the same prompt")
    headers["Authorization"] = f"Bearer {rig.keys[0]}"
    for _ in range(2):
        status, _, answer = call(rig.port, "POST", edits.PATH, body, headers)
        if status != 200:
            give_up(f"the gateway answers {status}: {answer[:500]}")
    sent = scratch.folder / "request"
    sent.write_bytes(raw_request(edits.PATH, body, headers))
    lua = f"""
        local file = io.open("{sent}", "rb"); local whole = file:read("*a"); file:close()
        request = function() return whole end"""
    # Numbers that no other edit has, and the first seconds in which the gateway learns how long a picture takes.
    head, tail = edits.request(rig.keys[0])
    asyncio.run(edits.open_loop(rig.port, (head + b"0", tail), 4))

    cpu = {}

    def run(name, mark, with_storm, with_edits):
        watch = Stopwatch(rig.gateway.pid)
        with ThreadPoolExecutor(1) as thread:
            if with_storm:
                loading = thread.submit(WrkLoad, scratch, rig.port, edits.PATH, STORM_CLIENTS, seconds, lua)
            answered = asyncio.run(edits.open_loop(rig.port, (head + mark, tail), seconds)) if with_edits else []
            load = loading.result() if with_storm else None
        watch.stop()
        table.row(f"{name}: the gateway", watch.cpu / watch.seconds * 100, "% of a core")
        if answered:
            added = [(one.ended_ns - one.began_ns) / 1e6 - edits.OWN_MS for one in answered]
            table.row(f"{name}: added to an edit, p50", statistics.median(added), "ms")
            table.row(f"{name}: added to an edit, p99", edits.percentile(added, 0.99), "ms")
        if load:
            table.row(f"{name}: hits", load.requests / watch.seconds, "hits/s")
            table.row(f"{name}: a hit, p50", load.ms["50"], "ms")
            table.row(f"{name}: a hit, p99", load.ms["99"], "ms")
        cpu[name] = (watch.cpu, len(answered), load.requests if load else 0)

    run("edits alone", b"1", False, True)
    run("hits alone", b"2", True, False)
    run("hits and edits", b"3", True, True)
    an_edit = cpu["edits alone"][0] / cpu["edits alone"][1]
    a_hit = cpu["hits alone"][0] / cpu["hits alone"][2]
    table.row("edits alone: CPU of an edit", an_edit * 1e6, "CPU us")
    table.row("hits alone: CPU of a hit", a_hit * 1e6, "CPU us")
    both, edited, hit = cpu["hits and edits"]
    table.row("hits and edits: CPU, of that of each alone", both / (edited * an_edit + hit * a_hit), "x", WORSE)
    rig.close(keep=True)
    scratch.close()


def main():
    arguments = parse_arguments(__doc__, "fewer and shorter: three minutes", ("waiters", "polls", "storm"))
    prepare("wrk")
    table = Table()
    if "waiters" in arguments.parts:
        waiting(table, (500, 2000) if arguments.quick else (2000, 4000, 8000, 15_000))
    if "polls" in arguments.parts:
        polled(table, (1000, 5000) if arguments.quick else (1000, 10_000, 100_000))
    if "storm" in arguments.parts:
        storm(table, 8 if arguments.quick else 20)
    sys.exit(table.close())


if __name__ == "__main__":
    main()
