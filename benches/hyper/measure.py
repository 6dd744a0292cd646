#!/usr/bin/env python3
"""What the patch of hyper in this folder saves, and what it costs: memory of clients that wait and of clients that are idle, and
instructions of a request.

Copies the hyper of Cargo.lock from cargo's registry, applies the patch, and builds the bare server (benches/bare) with each of
them. The servers then run in turn, on one core, with the same requests; memory is the median of three rounds. Nothing is changed
in the tree: all of it is made in target/hyper.

With --tests, runs hyper's own tests with the patch (those inside its library, which are all that its package has). With
--gateway, does the same with the gateway, which takes two whole builds; BINARY=FILE and PATCHED=FILE name programs that are built
already.

Needs cargo, patch, valgrind, two cores and 5,000 descriptors (ulimit -n).

usage: benches/hyper/measure.py [--tests] [--gateway] [--number N]
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "load"))

from lib.bare import Bare, build_bare  # noqa: E402
from lib.callgrind import Counting, require_callgrind, under_callgrind  # noqa: E402
from lib.http_client import connect  # noqa: E402
from lib.measuring import LOAD_CORE, Scratch, form, memory, raw_request  # noqa: E402
from lib.pictures import png  # noqa: E402
from lib.project import give_up  # noqa: E402
from lib.rig import call  # noqa: E402
from waiters import allow_descriptors  # noqa: E402

MADE = ROOT / "target" / "hyper"
SOURCE = MADE / "source"
PATCHED_BY = f"[patch.crates-io]\nhyper = {{ path = '{SOURCE}' }}\n"
ROUNDS = 3
COUNTED = 300
# For all requests to arrive.
PARKED_S = 60


def run(*command, folder=ROOT, **environment):
    if subprocess.run(list(map(str, command)), cwd=folder, env=os.environ | environment, check=False).returncode:
        give_up(f"failed: {' '.join(map(str, command))}")


def patch_source():
    """Copies hyper's source and applies the patch."""
    listed = subprocess.run(["cargo", "metadata", "--format-version", "1", "--locked"], cwd=ROOT, capture_output=True, text=True, check=True)
    hyper = next(package for package in json.loads(listed.stdout)["packages"] if package["name"] == "hyper")
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(Path(hyper["manifest_path"]).parent, SOURCE)
    run("patch", "--quiet", "--strip=1", f"--input={HERE / 'buffers.patch'}", folder=SOURCE)
    print(f"hyper {hyper['version']}, patched in {SOURCE}", flush=True)


def build_patched(files, copy, binary):
    """Builds a copy of some files of the tree with the patched hyper; returns the program."""
    for file in files:
        target = copy / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, target)
    manifest = copy / binary[0]
    manifest.write_text(manifest.read_text() + "\n" + PATCHED_BY)
    run("cargo", "build", "--quiet", "--profile", "dist", "--manifest-path", manifest, "--target-dir", copy / "target")
    return copy / "target" / "dist" / binary[1]


def tracked(*below):
    listed = subprocess.run(["git", "ls-files", "-z", *below], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


class Load:
    """Connections with the same request on each."""

    def __init__(self, port):
        body, headers = form([png("hyper", 16)], "a picture")
        self.request = raw_request("/v1/images/edits", body, headers)
        self.port, self.connections, self.answers = port, [], []

    async def send(self, number):
        for connection in [await connect(self.port) for _ in range(number)]:
            self.connections.append(connection)
            self.answers.append(connection.send(self.request))

    async def parked(self):
        until = time.monotonic() + PARKED_S
        while int(call(self.port, "GET", "/_parked")[2]) < len(self.connections):
            if time.monotonic() > until:
                give_up(f"not all of {len(self.connections)} requests are parked after {PARKED_S} s")
            await asyncio.sleep(0.1)

    def close(self):
        for connection in self.connections:
            connection.transport.close()


async def measure_memory(program, number):
    """Returns the resident bytes of a request that waits, and of its connection once it is answered and idle."""
    os.environ["BARE"] = str(program)
    scratch = Scratch("hyper")
    bare = Bare(scratch, "parked")
    before = memory(bare.pid)
    load = Load(bare.port)
    await load.send(number)
    await load.parked()
    waiting = memory(bare.pid)
    call(bare.port, "GET", "/_release")
    await asyncio.gather(*load.answers)
    await asyncio.sleep(1)
    idle = memory(bare.pid)
    load.close()
    scratch.close()
    return (waiting - before) / number, (idle - before) / number


def count_instructions(program):
    """Returns the instructions of a request that is answered at once, on a connection that is kept."""
    os.environ["BARE"] = str(program)
    scratch = Scratch("hyper")
    bare = Bare(scratch, "parked", through=under_callgrind(scratch.folder, "bare"))
    call(bare.port, "GET", "/_release")
    counting = Counting(bare.pid, scratch.folder, "bare")

    async def send(number):
        connection = await connect(bare.port)
        request = Load(bare.port).request
        for _ in range(number):
            await connection.send(request)
        connection.transport.close()

    asyncio.run(send(COUNTED // 4))
    counting.zero()
    asyncio.run(send(COUNTED))
    count = counting.dump() / COUNTED
    scratch.close()
    return count


def compare(programs, number):
    figures = {name: {"waiting": [], "idle": []} for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            waiting, idle = asyncio.run(measure_memory(program, number))
            figures[name]["waiting"].append(waiting)
            figures[name]["idle"].append(idle)
    print(f"\nbare server, {number:,} connections: KB resident of one")
    for name, program in programs.items():
        waiting, idle = (statistics.median(figures[name][what]) / 1000 for what in ("waiting", "idle"))
        print(f"  {name:<9} waits {waiting:5.1f}   idle after its answer {idle:5.1f}   instructions of a request {count_instructions(program):,.0f}")


def compare_gateways(number):
    released = Path(os.environ.get("BINARY", MADE / "released" / "dist" / "gptproto-gateway"))
    if "BINARY" not in os.environ:
        run("cargo", "build", "--quiet", "--locked", "--profile", "dist", "--target-dir", MADE / "released")
    patched = Path(os.environ["PATCHED"]) if "PATCHED" in os.environ else build_patched(
        tracked(), MADE / "gateway", ("Cargo.toml", "gptproto-gateway"))
    for name, program in (("released", released), ("patched", patched)):
        print(f"\ngateway, {name} hyper", flush=True)
        for script in (("waiters.py", str(number)), ("instructions.py", "hit")):
            # Exits 3 when an aim is missed, which is no failure here.
            subprocess.run([sys.executable, ROOT / "tests" / "load" / script[0], script[1]],
                           env=os.environ | {"BINARY": str(program)}, check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", action="store_true", help="run hyper's own tests with the patch")
    parser.add_argument("--gateway", action="store_true", help="measure the gateway too")
    parser.add_argument("--number", type=int, default=2000, help="connections (default 2000)")
    arguments = parser.parse_args()
    require_callgrind()
    for program in ("cargo", "patch"):
        if not shutil.which(program):
            give_up(f"{program} is missing")
    allow_descriptors(arguments.number)
    began = time.monotonic()
    patch_source()
    if arguments.tests:
        run("cargo", "test", "--quiet", "--lib", "--features", "full", "--target-dir", MADE / "tests", folder=SOURCE, RUST_BACKTRACE="0")
    os.environ.pop("BARE", None)
    programs = {"released": build_bare()}
    bare = build_patched(tracked("benches/bare"), MADE / "bare", ("benches/bare/Cargo.toml", "bare"))
    programs["patched"] = bare
    os.sched_setaffinity(0, {LOAD_CORE})
    compare(programs, arguments.number)
    os.environ.pop("BARE", None)
    if arguments.gateway:
        compare_gateways(arguments.number)
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
