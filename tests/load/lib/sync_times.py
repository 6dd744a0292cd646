"""How long a sync takes on a disk while something else uses it.

As a program: appends 4 KB to a file in FOLDER and calls fdatasync, some times a second, until its input ends; prints the times
in ms as JSON. A process of its own, because a thread would wait for the interpreter after each call.

usage: tests/load/lib/sync_times.py FOLDER
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAUSE_S = 0.04
WRITTEN = bytes(4096)


class SyncTimes:
    """Measures syncs beside what happens inside a `with`; `times_ms` is sorted afterwards."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        command = [sys.executable, Path(__file__), self.folder]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_):
        output, _ = self.process.communicate()
        self.times_ms = sorted(json.loads(output))

    def percentile(self, share):
        return self.times_ms[min(len(self.times_ms) - 1, int(len(self.times_ms) * share))]


def main():
    taken = []
    with tempfile.TemporaryFile(dir=sys.argv[1]) as file:
        while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            began = time.monotonic()
            os.write(file.fileno(), WRITTEN)
            os.fdatasync(file.fileno())
            taken.append((time.monotonic() - began) * 1000)
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
