#!/usr/bin/env python3
"""Memory and CPU of clients that wait, each for an edit of its own, up to 15,000 at once, beside a server that only parks them.

For each number of clients there is a new gateway, on one core, and an upstream (lib/quick_upstream.py, on the other core with
the clients) that completes no prediction until it is released. Pictures have 1 KB. Three periods are measured:

  quiet      all edits are submitted, and no first poll is due yet (its age is configured): memory, threads, descriptors and CPU
  polling    polls at the default pace for pictures without latency data (pauses of a seventh of the age, between one and ten
             seconds): polls/s and CPU
  release    the upstream completes all predictions at one moment: seconds until half and all are delivered, which includes the
             pauses between polls

The same requests go to a bare server (benches/bare: hyper, which reads each whole and answers when all are released) on the same
core: its memory is what the aim is relative to.

Clients connect from several loopback addresses, because of the limit of connections from one address and of its ports. Needs
cargo, two cores, 20,000 descriptors for a process (ulimit -n) and target/release/gptproto-gateway. Exits 3 when an aim is missed.

usage: tests/load/waiters.py [--quick] [NUMBER]...     (default 2000 4000 8000 15000, which takes some minutes)
"""

import argparse
import asyncio
import resource
import sys
import time
from pathlib import Path

from lib.bare import Bare
from lib.http_client import connect
from lib.measuring import Scratch, Stopwatch, Table, counters, form, memory, prepare, raw_request
from lib.pictures import png
from lib.project import give_up
from lib.rig import call

PATH = "/v1/images/edits"
NUMBER = b"0000000000"
CLIENTS_AN_ADDRESS = 500
CONNECTING_AT_ONCE = 64
PERIOD_S = 10
# Descriptors of a process besides those of clients.
OTHER_DESCRIPTORS = 200


class Clients:
    """All clients, in one thread."""

    def __init__(self, port, key):
        body, headers = form([png("waiters", 16)], f"picture {NUMBER.decode()}")
        self.head, self.tail = raw_request(PATH, body, headers | {"Authorization": f"Bearer {key}"}).split(NUMBER)
        self.port = port
        self.gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self.ends_ns = []

    async def wait(self, number):
        address = f"127.0.1.{1 + number // CLIENTS_AN_ADDRESS}"
        async with self.gate:
            connection = await connect(self.port, address)
        exchange = await connection.send(b"%s%010d%s" % (self.head, number, self.tail))
        if exchange.status != 200:
            give_up(f"a client is answered with {exchange.status}: {exchange.answer[:500]}")
        self.ends_ns.append(exchange.ended_ns)
        connection.transport.close()


async def measure_period(pid, upstream):
    """Returns the share of a core that a process used for PERIOD_S, in percent, and polls/s."""
    before, watch = counters(upstream), Stopwatch(pid)
    await asyncio.sleep(PERIOD_S)
    watch.stop()
    return watch.cpu / watch.seconds * 100, (counters(upstream)["polls"] - before["polls"]) / watch.seconds


async def parked(scratch, number, key):
    """Returns the memory of a client that is parked by a bare server, in bytes."""
    bare = Bare(scratch, "parked")
    idle = memory(bare.pid)
    clients = Clients(bare.port, key)
    waiting = [asyncio.create_task(clients.wait(each)) for each in range(number)]
    until = time.monotonic() + 60
    while int(call(bare.port, "GET", "/_parked")[2]) < number:
        if time.monotonic() > until:
            give_up(f"the bare server has not parked {number} requests after 60 s")
        await asyncio.sleep(0.1)
    resident = memory(bare.pid)
    call(bare.port, "GET", "/_release")
    await asyncio.gather(*waiting)
    # Until the connections are closed.
    await asyncio.sleep(1)
    return (resident - idle) / number


async def step(table, number, arrivals_a_second):
    """Measures one number of clients; returns how many of them arrived in a second."""
    scratch = Scratch("waiters")
    first_poll_s = number / arrivals_a_second * 1.5 + PERIOD_S + 5
    upstream = scratch.upstream("--held", "--latency-ms", 0, "--picture-bytes", 1000)
    rig = scratch.gateway(upstream, {
        "GATEWAY_UPSTREAM__FIRST_POLL_MS": str(int(first_poll_s * 1000)),
        "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "1000",
        "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "10000",
    })
    pid = rig.gateway.pid
    # Before the gateway's own clients, because the descriptors of this process are enough for one of both.
    least = await parked(scratch, number, rig.keys[0])
    call(rig.port, "GET", "/v1/models", headers={"Authorization": f"Bearer {rig.keys[0]}"})
    idle = memory(pid)
    clients = Clients(rig.port, rig.keys[0])
    watch, began = Stopwatch(pid), time.monotonic()
    waiting = [asyncio.create_task(clients.wait(each)) for each in range(number)]
    while (counted := counters(upstream))["submits"] < number:
        for each in waiting:
            if each.done() and each.exception():
                raise each.exception()
        if time.monotonic() - began > first_poll_s:
            give_up(f"only {counted['submits']} of {number} have been submitted after {first_poll_s:.0f} s")
        await asyncio.sleep(0.1)
    watch.stop()
    arrivals_a_second, arrival_cpu, took = number / watch.seconds, watch.cpu, watch.seconds
    # Until the journal has the last one too.
    await asyncio.sleep(1)

    name = f"{number:,} waiting"
    resident = memory(pid)
    threads, descriptors = (len(list(Path(f"/proc/{pid}/{what}").iterdir())) for what in ("task", "fd"))
    cpu, polls = await measure_period(pid, upstream)
    table.row(f"{name}: memory of one", (resident - idle) / number / 1000, "KB", key=f"{number} memory")
    table.row(f"{name}: memory of one, bare server", least / 1000, "KB")
    table.row(f"{name}: memory of the bare server's", (resident - idle) / number / least, "x", 1.5, key="waiter")
    table.row(f"{name}: memory of the gateway", resident / 1e6, "MB")
    table.row(f"{name}: threads", threads, "threads")
    table.row(f"{name}: descriptors", descriptors, "descriptors")
    table.row(f"{name}: arrived", arrivals_a_second, "edits/s")
    table.row(f"{name}: CPU of an arrival", arrival_cpu / number * 1e6, "CPU us", key=f"{number} arrival")
    table.row(f"{name}: CPU, quiet ({polls:.0f} polls/s)", cpu, "% of a core")

    # Until the last one has been polled once.
    await asyncio.sleep(max(0.0, began + took + first_poll_s + 2 - time.monotonic()))
    cpu, polls = await measure_period(pid, upstream)
    table.row(f"{name}: polls", polls, "polls/s")
    table.row(f"{name}: CPU, polling", cpu, "% of a core")
    table.row(f"{name}: CPU of a poll", cpu / 100 / max(1.0, polls) * 1e6, "CPU us", key=f"{number} poll")

    watch = Stopwatch(pid)
    released_ns = time.monotonic_ns()
    call(upstream, "GET", "/_release")
    await asyncio.gather(*waiting)
    watch.stop()
    delivered = sorted((moment - released_ns) / 1e9 for moment in clients.ends_ns)
    table.row(f"{name}: half delivered after", delivered[number // 2], "s")
    table.row(f"{name}: all delivered after", delivered[-1], "s")
    table.row(f"{name}: CPU of a delivery", watch.cpu / number * 1e6, "CPU us", key=f"{number} delivery")
    table.row(f"{name}: memory afterwards", memory(pid) / 1e6, "MB")
    rig.close(keep=True)
    scratch.close()
    return arrivals_a_second


def allow_descriptors(clients):
    """Raises the limit of descriptors for a number of clients, also for the processes that are started from now on."""
    needed = clients + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        give_up(f"{clients} clients need {needed} descriptors, and there are {hard}: ulimit -n")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1000 clients only")
    parser.add_argument("numbers", nargs="*", type=int)
    arguments = parser.parse_args()
    numbers = arguments.numbers or ([1000] if arguments.quick else [2000, 4000, 8000, 15_000])
    allow_descriptors(max(numbers))
    prepare()
    table = Table()
    # Of the slowest gateway for which this script waits.
    arrivals_a_second = 100.0
    for number in numbers:
        arrivals_a_second = asyncio.run(step(table, number, arrivals_a_second))
    sys.exit(table.close())


if __name__ == "__main__":
    main()
