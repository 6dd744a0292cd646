#!/usr/bin/env python3
"""Uploads through the gateway, compared with nginx buffering the same body and proxying it to the same sink.

Forms with pictures of 1 MB, 20 MB and 16 x 50 MB go in turn to the gateway (spool, submit with base64 in JSON, poll, download,
answer), to nginx (one worker, proxy_request_buffering on, temporary files on the same disk) and directly to the sink, which
discards bodies and answers. Gateway and nginx are pinned to one core, the client, which sends from a file, and the sink to the
other. Prints for each the seconds of an upload and the CPU for each GB.

  small   1 MB, until the submit has arrived at the sink. A purchase waits for a disk and nginx does not, so the aim is nginx's
          time, a commit as measured beside, and 1 ms. What follows does not depend on the size of an upload: edits.py measures it
  large   20 MB and 16 x 50 MB; aims relative to nginx
  memory  the gateway's peak memory above idle during one and during eight uploads of 16 x 50 MB at once, on both cores

Needs nginx (Debian: nginx), two cores, 8 GB of disk and target/release/gptproto-gateway. Exits 3 when an aim is missed.

usage: tests/load/uploads.py [--quick] [small|large|memory]...
"""

import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from lib.measuring import Scratch, Stopwatch, Table, memory, parse_arguments, prepare, reset_peak
from lib.rig import free_ports
from lib.sync_times import CommitFile
from lib.uploads import BIG, IMMEDIATE_POLLS, MB, MEMORY_AIMS, TINY_PICTURE, Uploads

# Number and bytes of the pictures of an upload, uploads in a round.
SPEEDS = {"small": {"1 MB": ((1, 1 * MB), 1)}, "large": {"20 MB": ((1, 20 * MB), 8), "16 x 50 MB": (BIG, 1)}}
# What the gateway may take beyond nginx and a commit.
OWN_WORK_MS = 1


def speed(table, size, rounds, quick):
    scratch = Scratch("uploads")
    sink = scratch.upstream(*TINY_PICTURE)
    rig = scratch.gateway(sink, IMMEDIATE_POLLS)
    port = free_ports(1)[0]
    nginx = scratch.nginx(port, f"""
        upstream sink {{ server 127.0.0.1:{sink}; keepalive 16; }}
        server {{ listen 127.0.0.1:{port}; location / {{
          proxy_pass http://sink; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering on; }} }}""")
    commits = CommitFile(rig.folder)
    targets = {"gateway": (rig.port, rig.gateway.pid), "nginx": (port, nginx.pid), "directly to the sink": (sink, os.getpid())}
    for name, (pictures, count) in SPEEDS[size].items():
        if quick:
            count = max(1, count // 2)
        uploads = Uploads(scratch, pictures)
        seconds = {target: [] for target in targets}
        costs = {target: [] for target in targets}
        commits_ms = []
        for _ in range(rounds):
            commits_ms += [commits.write_ms() for _ in range(3)]
            for target, (port, pid) in targets.items():
                watch = Stopwatch(pid)
                arrivals = [uploads.send(port, rig.keys[0]) for _ in range(count)]
                watch.stop()
                seconds[target].append(statistics.median(arrivals) if size == "small" else watch.seconds / count)
                costs[target].append(watch.cpu / count / uploads.body_bytes() * 1e9)
        # CPU time advances in steps that are longer than a small upload.
        average = statistics.mean if size == "small" else statistics.median
        for target in targets:
            table.row(f"upload of {name}: {target}", statistics.median(seconds[target]), "s")
            # Directly to the sink, the measured process is the client.
            who = "the client itself" if target == "directly to the sink" else target
            table.row(f"upload of {name}: {who}", average(costs[target]), "CPU s/GB")
        for what, of, middle in (("seconds", seconds, statistics.median), ("CPU", costs, average)):
            ratio = middle(of["gateway"]) / middle(of["nginx"])
            table.row(f"upload of {name}: {what} of nginx's", ratio, "x", 2.0 if size == "large" else None)
        if size == "small":
            commit = statistics.median(commits_ms)
            gateway, nginx = (statistics.median(seconds[target]) * 1000 for target in ("gateway", "nginx"))
            bound = nginx + commit + OWN_WORK_MS
            table.row(f"upload of {name}: a commit", commit, "ms")
            table.row(f"upload of {name}: beyond nginx", (gateway - nginx) / commit, "commits")
            table.row(f"upload of {name}: of nginx, a commit and {OWN_WORK_MS} ms ({bound:.2g} ms)", gateway / bound, "x", 1, key="upload")
    rig.close(keep=True)
    scratch.close()


def peak(table, at_once):
    scratch = Scratch("uploads")
    rig = scratch.gateway(scratch.upstream(*TINY_PICTURE), IMMEDIATE_POLLS, core=None)
    pid = rig.gateway.pid
    Uploads(scratch, (1, 1 * MB)).send(rig.port, rig.keys[0])
    time.sleep(0.5)
    idle = memory(pid)
    reset_peak(pid)
    uploads = Uploads(scratch, BIG)
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as threads:
        for upload in [threads.submit(uploads.send, rig.port, rig.keys[0]) for _ in range(at_once)]:
            upload.result()
    took = time.monotonic() - began
    above = memory(pid, "VmHWM") - idle
    table.row(f"{at_once} at once of 16 x 50 MB: peak memory above idle ({idle / MB:.0f} MB)", above / MB, "MB", MEMORY_AIMS[at_once] / MB)
    table.row(f"{at_once} at once of 16 x 50 MB: took", took, "s")
    rig.close(keep=True)
    scratch.close()


def main():
    arguments = parse_arguments(__doc__, "one short round, and the memory of one upload", (*SPEEDS, "memory"))
    prepare("nginx")
    table = Table()
    # A disk differs from second to second, so small uploads take turns one by one.
    for size, rounds in (("small", 50 if arguments.quick else 150), ("large", 1 if arguments.quick else 3)):
        if size in arguments.parts:
            speed(table, size, rounds, arguments.quick)
    if "memory" in arguments.parts:
        for at_once in (1,) if arguments.quick else MEMORY_AIMS:
            peak(table, at_once)
    sys.exit(table.close())


if __name__ == "__main__":
    main()
