#!/usr/bin/env python3
"""What the gateway costs beside the parts that it is made of, in one table.

Each ratio is taken in one run with what it is divided by: bare servers on the same libraries (benches/bare), nginx, syncs of
the same disk. recorded.toml has the ratios of the newest published figures, for each way to build the program. A ratio above
1.5 times its recorded one is taken once more, and the lower counts; when that is above too, the run has failed. Ratios that
depend on how quick the disk is (syncs_many, added, upload) do not fail while they meet their aim.

  hit_cpu, hit_instructions     a hit of a 10 KB picture ÷ the bare server            hits.py small, instructions.py hit
  edit_cpu, edit_instructions   a whole edit ÷ the bare server with four client calls  edits.py most, instructions.py edit
  syncs_alone, syncs_many       syncs of an edit                                       syncs.py
  added                         p50 of added latency at 100 edits/s ÷ (3 syncs + 3 ms) edits.py added
  waiter                        memory of a waiting client ÷ the bare server           waiters.py
  upload                        1 MB ÷ (nginx + a commit + 1 ms)                       uploads.py small

The scripts at the right print more figures of the same measurement. Needs what they need: valgrind, strace, wrk, nginx, cargo,
two cores, and target/dist/gptproto-gateway or a program that BINARY names. Exit codes: 0, all aims are met; 1, a ratio is above
1.5 times its recorded one; 2, not carried out; 3, an aim is missed.

usage: tests/load/ratios.py [--quick] [--profile dist|release] [--record] [--recorded FILE] [RATIO]...
"""

import argparse
import asyncio
import json
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from lib.project import ROOT, give_up

# Ratios are published of the fully optimised program.
os.environ.setdefault("BINARY", str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "dist", "gptproto-gateway")))

import edits  # noqa: E402
import hits  # noqa: E402
import instructions  # noqa: E402
import syncs  # noqa: E402
import uploads  # noqa: E402
import waiters  # noqa: E402
from lib.bare import build_bare  # noqa: E402
from lib.callgrind import require_callgrind  # noqa: E402
from lib.measuring import BINARY, Table, build, prepare  # noqa: E402

RECORDED = Path(__file__).with_name("recorded.toml")
WORSE = 1.5


@dataclass
class Ratio:
    title: str
    unit: str
    aim: float | None
    # Measures it into a table, under the key of the ratio; short with True.
    measure: Callable[[Table, bool], None]
    # Whether it depends on how quick the disk is.
    disk: bool = False

    def bound(self, recorded):
        """Returns what it may be at most."""
        return max(WORSE * recorded, self.aim) if self.disk else WORSE * recorded


RATIOS = {
    "hit_cpu": Ratio("CPU of a hit of 10 KB / bare server", "x", 1.6, lambda table, quick: hits.small(table, *((2, 2) if quick else (5, 4)))),
    "hit_instructions": Ratio("instructions of that hit / bare server", "x", 1.7,
                              lambda table, quick: instructions.instructions(table, "hit", 100 if quick else 300)),
    "syncs_alone": Ratio("syncs of an edit, alone", "", 3, lambda table, quick: syncs.syncs(table, "alone", quick)),
    "syncs_many": Ratio("syncs of an edit, 300 under way", "", 1.2, lambda table, quick: syncs.syncs(table, "many", quick), disk=True),
    "edit_cpu": Ratio("CPU of an edit / bare server with four calls", "x", 1.6, lambda table, quick: edits.most(table, *((1, 8) if quick else (3, 15)))),
    "edit_instructions": Ratio("instructions of that edit / bare server", "x", None,
                               lambda table, quick: instructions.instructions(table, "edit", 100 if quick else 300)),
    "added": Ratio("added latency at 100/s, p50 / (3 syncs + 3 ms)", "x", 1, lambda table, quick: edits.added(table, 10 if quick else 60), disk=True),
    "waiter": Ratio("memory of a waiting client / bare server", "x", 1.5, lambda table, quick: waiter(table, 1000 if quick else 2000)),
    "upload": Ratio("1 MB upload / (nginx + a commit + 1 ms)", "x", 1, lambda table, quick: uploads.speed(table, "small", 50 if quick else 150, quick), disk=True),
}


def waiter(table, number):
    waiters.allow_descriptors(number)
    asyncio.run(waiters.step(table, number, 100.0))


def measure(key, quick, bound):
    """Returns a ratio; when it is above `bound`, the lower one of two measurements."""
    found = []
    for _ in range(2):
        table = Table()
        RATIOS[key].measure(table, quick)
        found.append(table.figures[key])
        if found[-1] <= bound:
            break
        print(f"! {key} is {found[-1]:.3g}, above {bound:.3g}", flush=True)
    return min(found)


def write(file, recorded):
    lines = file.read_text().splitlines() if file.exists() else []
    # The comment at the head.
    text = [line for line in lines if line.startswith("#")]
    for profile, figures in recorded.items():
        text += ["", f"[{profile}]", *(f"{key} = {json.dumps(figures[key])}" for key in RATIOS if key in figures)]
    file.write_text("\n".join(text) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short measurements, about four minutes")
    parser.add_argument("--profile", help="how the program was built; otherwise by the name of its folder, else dist")
    parser.add_argument("--record", action="store_true", help="write the measured ratios into the file of recorded ones")
    parser.add_argument("--recorded", type=Path, default=RECORDED, metavar="FILE", help="another file of recorded ratios")
    parser.add_argument("ratios", nargs="*", metavar="RATIO", choices=[[], *RATIOS], help="all of them, unless some are named")
    arguments = parser.parse_args()
    keys = [key for key in RATIOS if not arguments.ratios or key in arguments.ratios]
    prepare("nginx", "wrk")
    require_callgrind()
    syncs.require_strace()
    build_bare()
    recorded = tomllib.loads(arguments.recorded.read_text()) if arguments.recorded.exists() else {}
    profile = arguments.profile or (BINARY.parent.name if BINARY.parent.name in recorded else "dist")
    known = recorded.setdefault(profile, {})
    missing = [] if arguments.record else [key for key in keys if key not in known]
    if missing:
        give_up(f"[{profile}] of {arguments.recorded} has no {', '.join(missing)}: measure once with --record")

    measured, worse, missed = {}, [], []
    for key in keys:
        print(f"\n== {RATIOS[key].title}", flush=True)
        bound = float("inf") if arguments.record else RATIOS[key].bound(known[key])
        measured[key] = measure(key, arguments.quick, bound)
        if measured[key] > bound:
            worse.append(key)
        if RATIOS[key].aim is not None and measured[key] > RATIOS[key].aim:
            missed.append(key)
    print(f"\n{f'built as {profile}, {build()}':<52} {'recorded':>10} {'aim':>8} {'measured':>10}")
    for key in keys:
        ratio = RATIOS[key]
        before = f"{known[key]:.3g}" if key in known else "-"
        aim = f"<= {ratio.aim:g}" if ratio.aim is not None else "-"
        verdict = "WORSE" if key in worse else "MISS" if key in missed else "ok" if ratio.aim is not None else ""
        print(f"{ratio.title:<52} {before:>10} {aim:>8} {measured[key]:>10.3g} {ratio.unit:<2}{verdict}".rstrip())
    if arguments.record:
        known.update({key: float(f"{value:.3g}") for key, value in measured.items()})
        write(arguments.recorded, recorded)
        print(f"recorded in {arguments.recorded}")
    if worse:
        print(f"FAILED: above {WORSE} times the recorded ratio, in two measurements: {', '.join(worse)}")
        sys.exit(1)
    sys.exit(3 if missed else 0)


if __name__ == "__main__":
    main()
