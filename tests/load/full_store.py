#!/usr/bin/env python3
"""A store at its limit, which deletes as many results as it stores: what an edit costs there, beside one in a store with space.

On ext4 the making of a file takes longer while many were deleted shortly before. First the gateway stores
pictures without a limit. Then many files of its folder are deleted, as an eviction of that many results did, and it is started
again with half of what is stored as its limit, so that it deletes the other half at once and, every second, as many results as
have come since. Each part has the same load: wrk keeps edits under way.

Needs wrk (Debian: wrk), two cores and target/release/gptproto-gateway. Exits 3 when an aim is missed.

usage: tests/load/full_store.py [--quick]      BINARY=FILE measures another program; OVERRIDE=KEY=VALUE sets a key of it
"""

import json
import os
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from lib.measuring import MEASURED_CORE, Scratch, Stopwatch, Table, WrkLoad, counters, form, parse_arguments, pinned, prepare
from lib.pictures import png
from lib.project import give_up
from lib.rig import call

PATH = "/v1/images/edits"
PICTURE_BYTES, LATENCY_MS, UNDER_WAY = 10_000, 100, 100
OVERRIDES = {
    "GATEWAY_UPSTREAM__FIRST_POLL_MS": str(LATENCY_MS),
    "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "2",
    "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "10",
    "GATEWAY_UPSTREAM__POLL_COST_MS": "1",
    "GATEWAY_UPSTREAM__CONCURRENT_POLLS_MAX": "256",
    "GATEWAY_STORAGE__FREE_BYTES_MIN": "0",
    **dict(pair.split("=", 1) for pair in os.environ.get("OVERRIDE", "").split() if pair),
}
# Files that are deleted before the second part.
DELETED = 40_000
# A cost that is the same but for the deleting itself, which is part of it.
RATIO_AIM = 1.25
NUMBER = b"0000000000"


def parts(folder, key):
    """Writes the bytes of an edit to two files, between which a number is to be inserted."""
    body, headers = form([png("full", 58)], f"picture {NUMBER.decode()}")
    headers |= {"Host": "127.0.0.1", "Authorization": f"Bearer {key}", "Content-Length": len(body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    names = folder / "head", folder / "tail"
    for name, part in zip(names, (f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode() + body).split(NUMBER)):
        name.write_bytes(part)
    return names


def load(scratch, rig, upstream, seconds, first):
    """Keeps edits under way; returns the number of edits, and the CPU of the gateway for each in microseconds."""
    head, tail = parts(scratch.folder, rig.keys[0])
    lua = f"""
        local function whole(name) local file = io.open(name, "rb"); local all = file:read("*a"); file:close(); return all end
        local head, tail, number = whole("{head}"), whole("{tail}"), {first}
        request = function() number = number + 1; return head .. string.format("%010d", number) .. tail end
        """
    with ThreadPoolExecutor(1) as thread:
        loading = thread.submit(WrkLoad, scratch, rig.port, PATH, UNDER_WAY, seconds + 3, lua)
        time.sleep(2)
        before, watch = counters(upstream), Stopwatch(rig.gateway.pid)
        time.sleep(seconds)
        watch.stop()
        after = counters(upstream)
        loading.result()
    done = after["downloads"] - before["downloads"]
    return done / watch.seconds, watch.cpu / max(1, done) * 1e6


def stored(rig):
    connection = sqlite3.connect(f"file:{rig.directory / 'journal.sqlite'}?mode=ro", uri=True, timeout=5)
    try:
        return connection.execute("SELECT count(*), sum(evicted) FROM jobs").fetchone()
    finally:
        connection.close()


def delete_many(folder):
    """Makes files, and deletes them together."""
    names = [folder / f"{number}.old" for number in range(DELETED)]
    for name in names:
        name.write_bytes(b"")
    os.sync()
    for name in names:
        name.unlink()


def main():
    arguments = parse_arguments(__doc__, "5 s a part instead of 20")
    seconds = 5 if arguments.quick else 20
    prepare("wrk")
    table, scratch = Table(), Scratch("full-store")
    upstream = scratch.upstream("--latency-ms", LATENCY_MS, "--picture-bytes", PICTURE_BYTES)
    rig = scratch.gateway(upstream, {**OVERRIDES, "GATEWAY_STORAGE__EVICTION_INTERVAL_S": "86400"})
    spacious = load(scratch, rig, upstream, seconds, 0)
    jobs, _ = stored(rig)
    rig.stop()
    rig.environment["GATEWAY_STORAGE__EVICTION_INTERVAL_S"] = "1"
    rig.environment["GATEWAY_STORAGE__RESULTS_BYTES_MAX"] = str(jobs * PICTURE_BYTES // 2)
    delete_many(rig.directory / "results")
    rig.launch(through=pinned(MEASURED_CORE))
    rig.wait_until_ready()
    full = load(scratch, rig, upstream, seconds, 1_000_000_000)
    more, evicted = stored(rig)
    status = json.loads(call(rig.operator_port, "GET", "/status.json")[2])
    if evicted < jobs // 2 or status["engine"]["storage"] != "ok":
        give_up(f"of {more} results {evicted} were evicted, storage {status['engine']['storage']}")
    table.row("with space: edits", spacious[0], "edits/s")
    table.row("with space: the gateway", spacious[1], "CPU us/edit")
    table.row("full: edits", full[0], "edits/s")
    table.row("full: the gateway", full[1], "CPU us/edit")
    table.row("full: results deleted for each one stored", evicted / (more - jobs), "results")
    table.row("full / with space", full[1] / spacious[1], "x CPU", RATIO_AIM)
    database = (rig.directory / "journal.sqlite").stat().st_size
    table.row("full: the journal", database / (more - evicted) / 1000, "KB a stored picture")
    rig.close(keep=True)
    scratch.close()
    sys.exit(table.close())


if __name__ == "__main__":
    main()
