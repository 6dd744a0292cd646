#!/usr/bin/env python3
"""Thousands of clients that wait at once, each for an edit of its own: what one costs, and how that grows.

For each number of clients a new gateway, on one core, and an upstream (quick_upstream.py, on the other core with the clients) that
lets every prediction wait until it is released. The pictures have 1 KB. Three spells are measured:

  quiet      all have been submitted, and the first poll of none is due (its age is configured): memory, threads, descriptors, and what
             waiting itself costs the processor
  polling    polls as they are configured by default for pictures of which nothing is known (pauses of a seventh of the age, at least a
             second, at most ten): polls/s and what they cost
  release    the upstream completes all of them at one moment: seconds until half and all are delivered. The pauses between polls are in it

Clients connect from several loopback addresses, so that no limit of one address or its ports is met. Needs two cores, 20,000
descriptors for a process (ulimit -n) and target/release/gptproto-gateway. Exits 3 when an aim is missed.

usage: tests/load/waiters.py [--quick] [NUMBER]...     (default 2000 4000 8000 15000, which takes some minutes)
"""

import argparse
import asyncio
import resource
import sys
import time
from pathlib import Path

from asking import connect
from crash_kit import png
from measure_kit import Scratch, Stopwatch, Table, call, counters, form, give_up, memory, prepare

PATH = "/v1/images/edits"
NUMBER = b"0000000000"
CLIENTS_AN_ADDRESS = 500
CONNECTING_AT_ONCE = 64
SPELL_S = 10
# Descriptors of a process besides those of clients.
OTHER_DESCRIPTORS = 200


class Clients:
    """All of them, in one thread."""

    def __init__(self, world):
        body, headers = form([png("waiters", 16)], f"picture {NUMBER.decode()}")
        headers |= {"Host": "127.0.0.1", "Authorization": f"Bearer {world.keys[0]}", "Content-Length": len(body)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.head, self.tail = (f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode() + body).split(NUMBER)
        self.port = world.port
        self.gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self.ends_ns = []

    async def wait(self, number):
        address = f"127.0.1.{1 + number // CLIENTS_AN_ADDRESS}"
        async with self.gate:
            connection = await connect(self.port, address)
        asked = await connection.ask(b"%s%010d%s" % (self.head, number, self.tail))
        if asked.status != 200:
            give_up(f"a client is answered with {asked.status}: {asked.answer[:500]}")
        self.ends_ns.append(asked.ended_ns)
        connection.transport.close()


async def spell(pid, upstream):
    """The share of a core that a process used for a while, and the polls in each second of it."""
    before, watch = counters(upstream), Stopwatch(pid)
    await asyncio.sleep(SPELL_S)
    watch.stop()
    return watch.cpu / watch.seconds * 100, (counters(upstream)["polls"] - before["polls"]) / watch.seconds


async def step(table, number, arrivals_a_second):
    """One number of clients; returns how many a second arrived."""
    scratch = Scratch("waiters")
    first_poll_s = number / arrivals_a_second * 1.5 + SPELL_S + 5
    upstream = scratch.upstream("--held", "--latency-ms", 0, "--picture-bytes", 1000)
    world = scratch.gateway(upstream, {
        "GATEWAY_UPSTREAM__FIRST_POLL_MS": str(int(first_poll_s * 1000)),
        "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "1000",
        "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "10000",
    })
    pid = world.gateway.pid
    call(world.port, "GET", "/v1/models", headers={"Authorization": f"Bearer {world.keys[0]}"})
    idle = memory(pid)
    clients = Clients(world)
    watch, began = Stopwatch(pid), time.monotonic()
    waiting = [asyncio.create_task(clients.wait(each)) for each in range(number)]
    while (told := counters(upstream))["submits"] < number:
        for each in waiting:
            if each.done() and each.exception():
                raise each.exception()
        if time.monotonic() - began > first_poll_s:
            give_up(f"only {told['submits']} of {number} have been submitted after {first_poll_s:.0f} s")
        await asyncio.sleep(0.1)
    watch.stop()
    arrivals_a_second = number / watch.seconds
    # The journal knows of the last one too.
    await asyncio.sleep(1)

    name = f"{number:,} waiting"
    resident = memory(pid)
    threads, descriptors = (len(list(Path(f"/proc/{pid}/{what}").iterdir())) for what in ("task", "fd"))
    cpu, polls = await spell(pid, upstream)
    table.row(f"{name}: memory of one", (resident - idle) / number / 1000, "KB", 20)
    table.row(f"{name}: memory of the gateway", resident / 1e6, "MB")
    table.row(f"{name}: threads", threads, "threads")
    table.row(f"{name}: descriptors", descriptors, "descriptors")
    table.row(f"{name}: arrived", arrivals_a_second, "edits/s")
    table.row(f"{name}: CPU, quiet ({polls:.0f} polls/s)", cpu, "% of a core")

    # The last one has been asked after once.
    await asyncio.sleep(max(0.0, began + watch.seconds + first_poll_s + 2 - time.monotonic()))
    cpu, polls = await spell(pid, upstream)
    table.row(f"{name}: polls", polls, "polls/s")
    table.row(f"{name}: CPU, polling", cpu, "% of a core")

    watch = Stopwatch(pid)
    released_ns = time.monotonic_ns()
    call(upstream, "GET", "/_release")
    await asyncio.gather(*waiting)
    watch.stop()
    delivered = sorted((moment - released_ns) / 1e9 for moment in clients.ends_ns)
    table.row(f"{name}: half delivered after", delivered[number // 2], "s")
    table.row(f"{name}: all delivered after", delivered[-1], "s")
    table.row(f"{name}: CPU of a delivery", watch.cpu / number * 1e6, "CPU us")
    table.row(f"{name}: memory afterwards", memory(pid) / 1e6, "MB")
    world.close(keep=True)
    scratch.close()
    return arrivals_a_second


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1000 clients alone")
    parser.add_argument("numbers", nargs="*", type=int)
    arguments = parser.parse_args()
    numbers = arguments.numbers or ([1000] if arguments.quick else [2000, 4000, 8000, 15_000])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < max(numbers) + OTHER_DESCRIPTORS:
        give_up(f"{max(numbers)} clients need {max(numbers) + OTHER_DESCRIPTORS} descriptors, and there are {hard}: ulimit -n")
    if soft != resource.RLIM_INFINITY and soft < max(numbers) + OTHER_DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(numbers) + OTHER_DESCRIPTORS, hard))
    prepare()
    table = Table()
    # Of the slowest gateway that is waited for.
    arrivals_a_second = 100.0
    for number in numbers:
        arrivals_a_second = asyncio.run(step(table, number, arrivals_a_second))
    sys.exit(table.close())


if __name__ == "__main__":
    main()
