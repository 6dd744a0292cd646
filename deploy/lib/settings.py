"""The gateway's configuration as config/default.toml has it, and the variables of a container held to it."""

import difflib
import re
import tomllib
from pathlib import Path

from verdicts import Wrong

TOP = Path(__file__).resolve().parents[2]
TEXT = (TOP / "config/default.toml").read_text()
DEFAULTS = tomllib.loads(TEXT)
# Variables that are no keys: the comments at the head of the file list them.
OWN_VARIABLES = set(re.findall(r"\b(?:GPTPROTO|GATEWAY)(?:_[A-Z]+)+\b(?!__)", TEXT.split("[server]")[0])) | {"GATEWAY_CONFIG"}
# Those of the tracing libraries have names that OpenTelemetry gave them.
FOREIGN = re.compile(r"OTEL_[A-Z_]+|RUST_(LOG|BACKTRACE)|TZ")


def key_of(variable):
    """`GATEWAY_SERVER__LISTEN` is ("server", "listen")."""
    section, _, key = variable.removeprefix("GATEWAY_").partition("__")
    return section.lower(), key.lower()


def check_variables(variables):
    """Raises Wrong for a variable that the gateway does not know, or a number that is none."""
    for name, value in variables.items():
        if name in OWN_VARIABLES or FOREIGN.fullmatch(name):
            continue
        section, key = key_of(name)
        if not name.startswith("GATEWAY_") or key not in DEFAULTS.get(section, {}):
            known = [f"GATEWAY_{part}__{entry}".upper() for part, entries in DEFAULTS.items() for entry in entries]
            near = difflib.get_close_matches(name, known + sorted(OWN_VARIABLES), 1)
            raise Wrong(f"{name} is no variable of the gateway" + (f"; {near[0]} is" if near else ""))
        if isinstance(DEFAULTS[section][key], int | float) and not re.fullmatch(r"\d+(\.\d+)?", value):
            raise Wrong(f"{name}={value} is no number")
    return f"{len(variables)} known"


def setting(variables, section, key):
    """Returns the value that is in force, as text."""
    return variables.get(f"GATEWAY_{section}__{key}".upper(), str(DEFAULTS[section][key]))
