"""How long a commit takes on a disk while something else uses it.

A commit is 4 KB that are written in place and fdatasync, as in a write-ahead log that is used again from its beginning: the file
does not grow, so that the file system has nothing of its own to write.

As a program: makes commits in FOLDER, 25 a second at most, until its input ends; prints the times in ms as JSON. A process of
its own, because a thread would wait for the interpreter after each call.

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
PAGE = bytes(4096)
PAGES = 256


class CommitFile:
    """A file that is as large as it will be, without a name."""

    def __init__(self, folder):
        self.file = tempfile.TemporaryFile(dir=folder, buffering=0)
        self.file.write(PAGE * PAGES)
        os.fsync(self.file.fileno())
        self.page = 0

    def write_ms(self):
        """Makes a commit; returns how long it takes."""
        self.page = (self.page + 1) % PAGES
        began = time.monotonic()
        os.pwrite(self.file.fileno(), PAGE, self.page * len(PAGE))
        os.fdatasync(self.file.fileno())
        return (time.monotonic() - began) * 1000


class SyncTimes:
    """Measures commits beside what happens inside a `with`; `times_ms` is sorted afterwards."""

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
    file, taken = CommitFile(sys.argv[1]), []
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        taken.append(file.write_ms())
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
