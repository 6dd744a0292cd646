#!/usr/bin/env python3
"""Large uploads, and large answers of the upstream, into 256 MB of memory: all are answered, and the kernel kills nothing.

The gateway runs in a memory cgroup of its own (version 1 or 2), which includes the page cache of its spool, in front of an
upstream that discards bodies and has each picture at once. First one, then eight forms with 16 pictures of 50 MB are sent at
the same time. Prints the peak of the gateway's resident memory above idle, the peak charge of the cgroup, the number of kills
by the kernel, and how many uploads were answered. Then 32 purchases at once, of which each is polled three times with an answer
of 16 MB before it is done: small values, one long text, or a damaged picture.

Needs root, a writable memory cgroup, 12 GB of disk and target/release/gptproto-gateway. Exits 3 when an aim is missed, and
with a message and 0 where there is no such cgroup.

usage: tests/load/memory.py [--quick] [--answers] [--limit-mb 256]
"""

import argparse
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lib.measuring import Scratch, Table, form, memory, prepare, reset_peak
from lib.quick_upstream import Pictures
from lib.rig import call
from lib.uploads import BIG, IMMEDIATE_POLLS, MB, MEMORY_AIMS, TINY_PICTURE, Uploads

# Purchases at once whose polls are answered with megabytes, and what resident memory may grow by. The text is refused on the
# way. One picture is received at once: as it arrives, as a value, decoded and written, with four that are smaller.
PURCHASES = 32
ANSWERS_AIMS = {"values": 32 * MB, "text": 96 * MB, "picture": 208 * MB}
# Smaller uploads, as many at once.
QUICK = (16, 5 * MB)


class Cgroup:
    """A memory cgroup with a limit, for one process."""

    def __init__(self, limit):
        name = f"gateway-memory-{os.getpid()}"
        first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
        self.version = 1 if (first / "memory.limit_in_bytes").exists() or (first / "cgroup.procs").exists() else 2
        self.folder = (first if self.version == 1 else second) / name
        self.folder.mkdir()
        try:
            self.write("memory.limit_in_bytes" if self.version == 1 else "memory.max", limit)
        except OSError:
            self.folder.rmdir()
            raise
        # Swap must not help.
        try:
            self.write("memory.memsw.limit_in_bytes" if self.version == 1 else "memory.swap.max", limit if self.version == 1 else 0)
        except OSError:
            pass

    def write(self, name, value):
        (self.folder / name).write_text(str(value))

    def command(self):
        """Returns a command that executes another one inside the cgroup."""
        return ("sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh")

    def kills(self):
        text = (self.folder / ("memory.oom_control" if self.version == 1 else "memory.events")).read_text()
        found = re.search(r"^oom_kill (\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def peak(self):
        """Returns the peak charge in bytes, or None where the kernel does not report it."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        file = self.folder / name
        return int(file.read_text()) if file.exists() else None

    def close(self):
        # A process that has just ended may still be in the cgroup.
        for _ in range(50):
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.1)


def measure(table, cgroup, limit, pictures, at_once):
    scratch = Scratch("memory")
    rig = scratch.gateway(scratch.upstream(*TINY_PICTURE), IMMEDIATE_POLLS, core=None)
    # Started again, inside the cgroup.
    rig.stop()
    rig.launch(through=cgroup.command())
    rig.wait_until_ready()
    pid = rig.gateway.pid
    Uploads(scratch, (1, 1 * MB)).send(rig.port, rig.keys[0])
    time.sleep(0.5)
    idle = memory(pid)
    reset_peak(pid)
    uploads = Uploads(scratch, pictures)
    began = time.monotonic()
    answered = 0
    with ThreadPoolExecutor(at_once) as threads:
        for upload in [threads.submit(uploads.send, rig.port, rig.keys[0]) for _ in range(at_once)]:
            try:
                upload.result()
                answered += 1
            except (OSError, SystemExit) as problem:
                print(f"an upload was not answered: {problem}", file=sys.stderr)
    took = time.monotonic() - began
    alive = rig.gateway.poll() is None
    name = f"{at_once} at once of {pictures[0]} x {pictures[1] // MB} MB in {limit // MB} MB"
    if alive:
        peak = memory(pid, "VmHWM") - idle
        table.row(f"{name}: peak above idle ({idle / MB:.0f} MB)", peak / MB, "MB", MEMORY_AIMS[at_once] / MB)
    charged = cgroup.peak()
    if charged is not None:
        table.row(f"{name}: charged with its page cache, at most", charged / MB, "MB")
    table.row(f"{name}: killed by the kernel", cgroup.kills() + (not alive), "times", 0)
    table.row(f"{name}: answered", answered, "uploads", at_once, at_least=True)
    table.row(f"{name}: took", took, "s")
    rig.close(keep=False)
    scratch.close()


def measure_answers(table, cgroup, limit, kind):
    scratch = Scratch("memory")
    rig = scratch.gateway(scratch.upstream(*TINY_PICTURE, "--heavy", kind), IMMEDIATE_POLLS, core=None)
    rig.stop()
    rig.launch(through=cgroup.command())
    rig.wait_until_ready()
    pid = rig.gateway.pid
    idle = memory(pid)
    reset_peak(pid)

    def buy(number):
        body, headers = form([Pictures(1000).of(b"%032d" % number)], f"purchase {number}")
        try:
            headers |= {"Authorization": f"Bearer {rig.keys[0]}"}
            status, _, data = call(rig.port, "POST", "/v1/images/edits", body, headers, timeout=300)
        except OSError as problem:
            status, data = 0, str(problem)
        if status != 200:
            print(f"a purchase was answered with {status}: {data[:200]}", file=sys.stderr)
        return status == 200

    began = time.monotonic()
    with ThreadPoolExecutor(PURCHASES) as threads:
        answered = sum(threads.map(buy, range(PURCHASES)))
    took = time.monotonic() - began
    name = f"{PURCHASES} purchases, polls of 16 MB of {kind} in {limit // MB} MB"
    alive = rig.gateway.poll() is None
    if alive:
        table.row(f"{name}: peak above idle ({idle / MB:.0f} MB)", (memory(pid, "VmHWM") - idle) / MB, "MB", ANSWERS_AIMS[kind] / MB)
    table.row(f"{name}: killed by the kernel", cgroup.kills() + (not alive), "times", 0)
    table.row(f"{name}: answered", answered, "purchases", PURCHASES, at_least=True)
    table.row(f"{name}: took", took, "s")
    rig.close(keep=False)
    scratch.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="pictures of 5 MB")
    parser.add_argument("--answers", action="store_true", help="answers of the upstream alone")
    parser.add_argument("--limit-mb", type=int, default=256, help="the limit of the cgroup")
    arguments = parser.parse_args()
    prepare()
    limit = arguments.limit_mb * MB
    table = Table()
    pictures = QUICK if arguments.quick else BIG
    uploads = [] if arguments.answers else [(measure, pictures, at_once) for at_once in MEMORY_AIMS]
    for run, *details in uploads + [(measure_answers, kind) for kind in ANSWERS_AIMS]:
        try:
            cgroup = Cgroup(limit)
        except OSError as problem:
            print(f"skipped: there is no memory cgroup that can be written: {problem}")
            sys.exit(0)
        try:
            run(table, cgroup, limit, *details)
        finally:
            cgroup.close()
    sys.exit(table.close())


if __name__ == "__main__":
    main()
