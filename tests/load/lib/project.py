"""Where the project and the program under test are."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def give_up(problem):
    """Ends the script with exit code 2: the test could not be carried out, which is no verdict."""
    print(problem, file=sys.stderr)
    sys.exit(2)


def release_binary():
    """Returns the program that BINARY names, or the release build. A debug build's figures would say nothing."""
    return ROOT / os.environ.get("BINARY", _TARGET / "release" / "gptproto-gateway")


def any_binary():
    """Returns the program that BINARY names, the release build, or the debug build where there is no other."""
    binary = release_binary()
    debug = _TARGET / "debug" / "gptproto-gateway"
    return debug if "BINARY" not in os.environ and not binary.exists() and debug.exists() else binary


def require(binary):
    """Gives up when the program is missing."""
    if not binary.exists():
        profile = binary.parent.name if binary.parent.name in ("release", "dist") else "release"
        give_up(f"{binary} is missing: run cargo build --profile {profile}, or name a program with BINARY=FILE")
