"""The bare servers of benches/bare, started with what the gateway answered.

BARE=FILE names the program; otherwise cargo builds it, which takes a minute once.
"""

import os
import shutil
import subprocess

from lib.measuring import MEASURED_CORE, pinned
from lib.project import ROOT, give_up
from lib.rig import call, free_ports

FOLDER = ROOT / "benches" / "bare"


def build_bare():
    """Returns the program of the bare servers, which is built where BARE does not name it."""
    if "BARE" in os.environ:
        program = ROOT / os.environ["BARE"]
    else:
        if not shutil.which("cargo"):
            give_up("cargo is missing, which builds benches/bare; BARE=FILE names a program that is built already")
        # Beside the other builds, so that it is thrown away with them.
        target = ROOT / "target" / "bare"
        command = ["cargo", "build", "--quiet", "--locked", "--profile", "dist", "--manifest-path", FOLDER / "Cargo.toml", "--target-dir", target]
        if subprocess.run(command, check=False).returncode:
            give_up("benches/bare does not build")
        program = target / "dist" / "bare"
    if not program.exists():
        give_up(f"{program} is missing")
    return program


class Bare:
    """A bare server on the measured core: "hits", "edits" or "parked"."""

    def __init__(self, scratch, kind, options=(), through=()):
        self.port = free_ports(1)[0]
        command = [*through, build_bare(), kind, "--port", self.port, *options]
        self.pid = scratch.run(command, MEASURED_CORE, lambda: call(self.port, "GET", "/_parked", timeout=30)).pid


def answer_options(scratch, headers, answer):
    """Returns the options of a bare server that answers as the gateway did, with as many headers."""
    files = scratch.folder / "answer", scratch.folder / "answer-headers"
    files[0].write_bytes(answer)
    files[1].write_text("\n".join(f"{name}: {value}" for name, value in headers.items()))
    return "--answer", files[0], "--headers", files[1]
