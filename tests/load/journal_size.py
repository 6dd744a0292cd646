#!/usr/bin/env python3
"""A journal of a million jobs, of which 200,000 have their pictures: the time until the gateway is ready, and how long a sweep of
stored results makes purchases wait.

The gateway makes an empty journal, which SQL then fills: every job has one delivered picture. The limit of
`storage.results_bytes_max` is set so that the first sweep evicts half of the stored results, while clients buy.

Exit codes: 0 passed, 1 something was bought twice, lost or evicted wrongly, 2 not carried out, 3 an aim was missed.

usage: tests/load/journal_size.py [--jobs N] [--kept N] [--binary FILE]
"""

import argparse
import json
import shutil
import sqlite3
import sys
import threading
import time

from lib.clients import Client
from lib.project import ROOT, any_binary, require
from lib.rig import Rig, call

SCENARIO = """
[life]
low_ms = [50, 50]
size_counts = "no"
[limits]
poll_interval_min_ms = 0
"""
PICTURE_BYTES = 100
CLIENTS = 4
SWEEP_S = 15
READY_AIM_S = 2.0
# A purchase has four commits, each of which may have to wait for one page of a sweep.
WAIT_AIM_S = 0.1


def fill(database, results, jobs, kept):
    """Writes the jobs, and a file for each picture that is kept. Returns the number of days that the jobs are spread over."""
    now_ms = int(time.time() * 1000)
    # Evenly over 30 days, the last one just now, and the running time as if the gateway had run all the while.
    step_ms = 30 * 86_400_000 // jobs
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    connection.execute(f"""
        WITH RECURSIVE count (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM count WHERE i < {jobs})
        INSERT INTO jobs (id, client, fingerprint, task, model, size, choices, n, shareable, created_ms, delivered_ms, evicted,
                          respond_async, inputs, delivered_running_ms, stored_running_ms, stored_bytes)
        SELECT printf('pred_%026d', i), 'w' || (i % {CLIENTS}), lower(hex(randomblob(32))), 'image-edit', 'gpt-image-2', '1024x1024',
               '{{"quality":"low"}}', 1, 1, {now_ms} - ({jobs} - i) * {step_ms}, {now_ms} - ({jobs} - i) * {step_ms}, i <= {jobs - kept},
               0, 1, i * {step_ms}, i * {step_ms}, iif(i <= {jobs - kept}, 0, {PICTURE_BYTES}) FROM count""")
    connection.execute("""
        INSERT INTO purchases (id, job_id, slot, pictures, state, upstream_id, committed_ms, accepted_ms, ended_ms, usage, account, api,
                               format, accepted_running_ms, ended_running_ms)
        SELECT id || '.0', id, 0, 1, 'resolved', lower(hex(randomblob(16))), created_ms, created_ms, created_ms,
               '{"input_tokens":368,"output_tokens":805,"input_image_tokens":323}', 'default', 'prediction', 'body',
               stored_running_ms, stored_running_ms FROM jobs""")
    connection.execute(f"""
        INSERT INTO pictures SELECT id || '.0', 0, lower(hex(randomblob(32))), {PICTURE_BYTES}, 'png', 16, 16 FROM jobs""")
    connection.execute(f"""
        INSERT INTO used_quota SELECT created_ms / 86400000 AS day, client, model, 1, count(*), 368 * count(*), 805 * count(*)
        FROM jobs GROUP BY day, client, model""")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'running_ms'", (jobs * step_ms,))
    connection.execute("UPDATE meta SET value = ? WHERE key = 'stored_bytes'", (kept * PICTURE_BYTES,))
    connection.execute("COMMIT")
    digests = connection.execute(
        "SELECT digest FROM jobs JOIN pictures ON purchase_id = jobs.id || '.0' WHERE stored_bytes > 0")
    for (digest,) in digests:
        (results / digest).write_bytes(b"x" * PICTURE_BYTES)
    connection.close()


class Buyer:
    """A client that buys one picture after the other, and notes how long each took."""

    def __init__(self, rig, number, phase):
        self.times = []
        self.failures = []
        self.running = True
        self.thread = threading.Thread(target=self.run, args=(rig, number, phase), daemon=True)
        self.thread.start()

    def run(self, rig, number, phase):
        client = Client(rig, number, 100 + number)
        while self.running:
            began = time.monotonic()
            answer = client.request(f"picture {len(self.times)} of {number}, {phase}", None)
            self.times.append((began, time.monotonic() - began))
            if answer.status != 200:
                self.failures.append((answer.status, answer.code))


def buy_for(rig, seconds, phase):
    """Buys with all clients; returns how long the purchases took, in seconds, sorted, and what failed."""
    buyers = [Buyer(rig, number, phase) for number in range(CLIENTS)]
    time.sleep(seconds)
    for buyer in buyers:
        buyer.running = False
    for buyer in buyers:
        buyer.thread.join(60)
    return sorted(took for buyer in buyers for _, took in buyer.times), [one for buyer in buyers for one in buyer.failures]


def stored(rig):
    connection = sqlite3.connect(f"file:{rig.directory / 'journal.sqlite'}?mode=ro", uri=True, timeout=5)
    try:
        return connection.execute("SELECT count(*) FROM jobs WHERE stored_bytes > 0").fetchone()[0]
    finally:
        connection.close()


def figures(took):
    return f"{len(took)} purchases, median {took[len(took) // 2] * 1000:.0f} ms, longest {took[-1] * 1000:.0f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--kept", type=int, default=200_000)
    parser.add_argument("--binary", type=lambda text: ROOT.joinpath(text).resolve(), default=any_binary())
    arguments = parser.parse_args()
    require(arguments.binary)
    rig = Rig(arguments.binary, CLIENTS, SCENARIO, {
        "GATEWAY_STORAGE__EVICTION_INTERVAL_S": "86400",
        "GATEWAY_STORAGE__FREE_BYTES_MIN": "0",
        "GATEWAY_STORAGE__RESULTS_TTL_S": str(60 * 86400),
    })
    missed = False
    try:
        rig.start()
        rig.stop()
        fill(rig.directory / "journal.sqlite", rig.directory / "results", arguments.jobs, arguments.kept)
        size = (rig.directory / "journal.sqlite").stat().st_size >> 20
        began = time.monotonic()
        rig.start()
        ready_s = time.monotonic() - began
        print(f"{arguments.jobs} jobs, {arguments.kept} pictures kept, {size} MB: ready after {ready_s:.2f} s")
        missed |= ready_s > READY_AIM_S
        usual, failures = buy_for(rig, SWEEP_S, "without a sweep")
        print(f"without a sweep: {figures(usual)}")
        rig.stop()

        rig.environment["GATEWAY_STORAGE__EVICTION_INTERVAL_S"] = "3"
        rig.environment["GATEWAY_STORAGE__RESULTS_BYTES_MAX"] = str(arguments.kept * PICTURE_BYTES // 2)
        rig.start()
        time.sleep(2)
        before = stored(rig)
        swept, more = buy_for(rig, SWEEP_S, "during a sweep")
        failures += more
        print(f"during a sweep: {figures(swept)}; {before - stored(rig) + len(swept)} results evicted in {SWEEP_S} s")
        longest = swept[-1] - usual[-1]
        print(f"the longest purchase took {longest * 1000:.0f} ms more")
        missed |= longest > WAIT_AIM_S
        status = json.loads(call(rig.operator_port, "GET", "/status.json")[2])
        broken = bool(failures) or status["engine"]["storage"] != "ok" or stored(rig) >= before
        if broken:
            print(f"failed: {failures[:5]}, storage {status['engine']['storage']}, stored {before} before and {stored(rig)} after")
        expected = len(usual) + len(swept)
        bought = len(rig.accepted())
        if bought != expected:
            print(f"bought {bought}, asked for {expected}")
            broken = True
        rig.stop()
    finally:
        rig.close(False)
        shutil.rmtree(rig.folder, ignore_errors=True)
    if not broken and missed:
        print(f"missed: ready within {READY_AIM_S} s, at most {WAIT_AIM_S * 1000:.0f} ms more for a purchase")
    sys.exit(1 if broken else 3 if missed else 0)


if __name__ == "__main__":
    main()
