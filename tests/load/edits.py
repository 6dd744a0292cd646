#!/usr/bin/env python3
"""Whole edits on one core: journalled, submitted, polled, fetched, stored and answered, with every sync on.

The upstream makes each picture of 10 KB in exactly a second and costs next to nothing (quick_upstream.py); all pictures and prompts
differ. The gateway is pinned to one core, the load and the upstream to the other. Its budgets and the pauses between its polls are
set so that they do not limit.

  most    wrk keeps 1,500 edits under way: edits/s, the gateway's CPU for each, and that of load and upstream
  added   100 edits/s at random moments (Poisson), whether or not answers come: what a client waits beyond the second. It has two parts:
          from the request to the last byte of its submit at the upstream (upload, journal, connection), and from the moment when the
          picture is ready to the last byte of the answer (the next poll, download, storing with syncs, journal, answer). The upstream
          writes the first moment into the id, which the answer brings, on the clock that the client has too.

Needs wrk (Debian: wrk), two cores and target/release/gptproto-gateway. Exits 3 when an aim is missed.

usage: tests/load/edits.py [--quick] [most|added]...
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from asking import Pool
from crash_kit import png
from measure_kit import Load, Scratch, Stopwatch, Table, counters, form, give_up, prepare, sync_ms

PATH = "/v1/images/edits"
OWN_MS = 1000
PICTURE = ("--latency-ms", OWN_MS, "--picture-bytes", 10_000)
UNDER_WAY = 1500
RATE = 100
POLLS = {
    "GATEWAY_UPSTREAM__FIRST_POLL_MS": str(OWN_MS),
    "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "2",
    "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "10",
    "GATEWAY_UPSTREAM__POLL_COST_MS": "1",
    "GATEWAY_UPSTREAM__CONCURRENT_POLLS_MAX": "256",
}
NUMBER = b"0000000000"


def request(key):
    """An edit as it goes over the wire, in two parts between which a number of ten digits belongs."""
    body, headers = form([png("edits", 58)], f"picture {NUMBER.decode()}")
    headers |= {"Host": "127.0.0.1", "Authorization": f"Bearer {key}", "Content-Length": len(body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode() + body).split(NUMBER)


def most(table, seconds):
    scratch = Scratch("edits")
    upstream = scratch.upstream(*PICTURE)
    world = scratch.gateway(upstream, POLLS)
    names = [scratch.folder / "head", scratch.folder / "tail"]
    for name, part in zip(names, request(world.keys[0])):
        name.write_bytes(part)
    # Begun at different moments of the first second, or all would move in step.
    lua = f"""
        local function whole(name) local file = io.open(name, "rb"); local all = file:read("*a"); file:close(); return all end
        local head, tail, number, begun = whole("{names[0]}"), whole("{names[1]}"), 0, 0
        request = function() number = number + 1; return head .. string.format("%010d", number) .. tail end
        delay = function() begun = begun + 1; return begun <= {UNDER_WAY} and math.random(0, {OWN_MS}) or 0 end
        """
    with ThreadPoolExecutor(1) as thread:
        loading = thread.submit(Load, scratch, world.port, PATH, UNDER_WAY, seconds + 4, lua)
        time.sleep(3)
        before, watch = counters(upstream), Stopwatch(world.gateway.pid)
        time.sleep(seconds)
        watch.stop()
        after = counters(upstream)
        load = loading.result()
    done, polls, submits = (after[what] - before[what] for what in ("downloads", "polls", "submits"))
    states = world.journal_states()
    if states.count("resolved") < load.requests:
        give_up(f"{load.requests} were answered, but in the journal are {states.count('resolved')} resolved predictions")
    table.row(f"most edits ({UNDER_WAY:,} under way)", done / watch.seconds, "edits/s", 1000, at_least=True)
    table.row("most edits: submitted meanwhile", submits / watch.seconds, "edits/s")
    table.row("most edits: the gateway", watch.cpu / max(1, done) * 1e6, "CPU us/edit")
    table.row("most edits: polls of an edit", polls / max(1, done), "polls")
    table.row("most edits: the upstream itself", (after["cpu_seconds"] - before["cpu_seconds"]) / watch.seconds * 100, "% of a core")
    table.row("most edits: wrk itself", load.cpu / (seconds + 4) * 100, "% of a core")
    world.close(keep=True)
    scratch.close()


async def open_loop(port, parts, seconds):
    """Edits at random moments; returns them all when all are answered."""
    pool, asked, chance = Pool(port), [], random.Random(1)
    head, tail = parts
    loop = asyncio.get_running_loop()
    began = moment = loop.time()
    number = 0
    while moment < began + seconds:
        await asyncio.sleep(moment - loop.time())
        number += 1
        asked.append(asyncio.create_task(pool.ask(b"%s%010d%s" % (head, number, tail))))
        moment += chance.expovariate(RATE)
    answered = await asyncio.gather(*asked)
    pool.close()
    return answered


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def added(table, seconds):
    scratch = Scratch("edits")
    upstream = scratch.upstream(*PICTURE)
    world = scratch.gateway(upstream, POLLS)
    table.row("a sync of this disk: p50", sync_ms(scratch.folder), "ms")
    before, watch, own = counters(upstream), Stopwatch(world.gateway.pid), time.process_time()
    answered = asyncio.run(open_loop(world.port, request(world.keys[0]), seconds))
    watch.stop()
    own, after = time.process_time() - own, counters(upstream)
    # What was begun while the gateway learned how long a picture takes is not what is asked for.
    answered = [one for one in answered if one.began_ns >= answered[0].began_ns + 3_000_000_000]
    to_submit = [(one.submitted_ns - one.began_ns) / 1e6 for one in answered]
    from_ready = [(one.ended_ns - one.submitted_ns) / 1e6 - OWN_MS for one in answered]
    both = [one + other for one, other in zip(to_submit, from_ready)]
    name = f"added at {RATE} edits/s"
    for what, values, aims in (("", both, (5, 25)), (", request to submit", to_submit, (None, None)),
                               (", ready to answer", from_ready, (None, None))):
        table.row(f"{name}{what}: p50", statistics.median(values), "ms", aims[0])
        table.row(f"{name}{what}: p99", percentile(values, 0.99), "ms", aims[1])
    table.row(f"{name}: edits measured", len(answered), "edits")
    table.row(f"{name}: polls of an edit", (after["polls"] - before["polls"]) / (after["submits"] - before["submits"]), "polls")
    table.row(f"{name}: the gateway", watch.cpu / watch.seconds * 100, "% of a core")
    upstream_cpu = after["cpu_seconds"] - before["cpu_seconds"]
    table.row(f"{name}: client and upstream", (own + upstream_cpu) / watch.seconds * 100, "% of a core")
    world.close(keep=True)
    scratch.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds of each")
    parser.add_argument("what", nargs="*", choices=[[], "most", "added"], help="both, unless one is named")
    arguments = parser.parse_args()
    prepare("wrk")
    table = Table()
    what = arguments.what or ("most", "added")
    if "most" in what:
        most(table, 10 if arguments.quick else 30)
    if "added" in what:
        added(table, 10 if arguments.quick else 60)
    sys.exit(table.close())


if __name__ == "__main__":
    main()
