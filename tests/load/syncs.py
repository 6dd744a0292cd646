#!/usr/bin/env python3
"""Syncs of a whole edit, counted by strace: alone, and with 300 under way.

Every call that waits for a disk counts: fsync, fdatasync, sync_file_range, syncfs, sync and msync. strace stops only those
(seccomp), so the rest of the gateway runs as usual. The upstream makes each picture of 10 KB in one second at little cost
(lib/quick_upstream.py); all prompts differ.

  alone   one edit after the other, with half a second between them, so that none shares a commit with the next
  many    300 edits under way, begun at random moments

Needs strace 5.3 and the permission to trace, two cores and target/release/gptproto-gateway. Exits 3 when an aim is missed.

usage: tests/load/syncs.py [--quick] [alone|many]...
"""

import asyncio
import random
import re
import shutil
import sys
import time
from collections import Counter

from lib.http_client import Pool
from lib.measuring import Scratch, Table, counters, form, parse_arguments, prepare, raw_request
from lib.pictures import png
from lib.project import give_up

PATH = "/v1/images/edits"
NUMBER = b"0000000000"
CALLS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")
# How long the upstream takes, alone and with many under way.
OWN_MS = {"alone": 50, "many": 1000}
UNDER_WAY = 300
# Until what an edit leaves behind has been written too.
AFTERWARDS_S = 0.5
AIMS = {"alone": 3, "many": 1.2}


def polls_after(own_ms):
    return {
        "GATEWAY_UPSTREAM__FIRST_POLL_MS": str(own_ms),
        "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "2",
        "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "10",
        "GATEWAY_UPSTREAM__POLL_COST_MS": "1",
        "GATEWAY_UPSTREAM__CONCURRENT_POLLS_MAX": "256",
    }


class Syncs:
    """The syncs that strace has written down so far."""

    def __init__(self, folder):
        self.file = folder / "syncs.strace"

    def command(self):
        # -D: strace is the parent of nothing, so that the gateway keeps its place as a child of this script.
        return ("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={','.join(CALLS)}", "-e", "signal=none", "-y", "-o", str(self.file))

    def so_far(self):
        """Returns the number of calls, those on files of the journal apart."""
        counted = Counter()
        # A call that another thread interrupts has a second line, which begins with "<...".
        for call, what in re.findall(r"^\d+ +(\w+)\((?:\d+<([^>]*)>)?", self.file.read_text(), re.MULTILINE):
            if call in CALLS:
                counted["journal" if "journal" in what else "other files and folders"] += 1
        return counted


async def one_by_one(port, parts, number):
    pool = Pool(port)
    for each in range(number):
        await pool.send(b"%s%010d%s" % (parts[0], each, parts[1]))
        await asyncio.sleep(AFTERWARDS_S)
    pool.close()


async def under_way(port, parts, seconds, own_ms):
    """Keeps edits under way for a while; returns how many were answered."""
    until = time.monotonic() + seconds
    numbers = iter(range(1 << 30))
    pool = Pool(port)

    async def client():
        await asyncio.sleep(random.random() * own_ms / 1000)
        answered = 0
        while time.monotonic() < until:
            await pool.send(b"%s%010d%s" % (parts[0], next(numbers), parts[1]))
            answered += 1
        return answered

    answered = sum(await asyncio.gather(*(client() for _ in range(UNDER_WAY))))
    pool.close()
    return answered


def syncs(table, part, quick):
    scratch = Scratch("syncs")
    upstream = scratch.upstream("--latency-ms", OWN_MS[part], "--picture-bytes", 10_000)
    counting = Syncs(scratch.folder)
    rig = scratch.gateway(upstream, polls_after(OWN_MS[part]), through=counting.command())
    body, headers = form([png("syncs", 58)], f"picture {NUMBER.decode()}")
    headers["Authorization"] = f"Bearer {rig.keys[0]}"
    # First what only a start and the first edits write.
    asyncio.run(one_by_one(rig.port, raw_request(PATH, body.replace(b"picture ", b"warm up "), headers).split(NUMBER), 3))
    parts = raw_request(PATH, body, headers).split(NUMBER)
    before, counted = counting.so_far(), counters(upstream)["downloads"]
    if part == "alone":
        answered = 10 if quick else 30
        asyncio.run(one_by_one(rig.port, parts, answered))
        name = "syncs of an edit, alone"
    else:
        answered = asyncio.run(under_way(rig.port, parts, 6 if quick else 15, OWN_MS[part]))
        time.sleep(AFTERWARDS_S)
        name = f"syncs of an edit, {UNDER_WAY} under way"
    made = counters(upstream)["downloads"] - counted
    if made != answered:
        give_up(f"{answered} edits were answered, and {made} pictures were fetched")
    after = counting.so_far()
    for what in sorted(after):
        table.row(f"{name}: {what}", (after[what] - before[what]) / answered, "syncs")
    table.row(f"{name}", (after.total() - before.total()) / answered, "syncs", AIMS[part], key=f"syncs_{part}")
    rig.close(keep=True)
    scratch.close()


def require_strace():
    if not shutil.which("strace"):
        give_up("strace is missing: apt-get install strace")


def main():
    arguments = parse_arguments(__doc__, "fewer edits", ("alone", "many"))
    prepare()
    require_strace()
    table = Table()
    for part in arguments.parts:
        syncs(table, part, arguments.quick)
    sys.exit(table.close())


if __name__ == "__main__":
    main()
