#!/usr/bin/env python3
"""Two binaries of the gateway beside each other, in one run.

Runs measurements in turn with the one and the other binary, so that a machine that becomes slower or faster meets both, and
prints for each figure of the gateway both medians and their ratio. Differences below a tenth are noise on most machines.

  small   hits of 10 KB (hits.py --quick small)
  most    complete edits, as many as one core makes (edits.py --quick most)
  added   latency of complete edits at 100 a second (edits.py --quick added)

Needs what these scripts need.

usage: tests/load/compare.py BEFORE AFTER [--rounds N] [small|most|added]...
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

SCRIPTS = {"small": ["hits.py", "small"], "most": ["edits.py", "most"], "added": ["edits.py", "added"]}
# A figure: its name, at least two spaces, a number and its unit; an aim may follow.
FIGURE = re.compile(r"^(?P<name>(?:hits|most|added)\b.*?)\s{2,}(?P<value>[\d,.]+) (?P<unit>.*?)(?:\s{2,}aim.*)?$")
OTHERS = ("nginx", "bare server", "itself", "client and upstream", "edits measured", "sync")


def figures(measurement: str, binary: Path) -> dict[str, float]:
    script, setting = SCRIPTS[measurement]
    command = [sys.executable, str(Path(__file__).parent / script), "--quick", setting]
    run = subprocess.run(command, env={**os.environ, "BINARY": str(binary)}, capture_output=True, text=True)
    # Exit status 3: an aim is missed, which is for the other script to say.
    if run.returncode not in (0, 3):
        sys.exit(f"{' '.join(command)} with {binary} failed:\n{run.stdout}{run.stderr}")
    found = (FIGURE.match(line) for line in run.stdout.splitlines())
    named = [match for match in found if match and not any(other in match["name"] for other in OTHERS)]
    return {f"{match['name']}, {match['unit']}": float(match["value"].replace(",", "")) for match in named}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("measurements", nargs="*", metavar="small|most|added")
    arguments = parser.parse_args()
    unknown = set(arguments.measurements) - set(SCRIPTS)
    if unknown:
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}; there are {', '.join(SCRIPTS)}")
    binaries = (arguments.before.resolve(), arguments.after.resolve())
    print(f"{'median of ' + str(arguments.rounds):<58}{'before':>12}{'after':>12}{'after/before':>14}")
    for measurement in arguments.measurements or SCRIPTS:
        seen: dict[str, tuple[list[float], list[float]]] = {}
        for _ in range(arguments.rounds):
            for side, binary in enumerate(binaries):
                for name, value in figures(measurement, binary).items():
                    seen.setdefault(name, ([], []))[side].append(value)
        for name, (before, after) in seen.items():
            medians = statistics.median(before), statistics.median(after)
            ratio = medians[1] / medians[0] if medians[0] else float("nan")
            print(f"{name:<58}{medians[0]:>12,.4g}{medians[1]:>12,.4g}{ratio:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
