#!/usr/bin/env python3
"""Big uploads at once into a gateway that the kernel gives 256 MB: none is lost, and nothing is killed.

The gateway runs in a memory cgroup of its own (version 1 or 2), page cache of its spool included, in front of an upstream
that throws bodies away and has each picture at once. First one, then eight forms with 16 pictures of 50 MB are sent at the
same time. Printed: the peak of the gateway's own memory (resident, above idle), the most that the cgroup was charged with,
how often the kernel killed in it, and how many uploads were answered.

Needs root, a memory cgroup that can be written, 12 GB of disk and target/release/gptproto-gateway. Exits 3 when an aim is
missed, and 0, saying so, where there is no such cgroup.

usage: tests/load/memory.py [--quick] [--limit-mb 256]
"""

import argparse
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure_kit import Scratch, Table, forget_peak, memory, prepare
from uploads import AT_ONCE, BIG, MB, TINY_PICTURE, Uploads

# What the gateway's resident memory may grow by, for so many uploads at once.
AIMS = {1: 64 * MB, 8: 160 * MB}
# Smaller uploads, as many at once: what counts is how many there are.
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
        # Where there is swap, it does not help.
        try:
            self.write("memory.memsw.limit_in_bytes" if self.version == 1 else "memory.swap.max", limit if self.version == 1 else 0)
        except OSError:
            pass

    def write(self, name, value):
        (self.folder / name).write_text(str(value))

    def command(self):
        """What a program is started through, to be in the cgroup from its first page on."""
        return ("sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh")

    def kills(self):
        text = (self.folder / ("memory.oom_control" if self.version == 1 else "memory.events")).read_text()
        found = re.search(r"^oom_kill (\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def most(self):
        """The most that was charged so far, in bytes; None where the kernel does not say."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        file = self.folder / name
        return int(file.read_text()) if file.exists() else None

    def close(self):
        # A process that has just ended may still be in it.
        for _ in range(50):
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.1)


def measure(table, cgroup, limit, pictures, at_once):
    scratch = Scratch("memory")
    world = scratch.gateway(scratch.upstream(*TINY_PICTURE), AT_ONCE, core=None)
    # Once more, in the cgroup: how long starting takes is no matter here.
    world.stop()
    world.launch(through=cgroup.command())
    world.wait_until_ready()
    pid = world.gateway.pid
    Uploads(scratch, (1, 1 * MB)).send(world.port, world.keys[0])
    time.sleep(0.5)
    idle = memory(pid)
    forget_peak(pid)
    uploads = Uploads(scratch, pictures)
    began = time.monotonic()
    answered = 0
    with ThreadPoolExecutor(at_once) as threads:
        for upload in [threads.submit(uploads.send, world.port, world.keys[0]) for _ in range(at_once)]:
            try:
                upload.result()
                answered += 1
            except (OSError, SystemExit) as problem:
                print(f"an upload was not answered: {problem}", file=sys.stderr)
    took = time.monotonic() - began
    alive = world.gateway.poll() is None
    name = f"{at_once} at once of {pictures[0]} x {pictures[1] // MB} MB in {limit // MB} MB"
    if alive:
        peak = memory(pid, "VmHWM") - idle
        table.row(f"{name}: peak above idle ({idle / MB:.0f} MB)", peak / MB, "MB", AIMS[at_once] / MB)
    most = cgroup.most()
    if most is not None:
        table.row(f"{name}: charged with its page cache, at most", most / MB, "MB")
    table.row(f"{name}: killed by the kernel", cgroup.kills() + (not alive), "times", 0)
    table.row(f"{name}: answered", answered, "uploads", at_once, at_least=True)
    table.row(f"{name}: took", took, "s")
    world.close(keep=False)
    scratch.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="pictures of 5 MB")
    parser.add_argument("--limit-mb", type=int, default=256, help="what the cgroup may hold")
    arguments = parser.parse_args()
    prepare()
    limit = arguments.limit_mb * MB
    table = Table()
    for at_once in AIMS:
        try:
            cgroup = Cgroup(limit)
        except OSError as problem:
            print(f"skipped: there is no memory cgroup that can be written: {problem}")
            sys.exit(0)
        try:
            measure(table, cgroup, limit, QUICK if arguments.quick else BIG, at_once)
        finally:
            cgroup.close()
    sys.exit(table.close())


if __name__ == "__main__":
    main()
