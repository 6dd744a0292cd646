#!/usr/bin/env python3
"""Complete edits on one core: journalled, submitted, polled, fetched, stored and answered, with all syncs.

The upstream makes each picture of 10 KB in exactly one second at little cost (lib/quick_upstream.py); all pictures and prompts
differ. The gateway is pinned to one core, the load and the upstream to the other. Budgets and pauses between polls are set so
that they do not limit.

  most    wrk keeps 1,500 edits under way, at the gateway and at a bare server in turn (benches/bare), which makes the same four
          calls upstream and stores nothing: edits/s, CPU for each edit, and that of load and upstream
  added   100 edits/s at random moments (Poisson), independent of the answers: how long a client waits beyond the second. This
          has two parts: from the request to the last byte of its submit at the upstream (upload, journal, connection), and from
          the moment at which the picture is ready to the last byte of the answer (next poll, download, storing with syncs,
          journal, answer). The upstream writes the moment of the submit into the id, which the answer contains. Beside them,
          25 times a second, how long a sync of the same disk takes: three commits are in series in an edit

Needs wrk (Debian: wrk), cargo, two cores and target/release/gptproto-gateway. Exits 3 when an aim is missed.

usage: tests/load/edits.py [--quick] [most|added]...
"""

import asyncio
import random
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from lib.bare import Bare, answer_options
from lib.http_client import Pool
from lib.measuring import Scratch, Stopwatch, Table, WrkLoad, counters, form, parse_arguments, prepare, raw_request
from lib.pictures import png
from lib.project import give_up
from lib.rig import call
from lib.sync_times import SyncTimes

PATH = "/v1/images/edits"
OWN_MS = 1000
PICTURE = ("--latency-ms", OWN_MS, "--picture-bytes", 10_000)
UNDER_WAY = 1500
RATE = 100
# Before the purchase, after it and for its result; and what the rest of an edit may take.
SYNCS_IN_SERIES, OWN_WORK_MS = 3, 3
POLLS = {
    "GATEWAY_UPSTREAM__FIRST_POLL_MS": str(OWN_MS),
    "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "2",
    "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "10",
    "GATEWAY_UPSTREAM__POLL_COST_MS": "1",
    "GATEWAY_UPSTREAM__CONCURRENT_POLLS_MAX": "256",
}
NUMBER = b"0000000000"


def request(key):
    """Returns the bytes of an edit in two parts, between which a number of ten digits is to be inserted."""
    body, headers = form([png("edits", 58)], f"picture {NUMBER.decode()}")
    return raw_request(PATH, body, headers | {"Authorization": f"Bearer {key}"}).split(NUMBER)


class Measured:
    """A server under 1,500 edits, and its figures of each round."""

    def __init__(self, port, pid):
        self.port, self.pid = port, pid
        self.rates, self.submits, self.costs, self.polls, self.upstream, self.wrk = [], [], [], [], [], []
        self.answered = 0

    def round(self, scratch, upstream, seconds, make_lua):
        with ThreadPoolExecutor(1) as thread:
            loading = thread.submit(WrkLoad, scratch, self.port, PATH, UNDER_WAY, seconds + 4, make_lua())
            time.sleep(3)
            before, watch = counters(upstream), Stopwatch(self.pid)
            time.sleep(seconds)
            watch.stop()
            after = counters(upstream)
            load = loading.result()
        done, polls, submits = (after[what] - before[what] for what in ("downloads", "polls", "submits"))
        self.answered += load.requests
        self.rates.append(done / watch.seconds)
        self.submits.append(submits / watch.seconds)
        self.costs.append(watch.cpu / max(1, done))
        self.polls.append(polls / max(1, done))
        self.upstream.append((after["cpu_seconds"] - before["cpu_seconds"]) / watch.seconds)
        self.wrk.append(load.cpu / (seconds + 4))


def most(table, rounds, seconds):
    scratch = Scratch("edits")
    upstream = scratch.upstream(*PICTURE)
    rig = scratch.gateway(upstream, POLLS)
    head, tail = request(rig.keys[0])
    body, headers = form([png("edits", 58)], "the first one")
    status, answered, answer = call(rig.port, "POST", PATH, body, headers | {"Authorization": f"Bearer {rig.keys[0]}"})
    if status != 200:
        give_up(f"the gateway answers {status}: {answer[:500]}")
    bare = Bare(scratch, "edits", (*answer_options(scratch, answered, answer), "--upstream", f"http://127.0.0.1:{upstream}", "--latency-ms", OWN_MS))
    names = [scratch.folder / "head", scratch.folder / "tail"]
    for name, part in zip(names, (head, tail)):
        name.write_bytes(part)
    rounds_begun = 0

    def make_lua():
        # Begun at random moments of the first second, so that the edits do not run in step.
        nonlocal rounds_begun
        rounds_begun += 1
        return f"""
        local function whole(name) local file = io.open(name, "rb"); local all = file:read("*a"); file:close(); return all end
        local head, tail, number, begun = whole("{names[0]}"), whole("{names[1]}"), {rounds_begun * 10_000_000}, 0
        request = function() number = number + 1; return head .. string.format("%010d", number) .. tail end
        delay = function() begun = begun + 1; return begun <= {UNDER_WAY} and math.random(0, {OWN_MS}) or 0 end
        """

    servers = {"the gateway": Measured(rig.port, rig.gateway.pid), "the bare server": Measured(bare.port, bare.pid)}
    for _ in range(rounds):
        for server in servers.values():
            server.round(scratch, upstream, seconds, make_lua)
    gateway, least = servers.values()
    resolved = rig.journal_states().count("resolved")
    if resolved < gateway.answered:
        give_up(f"{gateway.answered} were answered, but in the journal are {resolved} resolved predictions")
    for name, server in servers.items():
        table.row(f"most edits ({UNDER_WAY:,} under way): {name}", statistics.median(server.rates), "edits/s")
        table.row(f"most edits: {name}", statistics.median(server.costs) * 1e6, "CPU us/edit")
        table.row(f"most edits: polls of an edit, {name}", statistics.median(server.polls), "polls")
    table.row("most edits: submitted meanwhile", statistics.median(gateway.submits), "edits/s")
    table.row("most edits: the upstream itself", statistics.median(gateway.upstream) * 100, "% of a core")
    table.row("most edits: wrk itself", statistics.median(gateway.wrk) * 100, "% of a core")
    table.row("most edits: CPU of the bare server's", statistics.median(gateway.costs) / statistics.median(least.costs), "x", 1.6, key="edit_cpu")
    rig.close(keep=True)
    scratch.close()


async def open_loop(port, parts, seconds):
    """Sends edits at random moments; returns all exchanges when all are answered."""
    pool, sent, rng = Pool(port), [], random.Random(1)
    head, tail = parts
    loop = asyncio.get_running_loop()
    began = moment = loop.time()
    number = 0
    while moment < began + seconds:
        await asyncio.sleep(moment - loop.time())
        number += 1
        sent.append(asyncio.create_task(pool.send(b"%s%010d%s" % (head, number, tail))))
        moment += rng.expovariate(RATE)
    answered = await asyncio.gather(*sent)
    pool.close()
    return answered


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def added(table, seconds):
    scratch = Scratch("edits")
    upstream = scratch.upstream(*PICTURE)
    rig = scratch.gateway(upstream, POLLS)
    before, watch, own = counters(upstream), Stopwatch(rig.gateway.pid), time.process_time()
    with SyncTimes(rig.folder) as syncs:
        answered = asyncio.run(open_loop(rig.port, request(rig.keys[0]), seconds))
    watch.stop()
    own, after = time.process_time() - own, counters(upstream)
    # Not the first three seconds, in which the gateway learns how long a picture takes.
    answered = [one for one in answered if one.began_ns >= answered[0].began_ns + 3_000_000_000]
    to_submit = [(one.submitted_ns - one.began_ns) / 1e6 for one in answered]
    from_ready = [(one.ended_ns - one.submitted_ns) / 1e6 - OWN_MS for one in answered]
    both = [one + other for one, other in zip(to_submit, from_ready)]
    name = f"added at {RATE} edits/s"
    for what, values in (("", both), (", request to submit", to_submit), (", ready to answer", from_ready)):
        table.row(f"{name}{what}: p50", statistics.median(values), "ms")
        table.row(f"{name}{what}: p99", percentile(values, 0.99), "ms")
    table.row(f"{name}: a sync of this disk meanwhile, p50", syncs.percentile(0.5), "ms")
    table.row(f"{name}: a sync of this disk meanwhile, p99", syncs.percentile(0.99), "ms")
    bound = SYNCS_IN_SERIES * syncs.percentile(0.5) + OWN_WORK_MS
    table.row(f"{name}: p50 of {SYNCS_IN_SERIES} syncs + {OWN_WORK_MS} ms ({bound:.1f} ms)", statistics.median(both) / bound, "x", 1, key="added")
    table.row(f"{name}: edits measured", len(answered), "edits")
    table.row(f"{name}: polls of an edit", (after["polls"] - before["polls"]) / (after["submits"] - before["submits"]), "polls")
    table.row(f"{name}: the gateway", watch.cpu / watch.seconds * 100, "% of a core")
    upstream_cpu = after["cpu_seconds"] - before["cpu_seconds"]
    table.row(f"{name}: client and upstream", (own + upstream_cpu) / watch.seconds * 100, "% of a core")
    rig.close(keep=True)
    scratch.close()


def main():
    arguments = parse_arguments(__doc__, "10 s of each", ("most", "added"))
    prepare("wrk")
    table = Table()
    if "most" in arguments.parts:
        most(table, *((1, 8) if arguments.quick else (3, 15)))
    if "added" in arguments.parts:
        added(table, 10 if arguments.quick else 60)
    sys.exit(table.close())


if __name__ == "__main__":
    main()
