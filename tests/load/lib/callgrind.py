"""Instructions of a process, counted by valgrind's callgrind.

A program runs uncounted and quickly until counting begins, and about fifty times slower than usual from then on. User
instructions only: the kernel's are not seen.
"""

import re
import shutil
import subprocess
from pathlib import Path

from lib.project import give_up

PACKAGES = {"valgrind": "valgrind", "callgrind_control": "valgrind", "callgrind_annotate": "valgrind"}


def require_callgrind():
    for program, package in PACKAGES.items():
        if not shutil.which(program):
            give_up(f"{program} is missing: apt-get install {package}")


def under_callgrind(folder, name):
    """Returns the command that executes a program so that its instructions can be counted."""
    return ("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/{name}.callgrind")


class Counting:
    """Counts the instructions of a process that was started by `under_callgrind`, from `zero` to `dump`."""

    def __init__(self, pid, folder, name):
        self.pid, self.file = pid, Path(folder, f"{name}.callgrind")
        self.control("--instr=on")

    def control(self, command):
        done = subprocess.run(["callgrind_control", command, str(self.pid)], capture_output=True, text=True, check=False)
        if done.returncode or "Error" in done.stdout + done.stderr:
            give_up(f"callgrind_control {command} failed:\n{done.stdout}{done.stderr}")

    def zero(self):
        self.control("--zero")

    def dump(self):
        """Returns the instructions since `zero`."""
        self.control("--dump")
        # The dump of a command has a number behind its name.
        self.dumped = max(self.file.parent.glob(f"{self.file.name}.*"), key=lambda file: file.stat().st_mtime)
        found = re.search(r"^(?:totals|summary): (\d+)", self.dumped.read_text(errors="replace"), re.MULTILINE)
        if not found:
            give_up(f"{self.dumped} has no total")
        return int(found[1])

    def tree(self, number, functions):
        """Returns the functions with the most instructions, callees included, for each of `number` requests.

        Left out: calls of a function by itself, which are counted several times, and the futures that only pass a poll on.
        """
        command = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--show-percs=no", str(self.dumped)]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        lines = []
        for line in listing.splitlines():
            found = re.match(r"\s*([\d,]+)\s+(?:\?\?\?|[^ ]*?):(.+?)(?: \[[^\]]*\])?$", line)
            if found and not re.search(r"'\d+$|Future>::poll$", found[2]):
                lines.append((int(found[1].replace(",", "")) / number, found[2]))
        return [f"{cost:>12,.0f}  {name[:150]}" for cost, name in sorted(lines, reverse=True)[:functions]]
